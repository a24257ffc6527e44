"""A small sample world with pictures as the pipeline makes them, made-up text vectors, and an untrained generator."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from store import StoreWriter
from trainer.config import ModelConfig
from trainer.generator import Generator, settings

MODEL = {"gf": 4, "df": 4, "residual_blocks": 1, "condition_dim": 6, "noise_dim": 5, "lstm_hidden": 4}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml and data/ of 48 + 24 scenes."""
    from pipeline.prepare_cli import main

    root = tmp_path_factory.mktemp("world")
    values = {
        "dataset": "sample",
        "raw": str(root / "data/raw/sample"),
        "visdial_version": "1.0",
        "splits": ["train", "val"],
        "world": {"seed": 3, "train": 48, "val": 24, "image_size": 128},
        "images": {"sizes": [76, 304]},
        "evaluate": {
            "batch": 7,
            "part": 10,
            "probe_pictures": 9,
            "rounds_curve": [0, 3, 10],
            "gallery": 6,
            "noises": 2,
            "classifier": {"epochs": 1, "batch": 16, "width": 4, "features": 8},
        },
    }
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    params = ["--params", str(root / "params.yaml")]
    for command in (
        ["world"],
        ["corpus", "--out", str(root / "data/corpus")],
        ["images", "--corpus", str(root / "data/corpus"), "--out", str(root / "data/images")],
    ):
        result = CliRunner().invoke(main, [*params, *command], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    for split in ("train", "val"):
        write_vectors(root / "data/embeddings" / split, root / f"data/corpus/{split}.parquet")
    return root


def write_vectors(folder: Path, corpus: Path, encoder: str = "made up") -> None:
    """Stores of random vectors for the texts of a corpus."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(corpus).to_pylist()
    random = np.random.default_rng(len(rows))
    captions = [
        (row["image_id"], caption["caption_id"], caption["text"]) for row in rows for caption in row["captions"]
    ]
    turns = [[f"{said['question']}? {said['answer']}" for said in row["rounds"]] for row in rows]
    firsts = np.cumsum([0, *map(len, turns)])[:-1]
    ids = [row["image_id"] for row in rows]
    tables = {
        "captions": (
            9,
            {
                "row": range(len(captions)),
                "image_id": [caption[0] for caption in captions],
                "caption_id": [caption[1] for caption in captions],
                "text": [caption[2] for caption in captions],
            },
        ),
        "turns": (7, {"row": firsts, "image_id": ids, "rounds": list(map(len, turns)), "texts": turns}),
        "dialogues": (7, {"row": range(len(ids)), "image_id": ids, "text": [" ".join(said) for said in turns]}),
    }
    for kind, (dim, index) in tables.items():
        count = sum(map(len, turns)) if kind == "turns" else len(index["image_id"])
        vectors = random.standard_normal((count, dim)).astype(np.float16)
        about = {"encoder": {"name": encoder}, "text": {}}
        with StoreWriter(
            folder / kind, kind=kind, split=folder.name, shape=(dim,), dtype="float16", made_from=about
        ) as writer:
            for number in writer.plan([(0, count, kind)]):
                writer.write_shard(number, vectors, kind)
            writer.commit(pyarrow.table({name: list(values) for name, values in index.items()}))


@pytest.fixture(scope="session")
def make_generator(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write an untrained generator over the world's stores; returns its file."""

    def make(stage: int = 1, dialogue: str = "recurrent", encoder: str = "made up") -> Path:
        torch.manual_seed(1)
        stores = {
            kind: {"encoder": {"name": encoder}, "text": {}}
            for kind in ("captions", {"none": None, "collapsed": "dialogues", "recurrent": "turns"}[dialogue])
            if kind
        }
        model = ModelConfig(dialogue=dialogue, **MODEL)  # type: ignore[arg-type]
        generator = Generator(settings(stage, model, 9, None if dialogue == "none" else 7, stores=stores))
        for module in generator.modules():  # paint something: not all pictures the same grey
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.normal_(module.weight, 0, 0.3)
        path = tmp_path_factory.mktemp("run") / "generator.safetensors"
        generator.save(path)
        return path

    return make


@pytest.fixture(scope="session")
def truth_json(world: Path) -> dict:
    return json.loads((world / "data/raw/sample/truth_val.json").read_text())
