"""R-precision by the DAMSM: cosines, one true caption among others, and when it cannot be had."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError
from tests.support.stores import WORDS
from trainer import generator_file
from trainer.evaluation import damsm
from trainer.evaluation.figures import Figures
from trainer.evaluation.weights import Missing
from trainer.systems.damsm.networks import DamsmEncoders


def held_out(captions: np.ndarray, encoder: str = "damsm") -> Any:
    identity = {"captions": {"encoder": {"name": encoder}}}
    return SimpleNamespace(
        data=SimpleNamespace(identity=identity),
        texts=lambda images, condition: {"captions": torch.from_numpy(captions[images])},
    )


def measured(codes: np.ndarray, captions: np.ndarray, encoder: str = "damsm") -> Figures:
    figures = Figures()
    rows = np.arange(len(codes))
    damsm.figures_of(figures, "r", damsm.unit(codes), held_out(captions, encoder), rows, 1, {"sha256": "x"})
    return figures


def test_it_is_the_share_of_pictures_nearest_to_their_own_caption_by_cosine() -> None:
    """Four directions; two pictures point to another's. Lengths have no say."""
    captions = np.diag([1.0, 5.0, 0.1, 2.0]).astype(np.float32)
    codes = np.array([[3, 1, 0, 0], [0, 0.2, 0, 0.1], [0, 1, 0.5, 0], [7, 0, 0, 1]], np.float32)
    figures = measured(codes, captions)
    assert figures.shown() == {"r": 0.5}
    assert "1 of 4" in figures.made[0].protocol


def test_vectors_of_another_encoder_are_no_match_and_it_is_said() -> None:
    vectors = np.eye(4, dtype=np.float32)
    assert "vectors of minilm" in str(measured(vectors, vectors, "minilm").skipped)
    assert "of 4, the DAMSM's codes of 3" in str(measured(vectors[:, :3], vectors).skipped)


def test_codes_are_the_image_encoder_s(tmp_path: Path) -> None:
    sizes = {"side": 16, "width": 2, "dim": 8, "word_dim": 4, "words": 3}
    settings = {"system": "damsm", "image_encoder": "small", **sizes}
    encoders = DamsmEncoders({**settings, "vocabulary": WORDS}).eval()
    generator_file.save(encoders, tmp_path / "generator.safetensors")
    judge = damsm.load(tmp_path, "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        codes = encoders.image(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1).code
    expected = torch.nn.functional.normalize(codes, dim=1).numpy()
    np.testing.assert_allclose(judge.measure(pictures)["codes"], expected, atol=1e-6)


def test_what_is_missing_or_something_else_is_said(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="is not there"):
        damsm.load(tmp_path, "cpu")
    (tmp_path / "image_encoder.pth").write_bytes(b"x")
    with pytest.raises(ChatPainterError, match=r"image_encoder\.pth"):
        damsm.load(tmp_path / "image_encoder.pth", "cpu")
