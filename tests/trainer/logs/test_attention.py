"""Which token each place listened to: shares, pictures and words of constructed attention."""

import doctest
from typing import Any

import numpy as np
import torch

from trainer import systems
from trainer.logs import attention
from trainer.logs.attention import COLOURS, DIMMED, TINT, AttentionMaps, attend

TOP_LEFT = np.array([[1.0, 0.0], [0.0, 0.0]])
RIGHT = np.array([[0.0, 0.75], [0.0, 0.5]])


def test_docstring_examples() -> None:
    assert doctest.testmod(attention) == (0, 1)


def test_the_token_that_each_place_listened_to_most() -> None:
    heard = AttentionMaps(("caption", "round 1"), {2: np.stack([0.9 * TOP_LEFT, RIGHT])})

    assert heard.most.tolist() == [[0, 1], [2, 1]], "2: silence"
    assert heard.words() == [
        "top left: caption (90 %)",
        "top right: round 1 (75 %)",
        "bottom left: nothing said",
        "bottom right: round 1 (50 %)",
    ]


def test_sides_are_averaged_at_the_largest() -> None:
    coarse = np.array([[[0.8]], [[0.1]]])
    fine = np.zeros((2, 2, 2))
    fine[1, 0, 0] = 1.0

    heard = AttentionMaps(("caption", "round 1"), {1: coarse, 2: fine})

    np.testing.assert_allclose(heard.shares[0], 0.4)
    np.testing.assert_allclose(heard.shares[1], [[0.55, 0.05], [0.05, 0.05]])
    assert heard.most.tolist() == [[1, 2], [2, 2]], "0.4 of the caption are less than 0.55 of silence"


def test_pictures_of_it() -> None:
    heard = AttentionMaps(("caption", "round 1"), {2: np.stack([0.5 * TOP_LEFT, RIGHT])})
    picture = np.full((128, 128, 3), (30, 60, 210), np.uint8)

    painted, coloured, caption, first = heard.strip(picture)

    assert (painted == picture).all()
    grey = 100.0
    np.testing.assert_array_equal(coloured[0, 0], np.round(TINT * COLOURS[0] + (1 - TINT) * grey))
    np.testing.assert_array_equal(coloured[0, 127], np.round(TINT * COLOURS[1] + (1 - TINT) * grey))
    assert (coloured[127, 0] == 100).all(), "silence has no colour"
    assert (caption[0] == COLOURS[0]).all(), "the frame is the legend"
    assert (caption[:, 127] == COLOURS[0]).all()
    assert (first[127] == COLOURS[1]).all()
    assert (caption[32, 32] == picture[0, 0]).all(), "the loudest place of a token is bright, however soft it is"
    np.testing.assert_array_equal(caption[32, 96], np.round(DIMMED * picture[0, 0]))
    np.testing.assert_array_equal(first[96, 96], np.round((DIMMED + (1 - DIMMED) * 0.5 / 0.75) * picture[0, 0]))


def test_a_token_that_nobody_listened_to_is_dark() -> None:
    heard = AttentionMaps(("caption",), {2: np.zeros((1, 2, 2))})
    assert (heard.alone(np.full((64, 64, 3), 100, np.uint8), 0)[32, 32] == 100 * DIMMED).all()
    assert heard.words() == [f"{quarter}: nothing said" for quarter in
                             ("top left", "top right", "bottom left", "bottom right")]  # fmt: skip


class Listening:
    """A generator whose places listen as they are told to."""

    listens_to: tuple[str, ...] = ("captions", "turns")

    def __init__(self, maps: dict[int, torch.Tensor]):
        self.maps = maps

    def encode(self, texts: Any) -> Any:
        return texts

    def listen(self, encoded: Any, noise: torch.Tensor) -> dict[int, torch.Tensor]:
        return self.maps


def test_padding_is_no_token() -> None:
    maps = torch.arange(2 * 4 * 4.0).reshape(2, 4, 2, 2) / 1000
    texts = {
        "captions": torch.zeros(2, 3),
        "turns": torch.zeros(2, 3, 5),
        "turns.length": torch.tensor([0, 2]),
    }

    alone, told = attend(Listening({2: maps}), texts, torch.zeros(2, 1))  # type: ignore[arg-type]

    assert alone.tokens == ("caption",)
    assert told.tokens == ("caption", "round 1", "round 2")
    np.testing.assert_array_equal(alone.maps[2], maps[0, :1])
    np.testing.assert_array_equal(told.maps[2], maps[1, :3])


def test_who_does_not_listen_has_no_attention() -> None:
    deaf: Any = torch.nn.Linear(1, 1)
    assert not isinstance(deaf, systems.Listens)
    assert attend(deaf, {}, torch.zeros(1, 1)) == []
    nobody = Listening({})
    nobody.listens_to = ()
    assert attend(nobody, {}, torch.zeros(1, 1)) == []  # type: ignore[arg-type]
