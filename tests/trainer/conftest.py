"""Small stores for the trainer's tests, and processes that train together."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import Ranks
from tests.support.stores import write_training_stores


@pytest.fixture(scope="session")
def make_stores() -> Callable[..., tuple[Path, Path]]:
    return write_training_stores


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Ranks]]:
    """launch(function, world, *arguments): `world` processes that run the function; none outlives the tests."""
    started: list[Ranks] = []

    def start(target: Callable[..., None], world: int, *arguments: object) -> Ranks:
        started.append(Ranks(target, world, *arguments))
        return started[-1]

    yield start
    for ranks in started:
        ranks.kill()
