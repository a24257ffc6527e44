"""docs/extending.md, carried out: its files and changes in a copy of the project, then used as the document says."""

import ast
import collections
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from store import Store
from store.jpeg import open_images
from tests.support import documents
from tests.support.stores import write_training_stores

DOCUMENT = documents.ROOT / "docs" / "extending.md"
PREPARE, EMBED = (f"from pipeline.{name}_cli import main; main()" for name in ("prepare", "embed"))
FLOWERS = [("a.png", "a red  rose"), ("b/c.png", "Zwei Tulpen"), ("a.png", "one flower, cut")]


class Tree:
    """A copy of the project with all that the document adds, and a folder to work in."""

    def __init__(self, path: Path, work: Path, new: list[Path]) -> None:
        self.path, self.work, self.new = path, work, new

    def run(self, *arguments: str, fails: bool = False, folder: Path | None = None) -> str:
        """What a Python process with this project printed."""
        status, said = documents.python(self.path, *arguments, folder=folder or self.work)
        assert (status != 0) == fails, said
        return said


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    path, work = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("work")
    documents.copy_of_the_project(path)
    new = documents.write(DOCUMENT, path)
    documents.install(path)
    return Tree(path, work, new)


def params(work: Path, **sections: Any) -> None:
    values = yaml.safe_load((documents.ROOT / "params.yaml").read_text(encoding="utf-8"))
    (work / "params.yaml").write_text(yaml.safe_dump({**values, **sections}), encoding="utf-8")


def test_the_code_is_as_clean_as_the_rest(tree: Tree) -> None:
    files = [str(path) for path in tree.new if "encoders" not in path.name]
    assert len(files) == 5
    for command in (["check"], ["format", "--check"]):
        tree.run("-m", "ruff", *command, "--no-cache", *files, folder=tree.path)


def lines_of_code(source: str) -> int:
    """Without imports, docstrings, comments and empty lines."""
    passed_over: list[ast.stmt] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            passed_over.append(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            passed_over.append(node.body[0])
    numbers = {number for one in passed_over for number in range(one.lineno, (one.end_lineno or one.lineno) + 1)}
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.split("#")[0].strip()) and number not in numbers for number, line in lines)


def test_a_system_can_be_as_small_as_the_document_says() -> None:
    files = [code for name, code in documents.blocks(DOCUMENT, "python") if "regression" in name]
    assert len(files) == 2
    assert sum(map(lines_of_code, files)) < 60


def test_the_system_keeps_the_contract(tree: Tree) -> None:
    said = tree.run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tree.path)),
        *("-c", str(tree.path / "pyproject.toml")),
        *("-k", "regression", str(tree.path / "tests/trainer/systems/test_contract.py")),
    )  # fmt: skip
    assert " passed" in said
    assert " skipped" not in said


@pytest.fixture(scope="module")
def trained(tree: Tree) -> Path:
    """The system trained by its command in one go; the data lie in the work folder."""
    for split, seed in (("train", 0), ("val", 1)):
        write_training_stores(tree.work / "data", split, images=20, rounds=(3, 1, 2), seed=seed)
    short = {"epochs": None, "images": 48, "batch": 8, "log_every": 8, "checkpoint_every": 16, "grid_every": 16}
    params(tree.work, regression=short)
    tree.run("-m", "trainer.cli", "regression", "--log", "tensorboard")
    return tree.work / "runs" / "regression"


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_system_trains_by_its_command(tree: Tree, trained: Path) -> None:
    found = losses(trained)
    assert len(found) == 6
    assert found[-1] < found[0]
    assert len(list((trained / "grids").glob("*.png"))) == 3
    said = tree.run("-m", "trainer.cli", "regression", "--dry-run")
    assert f"generator: {(12 + 10 + 4 + 1) * 3 * 64 * 64:,} parameters" in said
    assert "reads: captions (12), turns (up to 3 x 10), images (76 x 76 x 3)" in said


def test_interrupted_in_the_middle_it_ends_at_the_same_bits(tree: Tree, trained: Path) -> None:
    command = ["-m", "trainer.cli", "regression", "--log", "tensorboard", "--run", "runs/again"]
    tree.run(*command, "--steps", "3")
    assert "continuing from" in tree.run(*command)
    again = tree.work / "runs" / "again"
    assert losses(again) == losses(trained)
    names = "generator.safetensors", "generator-best.safetensors"
    assert [(again / name).read_bytes() for name in names] == [(trained / name).read_bytes() for name in names]


def test_an_unknown_key_of_the_system_is_named(tree: Tree, trained: Path) -> None:
    (tree.work / "wrong.yaml").write_text("splits: [train]\nregression: {raet: 1}\n", encoding="utf-8")
    said = tree.run("-m", "trainer.cli", "regression", "--params", "wrong.yaml", fails=True)
    assert said == "Error: wrong.yaml: regression: unknown key 'raet'; did you mean 'rate'?\n"


