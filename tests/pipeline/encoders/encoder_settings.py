"""Settings for encoders over the tests' own weights."""

from pathlib import Path

from pipeline.encoders import EncoderSettings


def settings(folder, **changes):
    """Settings that read the weights in `folder` and nothing else."""
    return EncoderSettings(weights=str(folder), untrained=None, converted=str(Path(folder) / "converted"), **changes)
