"""Small weights in the published formats, written by the tests' own writers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.char_cnn_rnn import char_cnn_rnn_t7, random_net
from tests.support.skip_thought import SkipThoughtFiles, write_skip_thought


@pytest.fixture(scope="session")
def skip_thought_files(tmp_path_factory: pytest.TempPathFactory) -> SkipThoughtFiles:
    return write_skip_thought(tmp_path_factory.mktemp("skip-thought"))


@pytest.fixture
def char_cnn_rnn_files(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """A function that writes a random network of a variant and returns its folder and the network."""

    def make(variant: str = "coco", seed: int = 0, **options: Any) -> tuple[Path, dict[str, Any]]:
        net = random_net(np.random.default_rng(seed), variant)
        folder = tmp_path / f"{variant}-{seed}"
        folder.mkdir(exist_ok=True)
        root = "bare" if variant in ("coco", "last") else "protos"
        (folder / "net.t7").write_bytes(char_cnn_rnn_t7(net, root, **options))
        return folder, net

    return make
