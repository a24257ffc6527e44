"""Fixtures that every room's tests share, and how properties are tried."""

import os
import random
import sys
from pathlib import Path

import hypothesis
import pytest

# `make test` tries the same examples every time; `make test-random` others each night, from a seed that it prints.
# No deadline: how long an example takes says what else the machine was doing.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=30)
hypothesis.settings.register_profile(
    "random", derandomize=False, database=None, deadline=None, max_examples=1000, print_blob=True
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _draws_do_not_depend_on_the_tests_before() -> None:
    """The global streams begin anew with every test."""
    random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real COCO, VisDial and CoDraw samples, beside the checkout or where CHATPAINTER_SHARED_DATA says."""
    path = Path(os.environ.get("CHATPAINTER_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real samples at {path} (set CHATPAINTER_SHARED_DATA)")
    return path
