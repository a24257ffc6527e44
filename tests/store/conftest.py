"""A small store of known rows, in several shards."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.support.stores import write_turns


@pytest.fixture(scope="session")
def make_store() -> Callable[..., np.ndarray]:
    return write_turns
