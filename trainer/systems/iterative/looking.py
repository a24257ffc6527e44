"""Turns look at the picture before its places listen to them."""

import torch
from torch import Tensor, nn

from trainer.networks.attention import Heard, by_heads, waves
from trainer.networks.blocks import two_layers


class Looking(nn.Module):
    """What is said looks at the picture: who is spoken of ("it", "the red circle") is read there, and goes with it.

    Whoever listens then hears what was seen, too: to be moved, swapped or put once more somewhere else. A turn picks
    the place that fits best of all, where a place alone would have to know whether it fits well enough.

    Args:
        channels: of the picture's features.
        side: of the picture's features, side x side places.
        width: of keys and values.
        heads: of the attention; they divide the width.
    """

    def __init__(self, channels: int, side: int, width: int, heads: int):
        super().__init__()
        self.position = nn.Parameter(waves(channels, side))
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(channels, 2 * width)
        self.to_keys, self.to_values = _after_looking(width), _after_looking(width)
        self.heads = heads

    def forward(self, x: Tensor, heard: Heard) -> Heard:
        """x (B, channels, side, side), and what is said to it → the same, with what each token saw in x."""
        places = self.norm((x + self.position).flatten(2).transpose(1, 2))
        seen = by_heads(self.heads, self.query(heard.keys), *self.key_value(places).chunk(2, 2))
        keys = heard.keys + self.to_keys(torch.cat([heard.keys, seen], 2))
        values = heard.values + self.to_values(torch.cat([heard.values, seen], 2))
        return Heard(keys, values, heard.there)


def _after_looking(width: int) -> nn.Module:
    """What is said and what was seen, to what is added to what is said."""
    return two_layers(2 * width, 2 * width, width)
