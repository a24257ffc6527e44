"""What places are taught beside the picture, known from the true pictures alone: to whom to listen, whence to carry."""

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.systems.iterative.carrying import FAINTEST
from trainer.systems.iterative.changes import Change
from trainer.systems.iterative.networks import to_new_turns

CHANGED = 0.05  # of [-1, 1]: what differs by more has changed
ALIKE = 0.05  # of [-1, 1], mean over a place's pixels: what differs by so much is alike by a share of 1 / e


def listening_loss(attention: Mapping[int, Tensor], change: Change, turns: int) -> Tensor:
    """() cross-entropy between where places listen to new turns and where the true picture changes, summed over sides.

    Who is meant ("it", "the small red circle") shows in what changes; from the painted pixels alone places learn it
    late, as whoever is not sure of it loses least by changing everybody a little.

    Args:
        attention: by side, (b, 1 + 2 turns, side, side): to the caption, to new turns and to old ones, in the order of
            `tokens_between`.
    """
    changed = ((change.real - change.before).abs().amax(1, keepdim=True) > CHANGED).float()
    loss = changed.new_zeros(())
    for side, shares in attention.items():
        listens = to_new_turns(shares, turns)
        should = F.max_pool2d(changed, changed.shape[-1] // side)[:, 0]
        loss = loss - torch.where(should > 0, listens + FAINTEST, 1 - listens + FAINTEST).log().mean()
    return loss


def carrying_loss(shares: Tensor, real: Tensor, *pictures: Tensor) -> Tensor:
    """() cross-entropy between from where places take over and where the pictures before are like what is to come.

    What comes to a place and went from another is known from the pictures alone. Counted are places that change, to
    what is more than twice as like what some place loses, or lost a turn earlier, as like what was there; all that are
    as like are as right. What stays in n other places, too, counts one part in 1 + n: a wall that shows where somebody
    left is everywhere, and carried from nowhere; one more of a kind is told in words.

    Args:
        shares: (B, places, places of every picture), of `Carrying`.
        real: (B, 3, s, s), the true picture to come.
        pictures: (B, 3, s, s) each: what is painted from, and what was there a turn earlier if places ask for it.
    """
    each = real.shape[-1] // round(shares.shape[1] ** 0.5)
    seen = [F.pixel_unshuffle(picture, each).flatten(2).transpose(1, 2) for picture in (real, *pictures)]
    changes = [(later - old).abs().mean(2) for later, old in itertools.pairwise(seen)]
    went = torch.cat(changes, 1)[:, None] > ALIKE
    apart = torch.cdist(seen[0], torch.cat(seen[1:], 1), p=1) / seen[0].shape[2]
    stays = (-apart[..., : shares.shape[1]] / ALIKE).exp().masked_fill(went[..., : shares.shape[1]], 0).sum(2)
    apart = apart.masked_fill(~went, torch.inf)
    nearest = apart.amin(2)
    counted = (changes[0] > ALIKE) & (nearest < changes[0] / 2)
    alike = ((nearest.where(counted, 0)[..., None] - apart) / ALIKE).exp()
    lost = -((shares * alike).sum(2) + FAINTEST).log()
    weights = counted / (1 + stays)
    return (lost * weights).sum() / weights.sum().clamp(min=1)
