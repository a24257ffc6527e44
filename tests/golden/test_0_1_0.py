"""What 0.1.0 wrote is read, painted with and continued: files of that version, and what it made of them."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from pipeline.corpora import corpus
from pipeline.embed_cli import main as embed
from store import Store
from store.jpeg import open_images
from store.verify import verify_store
from tests.support.same import assert_same

HERE = Path(__file__).parent / "0.1.0"
SPLITS = {"train": (4, 20, 40), "val": (2, 10, 20)}  # images, captions, rounds
CHECKPOINT = Path("runs/stage1/checkpoints/images-000000000400.pt")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The folder that 0.1.0 left, as the current one."""
    with tarfile.open(HERE / "project.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def expected(project):
    """What 0.1.0 read from the stores and painted, by name."""
    with np.load("expected.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("split", SPLITS)
def test_corpora_and_stores_hold_what_0_1_0_put_into_them(project, expected, split):
    images, captions, rounds = SPLITS[split]
    rows = list(corpus.rows(corpus.read(f"data/corpus/{split}.parquet")))
    assert len(rows) == images
    assert sum(len(row.captions) for row in rows) == captions
    assert sum(len(row.rounds) for row in rows) == rounds
    for kind, count in ("captions", captions), ("turns", rounds):
        path = Path("data/embeddings") / split / kind
        verify_store(path)
        store = Store(path)
        assert_same(np.asarray(store.take(np.arange(count))), expected[f"{split}_{kind}"], kind)
    pictures = open_images(Path("data/images") / split / "38")
    assert_same(np.asarray(pictures.take(pictures.column("row"))), expected[f"{split}_pictures"], "pictures")


def test_vectors_of_0_1_0_are_kept_and_sealed(project, expected):
    folder = Path("data/embeddings/train")
    before = {kind: (folder / kind / "vectors-00000.h5").read_bytes() for kind in ("captions", "turns")}
    assert "seal" not in json.loads((folder / "turns/manifest.json").read_text())
    options = ["--split", "train", "--scheduler", "sync", "--kind", "captions", "--kind", "turns"]
    done = CliRunner().invoke(embed, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.output.count("1 shards, 1 kept") == 2
    assert {kind: (folder / kind / "vectors-00000.h5").read_bytes() for kind in before} == before
    for kind in before:
        assert "seal" in json.loads((folder / kind / "manifest.json").read_text())
        verify_store(folder / kind)


def test_a_generator_of_0_1_0_paints_the_same_words_alike(project, expected):
    from painter.painter import Painter

    painter = Painter.from_run("runs/stage1")
    rounds = [("what is the ground like", "stone")]
    pictures = painter.paint("there is one small object and one large object", rounds, n=4, seed=3)
    apart = np.abs(pictures.astype(int) - expected["painted"].astype(int))
    assert apart.max() <= 1  # another processor may round otherwise
    assert (expected["painted"][0] != expected["painted"][1]).any()


def test_a_checkpoint_of_0_1_0_is_continued(project):
    from trainer.cli import main as train

    generator = Path("runs/stage1/generator.safetensors").read_bytes()
    old = torch.load(CHECKPOINT, weights_only=True)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["stage1"].update(images=408, checkpoint_every=4)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    done = CliRunner().invoke(train, ["stage1", "--device", "cpu", "--log", "dvclive"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"continuing from {CHECKPOINT}" in done.output
    new = torch.load(CHECKPOINT.with_name("images-000000000408.pt"), weights_only=True)
    assert new["images_seen"] == 408
    assert Path("runs/stage1/generator.safetensors").read_bytes() != generator
    steps = [set(_steps(state)) for state in (old["players"], new["trainable"])]
    assert steps == [{100.0}, {102.0}]  # Adam went on counting: 4 pictures a step


def _steps(networks):
    """The number of Adam's steps, as it stands with every parameter of both optimizers."""
    for name in "g_optimizer", "d_optimizer":
        yield from (float(state["step"]) for state in networks[name]["state"].values())
