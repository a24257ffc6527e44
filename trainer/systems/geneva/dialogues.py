"""A batch of dialogues, taken turn by turn."""

from typing import NamedTuple

import torch
from torch import Tensor

from trainer.feed.films import film
from trainer.feed.inputs import FIRST_PICTURES, FIRST_PRESENCE, PRESENCE, TURN_PICTURES, Batch
from trainer.feed.sampler import Draws
from trainer.systems.geneva.config import GenevaConfig
from trainer.systems.geneva.losses import new_objects


class Turn(NamedTuple):
    """One turn of b dialogues."""

    live: Tensor  # (b,) bool: has the dialogue this turn?
    real: Tensor  # (b, 3, s, s): the picture after it
    before: Tensor  # (b, 3, s, s): the picture before it
    there: Tensor | None  # (b, N) of 0 and 1: objects in the picture after it
    new: Tensor | None  # (b, N): those among them that were not there before


class Dialogues:
    """Turns, pictures and objects of b dialogues, on their device.

    A dialogue that has ended is either padded, with pictures and turns of zeros as the original has it, or repeats its
    last turn. Either way it is not live.

    Args:
        turns: (b, T, d) a vector a turn.
        rounds: (b,) how many of them there are, at least one.
    """

    def __init__(self, batch: Batch, turns: Tensor, rounds: Tensor, training: GenevaConfig, draws: Draws):
        self.longest = int(rounds.max())
        self.live = torch.arange(self.longest, device=rounds.device) < rounds[:, None]
        side = training.networks.size
        after = film(batch[TURN_PICTURES.name][:, : self.longest], side)
        first = film(batch[FIRST_PICTURES.name][:, None], side)
        # As in the original each picture gets other noise every time, less than a step of its 256 levels.
        noise = draws.uniform("noise of the pixels", self.longest + 1, 3, side, side) * training.pixel_noise
        pictures = torch.cat([first, after], 1) + noise
        repeated = training.ended == "repeated"
        # Which of its own turns each dialogue is at: the last one for good, or one of the padding.
        at = torch.arange(self.longest, device=rounds.device).expand(len(rounds), -1)
        at = torch.minimum(at, rounds[:, None] - 1) if repeated else at
        rows = torch.arange(len(rounds), device=rounds.device)[:, None]
        there = torch.arange(self.longest + 1, device=rounds.device) <= rounds[:, None]
        pictures = pictures * there[:, :, None, None, None]
        self.turns = turns[rows, at]
        self._after, self._before = pictures[rows, at + 1], pictures[rows, at]
        self._there = self._new = None
        if training.auxiliary:
            present = batch[PRESENCE.name][:, : self.longest].float()
            self._there = present[rows, at]
            self._new = new_objects(batch[FIRST_PRESENCE.name].float(), present)[rows, at]

    def turn(self, number: int) -> Turn:
        """Turn `number`, from 0 on."""
        there = None if self._there is None else self._there[:, number]
        new = None if self._new is None else self._new[:, number]
        return Turn(self.live[:, number], self._after[:, number], self._before[:, number], there, new)
