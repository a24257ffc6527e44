"""A small sample world with pictures as the pipeline makes them, made-up text vectors, and an untrained generator."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.worlds import small_world, untrained_generator
from trainer import generator_file


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml and data/ of 48 + 24 scenes, in both stages' sizes."""
    root = tmp_path_factory.mktemp("world")
    evaluate = {
        "batch": 7,
        "part": 10,
        "probe_pictures": 9,
        "rounds_curve": list(range(11)),
        "gallery": 6,
        "noises": 2,
        "classifier": {"epochs": 1, "batch": 16, "width": 4, "features": 8},
    }
    small_world(root, images={"sizes": [76, 304]}, evaluate=evaluate)
    return root


@pytest.fixture(scope="session")
def make_generator(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write an untrained generator over the world's stores; returns its file."""

    def make(stage: int = 1, dialogue: str = "recurrent", encoder: str = "made up") -> Path:
        path = tmp_path_factory.mktemp("run") / "generator.safetensors"
        generator_file.save(untrained_generator(stage, dialogue, encoder), path)
        return path

    return make


@pytest.fixture(scope="session")
def truth_json(world: Path) -> dict:
    return json.loads((world / "data/raw/sample/truth_val.json").read_text())
