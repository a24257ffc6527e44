"""Generators that read a caption's words are painted with as others are, and say what they look at."""

from pathlib import Path

import numpy as np
import pytest
import torch

from painter.dialogue import Dialogue
from painter.painter import Painter
from pipeline import encoders
from pipeline.encoders import EncoderSettings
from store.errors import ChatPainterError
from tests.support.damsm import publish
from trainer import generator_file
from trainer.systems.attngan.config import AttnGanModel
from trainer.systems.attngan.networks import AttnGanGenerator, generator_settings


def write_run(folder: Path, **changed: object) -> Path:
    """A generator of words whose weights are noise, and the weights of its encoder in `folder`/encoders."""
    publish(folder / "encoders")
    settings = EncoderSettings(captions="damsm", weights=str(folder / "encoders"))
    identity = encoders.identity("captions", settings)
    stores = {"captions": {"encoder": identity, "text": {}}}
    stores["words"] = {"encoder": {**identity, "output": "words", **changed}, "text": {}}
    model = AttnGanModel(size=16, branches=2, gf=4, residual_blocks=1, condition_dim=4, noise_dim=3)
    torch.manual_seed(0)
    generator = AttnGanGenerator(generator_settings(model, 8, 8, None, stores=stores))
    for parameter in generator.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    generator_file.save(generator, folder / "generator.safetensors")
    return folder


def test_a_caption_is_painted_by_its_words(tmp_path: Path) -> None:
    painter = Painter.from_run(write_run(tmp_path))
    assert not painter.hears_dialogue
    red, bird = (painter.paint(text, n=2, seed=1) for text in ("a red bird", "a bird"))
    assert red.shape == (2, 32, 32, 3)
    assert (red != bird).any()
    together = painter.paint_batch([Dialogue("a bird"), Dialogue("a red bird")], n=2, seed=1)
    np.testing.assert_allclose(together[1].astype(int), red.astype(int), atol=1)
    (maps,) = painter.attention("a red bird")
    assert [token.partition(" ")[0] for token in maps.tokens] == ["word"] * 3
    assert {side: found.shape for side, found in maps.maps.items()} == {16: (3, 16, 16)}


def test_words_of_another_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChatPainterError, match="its words are not of the encoder of its captions"):
        Painter.from_run(write_run(tmp_path, version=2))
