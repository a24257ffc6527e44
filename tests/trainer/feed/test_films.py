"""Pictures of every turn from the stores to the networks: the right ones, cropped, averaged, never mirrored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from store.errors import ChatPainterError
from tests.support.films import write_films
from tests.support.stores import write_training_stores
from trainer.feed.data import TrainingData
from trainer.feed.films import film, first_picture, kept_side
from trainer.feed.inputs import FIRST_PICTURES, LENGTH, PRESENCE, TURN_PICTURES, TURNS


def test_every_turn_has_its_own_picture_and_objects(tmp_path: Path) -> None:
    embeddings, images = write_training_stores(tmp_path, images=5, rounds=(3, 1, 2), sizes=())
    write_films(embeddings, images, side=19)
    data = TrainingData((TURNS, TURN_PICTURES, PRESENCE, FIRST_PICTURES), embeddings, images)
    batch = data.at(np.arange(5))
    pictures = film(batch[TURN_PICTURES.name], 16)
    levels = ((pictures[:, :, 0, 0, 0] + 1) * 127.5).round()
    for row in range(5):
        rounds, image = int(batch[TURNS.name + LENGTH][row]), int(batch[TURNS.name][row, 0, 1])
        assert int(batch[TURN_PICTURES.name + LENGTH][row]) == rounds
        assert levels[row, :rounds].tolist() == [(10 * image + turn) % 256 for turn in range(rounds)]
        assert batch[PRESENCE.name][row, :rounds].sum(1).tolist() == list(range(1, rounds + 1))
    assert torch.equal(first_picture(data, 16), torch.ones(3, 16, 16))


@pytest.mark.parametrize(
    ("stored", "side", "kept"), [(76, 64, 64), (38, 32, 32), (76, 32, 64), (64, 64, 64), (128, 32, 128), (152, 64, 128)]
)
def test_the_middle_is_kept_as_everywhere_else(stored: int, side: int, kept: int) -> None:
    assert kept_side(stored, side) == kept


@pytest.mark.parametrize(("stored", "side"), [(38, 64), (48, 64), (100, 64)])
def test_a_side_that_cannot_be_made_is_refused(stored: int, side: int) -> None:
    with pytest.raises(ChatPainterError, match=rf"stored at {stored} x {stored}, from which {side} x {side} cannot"):
        kept_side(stored, side)


def test_left_stays_left_and_pixels_are_filtered_as_pillow_does() -> None:
    pictures = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8)
    pictures[0, 1, :, 2:] = 255
    pictures[0, 1, 0, 2] = 0
    found = film(pictures, 2)
    assert found.shape == (1, 2, 3, 2, 2)
    assert (found[0, 0] == -1).all()
    exact = Image.fromarray(pictures[0, 1, :, :, 0].numpy().astype(np.float32), "F")
    smaller = np.asarray(exact.resize((2, 2), Image.Resampling.BILINEAR)) / 127.5 - 1
    torch.testing.assert_close(found[0, 1, 0], torch.from_numpy(smaller))
    assert (found[0, 1, 0, :, 0] < found[0, 1, 0, :, 1]).all()


def test_no_turn_has_no_picture() -> None:
    assert film(torch.zeros(2, 0, 76, 76, 3, dtype=torch.uint8), 64).shape == (2, 0, 3, 64, 64)
