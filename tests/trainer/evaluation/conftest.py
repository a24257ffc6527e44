"""A small sample world with pictures as the pipeline makes them, made-up text vectors, and an untrained generator."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

from tests.support.models import small_model
from tests.support.stores import write_corpus_vectors
from trainer import generator_file
from trainer.systems.chatpainter.networks import Generator, settings


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
        write_corpus_vectors(root / "data/embeddings" / split, root / f"data/corpus/{split}.parquet")
    return root


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
        model = small_model(dialogue=dialogue)
        dim = None if dialogue == "none" else 7
        generator = Generator(settings(stage, model, 9, dim, system=f"stage{stage}", stores=stores))
        # Paint something: not all pictures the same grey, and others for other texts.
        for module in generator.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.normal_(module.weight, 0, 0.3)
        path = tmp_path_factory.mktemp("run") / "generator.safetensors"
        generator_file.save(generator, path)
        return path

    return make


@pytest.fixture(scope="session")
def truth_json(world: Path) -> dict:
    return json.loads((world / "data/raw/sample/truth_val.json").read_text())