def test_the_saved_generator_paints(tree: Tree, trained: Path) -> None:
    code = """
import torch
from safetensors.torch import load_file
from trainer import generator_file
g = generator_file.load("runs/regression/generator.safetensors")
texts = {"captions": torch.ones(2, 12), "turns": torch.ones(2, 3, 10), "turns.length": torch.tensor([3, 0])}
texts["turns"][1] = 0
painted = g.paint(texts, torch.zeros(2, 4))
# By hand: the mean of three turns of ones is ones; of no turns, zeros.
w = load_file("runs/regression/generator.safetensors")
x = torch.cat([torch.ones(2, 12), torch.tensor([[1.0], [0.0]]).expand(2, 10), torch.zeros(2, 4)], 1)
expected = (x @ w["layer.weight"].T + w["layer.bias"]).tanh().view(2, 3, 64, 64)
torch.testing.assert_close(painted, {64: expected})
print(g.settings["system"], g.settings["images_seen"])
"""
    assert tree.run("-c", code) == "regression 48\n"


@pytest.fixture(scope="module")
def flowers(tree: Tree) -> Path:
    """The table, its pictures, and what the commands of the document made of them."""
    pictures = tree.work / "data/raw/sample/images/flowers"
    (pictures / "b").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b/c.png")):
        Image.new("RGB", (90, 80), (200, 100 * number, 30)).save(pictures / name)
    with (tree.work / "flowers.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "text"), *FLOWERS])
    params(tree.work, encoders={"captions": "bag-of-letters"}, splits=["flowers"])
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Add a corpus")[2]
    commands = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert len(commands) == 3
    for command in commands:
        program, *arguments = command.split()
        more = ["--scheduler", "sync"] if program == "chatpainter-embed" else ["--workers", "1"] * ("images" in command)
        tree.run("-c", PREPARE if program == "chatpainter-prepare" else EMBED, *arguments, *more)
    return tree.work / "data"


def test_the_corpus_has_a_row_an_image(flowers: Path) -> None:
    rows = pq.read_table(flowers / "corpus/flowers.parquet").to_pylist()
    assert [(row["image_id"], row["file_name"], row["rounds"]) for row in rows] == [
        (0, "a.png", []),
        (1, "b/c.png", []),
    ]
    assert [[caption["text"] for caption in row["captions"]] for row in rows] == [
        ["a red rose", "one flower, cut"],
        ["Zwei Tulpen"],
    ]


def test_the_corpus_becomes_stores(flowers: Path) -> None:
    store = open_images(flowers / "images/flowers/76")
    assert store.column("image_id").tolist() == [0, 1]
    np.testing.assert_array_equal(store.take(np.array([0, 1]))[:, 38, 38], [(200, 0, 30), (200, 100, 30)])
    assert not (flowers / "embeddings/flowers/turns").exists()


def letters(text: str) -> list[int]:
    counted = collections.Counter(text.lower())
    return [counted[chr(ord("a") + number)] for number in range(26)]


def test_the_encoder_by_its_name_and_by_a_module_of_ones_own(tree: Tree, flowers: Path) -> None:
    store = Store(flowers / "embeddings/flowers/captions")
    expected = np.array([letters(text) for text in ("a red rose", "one flower, cut", "Zwei Tulpen")])
    np.testing.assert_array_equal(store.take(np.arange(3)), expected)
    assert store.identity["encoder"] == {"name": "bag-of-letters", "version": 1, "trained": True, "weights": {}}
    assert store.manifest.counts["unknown"] == 1  # the comma
    assert store.manifest.counts["tokens"] == sum(len("".join(text.split())) for _, text in FLOWERS)
    command = ["-c", EMBED, "--split", "flowers", "--kind", "captions", "--scheduler", "sync"]
    shutil.copy(tree.path / "my_encoders.py", tree.work)
    tree.run(*command, "--encoders", "my_encoders", "--out", "elsewhere")
    again = Store(tree.work / "elsewhere/flowers/captions")
    np.testing.assert_array_equal(again.take(np.arange(3)), expected)


def test_a_line_of_the_table_that_lacks_a_text_is_named(tree: Tree) -> None:
    (tree.work / "half.csv").write_text("file,text\na.png,a rose\nb.png,\n", encoding="utf-8")
    said = tree.run("-c", PREPARE, "described", "half.csv", "--split", "half", fails=True)
    assert said == "Error: half.csv, line 3: needs a file and a text; write them or remove it\n"
    assert not (tree.work / "data/corpus/half.parquet").exists()


def test_the_metric_is_written_with_its_protocol(tree: Tree, trained: Path) -> None:
    params(tree.work, evaluate={"split": "val", "batch": 7, "gallery": 0}, raw="data/raw/nothing")
    tree.run("-m", "trainer.evaluation.cli", "--run", "runs/regression", "--device", "cpu")
    metrics = json.loads((tree.work / "runs/evaluate/metrics.json").read_text(encoding="utf-8"))
    figures = {figure["name"]: figure for figure in metrics["figures"]}
    assert metrics["picture_contrast"] > 0
    assert figures["picture_contrast"]["pictures"] == 20
    assert "BT.601" in figures["real64_contrast"]["protocol"]
    # The real pictures, read off the store by hand: the middle 64 of 76 pixels.
    store = open_images(tree.work / "data/images/val/76")
    pixels = store.take(np.arange(20))[:, 6:70, 6:70].astype(float)
    luma = 0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2]
    assert metrics["real64_contrast"] == pytest.approx(luma.reshape(20, -1).std(1).mean(), abs=1e-4)
