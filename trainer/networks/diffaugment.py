"""DiffAugment (Zhao et al., 2020): translation and cutout, differentiable, on what the discriminator sees.

Its colour part is left out, and nothing is mirrored: colours and sides are what captions and dialogues speak of.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

DRAWS = 4


def diffaugment(pictures: Tensor, draws: Tensor) -> Tensor:
    """pictures (B, c, s, s) in [-1, 1] → the same shape, each shifted by up to s/8 and with a square of s/2 blanked.

    Args:
        draws: (B, 4) uniform in [0, 1): the shifts down and across, the square's centre.
    """
    return cutout(translate(pictures, draws[:, :2]), draws[:, 2:])


def translate(pictures: Tensor, draws: Tensor, ratio: float = 0.125) -> Tensor:
    """Shift each picture by its own whole number of pixels both ways, zeros coming in; draws (B, 2) in [0, 1)."""
    b, _, h, w = pictures.shape
    reach_y, reach_x = round(h * ratio), round(w * ratio)
    dy = (draws[:, :1] * (2 * reach_y + 1)).long() - reach_y
    dx = (draws[:, 1:] * (2 * reach_x + 1)).long() - reach_x
    rows = (torch.arange(h, device=pictures.device) + dy + 1).clamp(0, h + 1)
    columns = (torch.arange(w, device=pictures.device) + dx + 1).clamp(0, w + 1)
    padded = F.pad(pictures, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    batch = torch.arange(b, device=pictures.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(pictures: Tensor, draws: Tensor, ratio: float = 0.5) -> Tensor:
    """Zero a square of `ratio` of each side around a random point, draws (B, 2); it may reach over the edge."""
    _, _, h, _ = pictures.shape
    size = round(h * ratio)
    down, across = (draws * (h + 1 - size % 2)).long()[:, :, None].unbind(1)
    along = torch.arange(h, device=pictures.device) + size // 2
    near_rows, near_columns = (along - down) // size == 0, (along - across) // size == 0
    return pictures * ~(near_rows[:, :, None] & near_columns[:, None, :])[:, None]
