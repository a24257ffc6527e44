"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real COCO, VisDial and CoDraw samples, beside the checkout or where CHATPAINTER_SHARED_DATA says."""
    path = Path(os.environ.get("CHATPAINTER_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real samples at {path} (set CHATPAINTER_SHARED_DATA)")
    return path
