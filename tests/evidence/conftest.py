"""A small profile over small params, a way to load variants of it, a world, and a generator that learned nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evidence import profile as profiles
from tests.support.worlds import small_world, untrained_generator
from trainer.systems.chatpainter.networks import ChatPainterGenerator

PROFILE = {
    "title": "A trial",
    "arms": {"caption": {"model": {"dialogue": "none"}}, "recurrent": {"model": {"dialogue": "recurrent"}}},
    "seeds": [0, 1],
    "points": [32, 64],
    "prepare": ["chatpainter-prepare world"],
    "compare": [["recurrent", "caption"]],
    "score": "colour_accuracy",
    "overrides": {"model": {"preset": "paper", "gf": 8}, "stage1": {"kl_weight": 1.0}},
    "changes": {"hinge": {"stage1": {"loss": "bce"}}, "kl": {"stage1": {"kl_weight": 2.0}}},
    "ablations": [{"arms": ["recurrent"], "changes": ["hinge"]}],
}
BASE = {"raw": "data/raw/sample", "model": {"lstm_hidden": 7}, "stage1": {"batch": 16, "kl_weight": 3.0}}

Loaded = tuple[profiles.Profile, dict[str, Any]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A params.yaml."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(BASE))
    return tmp_path / "params.yaml"


@pytest.fixture
def load(tmp_path: Path, base: Path) -> Callable[..., Loaded]:
    """load(**changes): the small profile, with some of its keys changed, written to trial.yaml and read."""

    def loaded(**changes: Any) -> Loaded:
        (tmp_path / "trial.yaml").write_text(yaml.safe_dump({**PROFILE, **changes}))
        return profiles.load(tmp_path / "trial.yaml", base)

    return loaded


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with data/ of 48 + 24 scenes of the sample world."""
    root = tmp_path_factory.mktemp("work")
    small_world(root)
    return root


@pytest.fixture
def network() -> ChatPainterGenerator:
    """An untrained recurrent generator for the world's vectors."""
    return untrained_generator()
