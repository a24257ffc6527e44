# Two commands for newcomers: `make repro` (from nothing to painted pictures) and `make test`.
# Both build their own .venv, and do only what is left to do.
PYTHON ?= python3
BIN := .venv/bin
# Byte code is written: where PYTHONDONTWRITEBYTECODE is set (containers), every process of a run or a test would compile
# the project anew (0.4 s), and torch's modules too (2 s) but for --compile-bytecode.
unexport PYTHONDONTWRITEBYTECODE
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt
# One torch thread a test process: two processes share the cores, and results do not depend on their number.
# Files in their order: those that take longest (tests/docs, tests/end_to_end) begin, and nobody waits for them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
MANIFESTS := setup.cfg pyproject.toml constraints.txt

.PHONY: repro test test-slow test-random lint evidence docs demo-model clean lock

repro: .venv/ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
	@$(BIN)/python -m trainer.evaluation.expected expected.yaml
	@$(BIN)/python -m pipeline.locked
	@echo
	@echo "Painted pictures:  runs/stage2/grids/  and  runs/evaluate/gallery.html"
	@echo "Paint your own:    $(BIN)/chatpainter-paint \"there is a large red circle in the top left with one other object\" -o mine.png"
	@echo "The figures again: $(BIN)/dvc metrics show,  $(BIN)/dvc plots show,  $(BIN)/dvc dag"

test: .venv/ready-dev lint
	$(PYTEST) -m "not slow" --durations=15

test-slow: .venv/ready-dev
	$(PYTEST) -m slow

# Properties on random examples, many more than in `make test`. The seed is printed: SEED=... tries it again.
test-random: SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))
test-random: .venv/ready-dev
	@echo "make test-random SEED=$(SEED)"
	$(PYTEST) -m "hypothesis and not slow" --hypothesis-profile=random --hypothesis-seed=$(SEED) --timeout 3600

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Does dialogue help? Three arms, three seeds, ablations, the published recipe: about an hour on two cores; continues
# where it stopped.
evidence: .venv/ready
	$(BIN)/python -m evidence evidence/cpu.yaml --jobs 2

# The documents as a site, in site/: searchable, strict about links, with the public classes and functions.
docs: $(BIN)/uv $(MANIFESTS)
	$(UV) --editable '.[docs]'
	$(BIN)/mkdocs build --strict

# The model that ships with the package, painter/demo/, made anew from what `make repro` left; its golden picture too.
demo-model: RUN := $(or $(RUN),runs/stage2)
demo-model: .venv/ready
	$(BIN)/python -m painter.shipped --run $(RUN)

# uv installs torch and its CUDA libraries in half a minute where pip takes several.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit("ChatPainter needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"

.venv/ready: $(BIN)/uv $(MANIFESTS)
	$(UV) --editable '.[pipeline,trainer,metrics,painter,evidence,dvc]'
	@touch $@

.venv/ready-dev: $(BIN)/uv $(MANIFESTS)
	$(UV) --editable '.[dev]'
	@touch $@ .venv/ready

# What was tested: every version, for Python 3.11 to 3.13 and every platform.
lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --upgrade --universal --python-version 3.11 --all-extras setup.cfg -o constraints.txt

clean:
	rm -rf data/raw/sample data/corpus data/untrained data/embeddings data/images runs
