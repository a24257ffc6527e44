"""Pictures of every turn, as networks see them."""

import numpy as np
import torch
from torch import Tensor

from store.errors import ChatPainterError
from trainer.feed.augment import at_sides, augment
from trainer.feed.data import TrainingData
from trainer.feed.inputs import FIRST_PICTURES, TURN_PICTURES, Batch

FIRST = 64  # first pictures that are averaged
CROPPED = 76 // 4  # stored sides that are multiples of this are cropped to 64 / 76 of them, as everywhere


def kept_side(stored: int, side: int) -> int:
    """How much of the middle of stored pictures is kept, of which `side` is a whole part.

    Raises:
        ChatPainterError: it is not.
    """
    kept = stored * 16 // CROPPED if stored % CROPPED == 0 else stored
    if kept < side or kept % side:
        raise ChatPainterError(
            f"pictures of turns are stored at {stored} x {stored}, from which {side} x {side} cannot be made; "
            "prepare them at another of images.sizes"
        )
    return kept


def film(pictures: Tensor, side: int) -> Tensor:
    """(b, T, s, s, 3) uint8 → (b, T, 3, side, side) float32 in [-1, 1]: the middle, averaged down, never mirrored.

    What is said has a left and a right, and a place where it lies must not move from turn to turn.
    """
    if not pictures.shape[1]:
        return torch.zeros(*pictures.shape[:2], 3, side, side, device=pictures.device)
    cropped = augment(pictures.flatten(0, 1), kept_side(pictures.shape[2], side))
    return at_sides(cropped, [side])[side].unflatten(0, pictures.shape[:2])


def pictures_after(batch: Batch, rounds: Tensor, side: int) -> Tensor:
    """The true pictures after so many rounds (b,) of the batch's dialogues, (b, 3, side, side); after 0 the first."""
    turns, firsts = batch[TURN_PICTURES.name], batch[FIRST_PICTURES.name]
    rows = torch.arange(len(rounds), device=rounds.device)
    shown = torch.where((rounds > 0)[:, None, None, None], turns[rows, (rounds - 1).clamp(min=0)], firsts)
    return film(shown[:, None], side)[:, 0]


def first_picture(data: TrainingData, side: int) -> Tensor:
    """The average of first pictures spread over the data, (3, side, side): what a film begins with where none is given.

    Most worlds begin with the same picture, which this then is.
    """
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), FIRST)).astype(np.int64))
    return film(data.at(rows)[FIRST_PICTURES.name][:, None], side)[:, 0].double().mean(0).float()
