"""Grids: the same texts and noises each time, real above painted, the words under them, nothing half written."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from store.errors import ChatPainterError
from trainer.feed.data import TrainingData
from trainer.feed.inputs import pictures
from trainer.logs.grid import FONT, MARGIN, HeldOutTexts, paint_grid, wrap, write_grid
from trainer.systems.text_reader import text_inputs


class Echo(torch.nn.Module):
    """Paints text and noise as flat colours, so that a picture tells what it was painted from."""

    noise_dim = 5

    def __init__(self, sizes=(64,)):
        super().__init__()
        self.sizes = sizes
        self.calls = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def paint(self, texts, noise, condition_noise=None, sides=None):
        assert condition_noise is None  # the mean condition
        self.calls.append((texts, noise))
        owner = texts["captions"][:, 1].float() / 12 - 1
        colours = torch.stack((owner, noise[:, 0].tanh(), noise[:, 1].tanh()), 1)
        return {size: colours[:, :, None, None].expand(-1, -1, size, size) for size in self.sizes}


def echo(sizes=(64,)) -> Any:
    """Stands for a system's generator."""
    return Echo(sizes)


@pytest.fixture
def held(tmp_path, make_stores):
    return HeldOutTexts.spread_over(training_data(make_stores(tmp_path)), 5)


def training_data(folders, dialogue="recurrent", side=64) -> TrainingData:
    return TrainingData((*text_inputs(dialogue), pictures(side)), *folders)


def cells(path, rows: int, columns: int, cell: int, beside: int) -> np.ndarray:
    """(rows, columns, cell, cell, 3) cut out of the sheet."""
    sheet = np.asarray(Image.open(path))
    return np.stack(
        [
            [
                sheet[MARGIN + r * (cell + MARGIN) :, MARGIN + beside + c * (cell + MARGIN) :][:cell, :cell]
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )


def beside(labels) -> int:
    font = ImageFont.load_default(FONT)
    return int(max(font.getlength(label) for label in labels)) + MARGIN


def test_real_pictures_stand_above_those_painted_from_their_text(held, tmp_path):
    generator = echo()
    path = paint_grid(generator, held, tmp_path / "grids" / "one.png", noises=2)
    found = cells(path, 3, 5, 192, beside(["real", "noise 1", "noise 2"]))
    for column in range(5):
        real = held.batch["images"][column, 6:70, 6:70].numpy()
        np.testing.assert_array_equal(found[0, column, 1::3, 1::3], real)
        owner = int(held.batch["captions"][column, 1])
        for row in (1, 2):
            colour = found[row, column, 0, 0]
            assert (found[row, column] == colour).all()
            assert abs(int(colour[0]) - owner / 12 * 127.5) <= 1
            # The same noise along a row, another one in the next.
            assert (found[row, column, 0, 0, 1:] == found[row, 0, 0, 0, 1:]).all()
    assert (found[1, 0, 0, 0, 1:] != found[2, 0, 0, 0, 1:]).any()


def test_the_same_run_paints_the_same_file(held, tmp_path):
    one = paint_grid(echo(), held, tmp_path / "one.png").read_bytes()
    torch.manual_seed(99)
    assert paint_grid(echo(), held, tmp_path / "two.png").read_bytes() == one
    assert paint_grid(echo(), held, tmp_path / "two.png", seed=1).read_bytes() != one


def test_the_generator_is_asked_as_it_is_in_painting(held, tmp_path):
    generator = echo()
    paint_grid(generator, held, tmp_path / "one.png", noises=4)
    assert len(generator.calls) == 4
    for texts, noise in generator.calls:
        assert texts["captions"].shape == (5, 12)
        assert texts["turns"].shape == (5, 10, 10)
        assert texts["turns.length"].tolist() == held.batch["turns.length"].tolist()
        assert noise.shape == (5, 5)
        assert texts["captions"].is_inference() or not texts["captions"].requires_grad


def test_of_two_stages_the_larger_picture_is_shown(tmp_path, make_stores):
    data = training_data(make_stores(tmp_path, images=4, sizes=(304,)), "none", 256)
    held = HeldOutTexts.spread_over(data, 2)
    path = paint_grid(echo((64, 256)), held, tmp_path / "one.png", noises=1)
    found = cells(path, 2, 2, 256, beside(["real", "noise 1"]))
    np.testing.assert_array_equal(found[0, 1], held.batch["images"][1, 24:280, 24:280].numpy())


def test_the_held_out_are_spread_over_the_split_and_never_more_than_it_has(tmp_path, make_stores):
    data = training_data(make_stores(tmp_path, images=9))
    three = HeldOutTexts.spread_over(data, 3)
    assert three.batch["image_id"].tolist() == data.image_ids[[0, 4, 8]].tolist()
    every = HeldOutTexts.spread_over(data, 50)
    assert (every.batch.size, len(every.words)) == (9, 9)
    for (caption, rounds), image_id, length in zip(three.words, data.image_ids[[0, 4, 8]], three.batch["turns.length"]):
        assert caption.endswith(f"of image {image_id}")
        assert rounds == [f"round {number} of image {image_id}" for number in range(int(length))]


def test_words_stand_under_their_column(tmp_path):
    blank = np.full((2, 64, 64, 3), 255, np.uint8)
    with_words = np.asarray(Image.open(write_grid([blank], tmp_path / "a.png", below=[["a red circle"], []])))
    ink = np.any(with_words < 128, axis=(0, 2))
    assert ink[MARGIN : MARGIN + 192].any()
    assert not ink[MARGIN + 192 :].any()


def test_lines_fit_their_column_and_end_in_an_ellipsis():
    length = ImageFont.load_default(FONT).getlength
    words = "a small red circle at the top left of the picture " * 20 + "supercalifragilisticexpialidocious" * 3
    lines = wrap([words, "what is there", ""], 192, length, 100)
    assert max(map(length, lines)) <= 192
    assert lines[0].startswith("a small red circle")
    cut = wrap([words], 192, length, 4)
    assert len(cut) == 4
    assert cut[-1].endswith("…")
    assert max(map(length, cut)) <= 192


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(held, tmp_path):
    (tmp_path / "grids").write_text("a file")
    with pytest.raises(ChatPainterError, match=r"one\.png: cannot be written"):
        paint_grid(echo(), held, tmp_path / "grids" / "one.png")
