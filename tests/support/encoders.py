"""Settings for encoders over weights that a test wrote."""

from pathlib import Path
from typing import Any

from pipeline.encoders import EncoderSettings


def encoder_settings(folder: Path | str, **changes: Any) -> EncoderSettings:
    """Settings that read the weights in `folder` and nothing else."""
    return EncoderSettings(weights=str(folder), untrained=None, converted=str(Path(folder) / "converted"), **changes)
