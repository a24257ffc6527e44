"""Changes of dialogues' pictures, which are what is trained on."""

from typing import NamedTuple

import torch
from torch import Tensor

from trainer.feed.films import pictures_after
from trainer.feed.inputs import LENGTH, TURNS, Batch
from trainer.networks.attention import Tokens
from trainer.systems.iterative.config import IterativeConfig


class Change(NamedTuple):
    """One change in each of b dialogues."""

    start: Tensor  # (b,) turns before it
    end: Tensor  # (b,) turns after it, at least one more
    before: Tensor  # (b, 3, s, s): the true picture after `start` turns
    real: Tensor  # (b, 3, s, s): the true picture after `end` turns
    earlier: Tensor  # (b, 3, s, s): the true picture a turn before `before`, or the first one

    def of(self, rows: Tensor) -> "Change":
        """Those of these dialogues."""
        return Change(*(values[rows] for values in self))


class Begun(NamedTuple):
    """What each change is painted from."""

    before: Tensor  # (b, 3, s, s): the true picture, or one of our own
    earlier: Tensor  # (b, 3, s, s): what was there a turn before it
    own: Tensor  # (b,) bool: is it one of our own?


def drawn_change(batch: Batch, training: IterativeConfig, draws: Tensor) -> Change:
    """Which change of each dialogue is trained on; draws (b, 3), uniform.

    Every turn is as likely to be the last one; of a share `any_pair` every picture before it is as likely to be the
    first one, the others start a turn before.
    """
    rounds = batch[TURNS.name + LENGTH]
    end = (draws[:, 0] * rounds).long() + 1
    start = torch.where(draws[:, 1] < training.any_pair, (draws[:, 2] * end).long(), end - 1)
    side = training.networks.size
    before, real, earlier = (pictures_after(batch, at, side) for at in (start, end, (start - 1).clamp(min=0)))
    return Change(start, end, before, real, earlier)


def new_turns(turns: Tensor, change: Change, begun: Begun) -> Tokens:
    """The turns (b, T, d) that D matches with each change: the new ones.

    None where they changed nothing, and none where the change begins with a picture of our own.
    """
    at = torch.arange(turns.shape[1], device=turns.device)
    new = (at >= change.start[:, None]) & (at < change.end[:, None])
    changed = (change.real != change.before).flatten(1).any(1)
    return Tokens(turns, new & (changed & ~begun.own)[:, None])
