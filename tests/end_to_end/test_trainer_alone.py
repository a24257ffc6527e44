"""The built wheel with the extra `trainer`, in an environment of its own: what a GPU machine that only trains has."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/0.1.0/project.tar.xz"
UNREACHABLE = re.compile(r"error sending request|failed to (fetch|download)|dns error|network connectivity", re.I)

EVERY_MODULE = """
import importlib, importlib.util, pkgutil
import store, trainer, words
for package in store, trainer, words:
    assert "site-packages" in package.__file__, package.__file__
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
print(*(name for name in ("dask", "distributed", "nltk", "gradio", "pandas") if importlib.util.find_spec(name)))
"""


def run(*command: str | Path, folder: Path) -> str:
    """stdout; a test is skipped where the package index cannot be reached."""
    # No PYTHONPATH, no settings of the environment that runs the tests.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1][:200]}")
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has `.[trainer]` and nothing else."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("no uv here; `make .venv/ready-dev` brings it")
    folder = tmp_path_factory.mktemp("alone")
    # setuptools leaves build/ in the source's folder; the tests leave nothing there.
    source = folder / "source"
    listed = run("git", "ls-files", "-z", folder=ROOT) if (ROOT / ".git").exists() else None
    if listed is None:
        pytest.skip("not a checkout of git: what belongs to the source is not known")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    run(uv, "build", "--quiet", "--wheel", "--out-dir", folder, source, folder=folder)
    (wheel,) = folder.glob("chatpainter-*.whl")
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "env", folder=folder)
    python = folder / "env/bin/python"
    install = ["install", "--quiet", "--python", str(python), "--constraint", str(ROOT / "constraints.txt")]
    run(uv, "pip", *install, f"{wheel}[trainer]", folder=folder)
    return python.parent


def test_every_module_of_a_training_machine_is_imported(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "python", "-c", EVERY_MODULE, folder=tmp_path).split() == []


def test_it_trains(installed: Path, tmp_path: Path) -> None:
    with tarfile.open(GOLDEN) as packed:
        packed.extractall(tmp_path, filter="data")
    shutil.rmtree(tmp_path / "runs")
    said = run(installed / "chatpainter-train", "stage1", "--images-seen", "8", "--device", "cpu", folder=tmp_path)
    assert "held-out distance" in said
    assert (tmp_path / "runs/stage1/generator.safetensors").is_file()
