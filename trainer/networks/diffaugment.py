"""DiffAugment (Zhao et al., 2020): translation and cutout, differentiable, on what the discriminator sees.

Its colour part is left out, and nothing is mirrored: colours and sides are what captions and dialogues speak of.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def diffaugment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """pictures (B, c, s, s) in [-1, 1] → the same shape, each shifted by up to s/8 and with a square of s/2 blanked."""
    return cutout(translate(pictures, generator), generator)


def translate(pictures: Tensor, generator: torch.Generator, ratio: float = 0.125) -> Tensor:
    """Shift each picture by its own whole number of pixels both ways, zeros coming in."""
    b, _, h, w = pictures.shape
    reach_y, reach_x = round(h * ratio), round(w * ratio)
    dy = torch.randint(-reach_y, reach_y + 1, (b, 1), generator=generator, device=pictures.device)
    dx = torch.randint(-reach_x, reach_x + 1, (b, 1), generator=generator, device=pictures.device)
    rows = (torch.arange(h, device=pictures.device) + dy + 1).clamp(0, h + 1)
    columns = (torch.arange(w, device=pictures.device) + dx + 1).clamp(0, w + 1)
    padded = F.pad(pictures, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    batch = torch.arange(b, device=pictures.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(pictures: Tensor, generator: torch.Generator, ratio: float = 0.5) -> Tensor:
    """Zero a square with sides `ratio` of the picture's around a random point; it may reach over the edge."""
    b, _, h, _ = pictures.shape
    size = round(h * ratio)
    centre = torch.randint(0, h + 1 - size % 2, (2, b, 1), generator=generator, device=pictures.device)
    near = (torch.arange(h, device=pictures.device) - centre + size // 2) // size == 0
    return pictures * ~(near[0][:, :, None] & near[1][:, None, :])[:, None]
