"""Places take over what stood elsewhere in the picture: what is moved, swapped or brought back."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.attention import waves
from trainer.networks.blocks import two_layers

FAINTEST = 1e-3  # of a share of attention, so that who is sure and wrong can still learn


class Carrying(nn.Module):
    """x_p ← x_p + Σ_q a(p, q) V(old_q), a = softmax over q of Q(x_p) · K([old_q, x_q]) / √w + g log s_q.

    p is a place, q one of the picture before, or, where old tells of it, of the picture a turn earlier: "bring it
    back". Each of the two has its own K and V, and features their positions. By then places have heard what is to
    become of them (x): p asks where it stood, and q tells what was there (old), and what becomes of it. Who goes is
    spoken of: s_q is by how much q listens to new turns, or 1 a turn earlier, as what went then is spoken of no more;
    g is learned.

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
        self.query = two_layers(channels, 2 * width, width)
        self.keys = nn.ModuleList(nn.Linear(2 * channels, width) for _ in range(pictures))
        self.values = nn.ModuleList(nn.Linear(channels, channels) for _ in range(pictures))
        self.going = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, old: Tensor, listens: Tensor) -> tuple[Tensor, Tensor]:
        """x and old (B, channels, side, side); listens (B, side, side), shares of attention for new turns.

        Returns:
            x with what each place took over added, and from where: (B, places, places of every picture), the last of
            which sum to 1.
        """
        asking, asked = (
            norm((features + self.position).flatten(2).transpose(1, 2))
            for norm, features in ((self.norm, x), (self.norm_old, old))
        )
        telling = torch.cat([asked, asking], 2)
        keys = torch.cat([layer(telling) for layer in self.keys], 1)
        values = torch.cat([layer(asked) for layer in self.values], 1)
        goes = self.going * (listens.flatten(1) + FAINTEST).log()
        goes = F.pad(goes, (0, keys.shape[1] - goes.shape[1]))[:, None]
        shares = (self.query(asking) @ keys.transpose(1, 2) / keys.shape[2] ** 0.5 + goes).softmax(2)
        carried = shares.to(values.dtype) @ values
        return x + carried.transpose(1, 2).unflatten(2, x.shape[2:]), shares
