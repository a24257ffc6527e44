"""Dialogues painted turn by turn, each picture from the one before: what systems that do so share."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainer.feed.films import film
from trainer.feed.inputs import FIRST_PICTURES

NextPicture = Callable[[int, Tensor, Tensor, Tensor | None], Tensor]
"""Number of the turn, pictures before it (B, 3, s, s), noise (B, z), condition's (B, c) or None → those after it."""


def paint_film(
    start: Tensor, turns: int, rounds: Tensor, noise: Tensor, condition_noise: Tensor | None, paint: NextPicture
) -> Tensor:
    """The pictures after each of `turns` turns, (B, T, 3, s, s); after a dialogue's last turn the last one again.

    A turn's noise is `noise` rolled by as many places as there were turns before: fresh numbers a turn, as in training,
    yet a dialogue that goes on keeps the pictures that it had.

    Args:
        start: (B, 3, s, s) before the first turn.
        rounds: (B,) how many turns each dialogue has.
    """
    picture, pictures = start, []
    going_on = min(turns, int(rounds.max())) if len(rounds) else 0
    for number in range(going_on):
        epsilon = None if condition_noise is None else condition_noise.roll(number, 1)
        painted = paint(number, picture, noise.roll(number, 1), epsilon)
        picture = torch.where((rounds > number)[:, None, None, None], painted, picture)
        pictures.append(picture)
    # When the last dialogue has ended there is nothing to paint.
    pictures += [picture] * (turns - going_on)
    return torch.stack(pictures, 1) if pictures else start[:, None][:, :0]


def last_pictures(start: Tensor, pictures: Tensor) -> Tensor:
    """Of each dialogue the last of `pictures` (B, T, 3, s, s), which stand still after its end; `start` if T is 0."""
    return pictures[:, -1] if pictures.shape[1] else start


def first_pictures(texts: Mapping[str, Tensor], side: int) -> dict[str, Tensor]:
    """First pictures (B, s', s', 3) uint8 of a batch as networks see them, (B, 3, side, side); {} where it has none."""
    if FIRST_PICTURES.name not in texts:
        return {}
    return {FIRST_PICTURES.name: film(texts[FIRST_PICTURES.name][:, None], side)[:, 0]}


def start_of(encoded: Mapping[str, Tensor], background: Tensor, rows: int) -> Tensor:
    """What each film begins with, (B, 3, s, s): its own first picture where `encoded` has them, else the background."""
    own = encoded.get(FIRST_PICTURES.name)
    return background.expand(rows, -1, -1, -1) if own is None else own.to(background.dtype)
