"""Places take over what stands elsewhere in the picture: what is moved, swapped or put once more."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.attention import waves

ALIKE = 0.05  # of [-1, 1], mean over a place's pixels: what differs by so much is alike by a share of 1 / e
FAINTEST = 1e-3  # of a share of attention, so that who is sure and wrong can still learn


class Carrying(nn.Module):
    """x_p ← x_p + Σ_q a(p, q) V(old_q), a = softmax over q of Q(x_p + position_p) · K(old_q + position_q) / √w.

    p is a place, q one of the picture before, or, where old tells of it, of the picture a turn earlier: "bring it
    back". Each of the two has its own K and V. By then p has heard what is to become of it (x), and asks where it stood
    (old).

    Args:
        channels: of the picture's features.
        side: of the picture's features, side x side places.
        width: of keys.
        pictures: 1, or 2 with the one a turn earlier.
    """

    def __init__(self, channels: int, side: int, width: int, pictures: int):
        super().__init__()
        self.position = nn.Parameter(waves(channels, side))
        self.norm, self.norm_old = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Sequential(nn.Linear(channels, 2 * width), nn.LeakyReLU(0.2), nn.Linear(2 * width, width))
        self.keys = nn.ModuleList(nn.Linear(channels, width) for _ in range(pictures))
        self.values = nn.ModuleList(nn.Linear(channels, channels) for _ in range(pictures))

    def forward(self, x: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        """x and old (B, channels, side, side).

        Returns:
            x with what each place took over added, and from where: (B, places, places of every picture), the last of
            which sum to 1.
        """
        asking, asked = (
            norm((features + self.position).flatten(2).transpose(1, 2))
            for norm, features in ((self.norm, x), (self.norm_old, old))
        )
        keys, values = (torch.cat([layer(asked) for layer in layers], 1) for layers in (self.keys, self.values))
        shares = (self.query(asking) @ keys.transpose(1, 2) / keys.shape[2] ** 0.5).softmax(2)
        carried = shares.to(values.dtype) @ values
        return x + carried.transpose(1, 2).unflatten(2, x.shape[2:]), shares


def carrying_loss(shares: Tensor, real: Tensor, *pictures: Tensor) -> Tensor:
    """() cross-entropy between from where places take over and where the pictures before are like what is to come.

    What comes to a place and went from another is known from the pictures alone. Counted are places that change, to
    what is more than twice as like what some place loses, or lost a turn earlier, as like what was there; all that are
    as like are as right. Who stays where it is teaches nothing: one more of a kind is told in words.

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
    apart = apart.masked_fill(~went, torch.inf)
    nearest = apart.amin(2)
    counted = (changes[0] > ALIKE) & (nearest < changes[0] / 2)
    alike = ((nearest.where(counted, 0)[..., None] - apart) / ALIKE).exp()
    lost = -((shares * alike).sum(2) + FAINTEST).log()
    return (lost * counted).sum() / counted.sum().clamp(min=1)
