"""Vectors of objects laid out on the picture, and crops of pictures (google/sg2im, layout.py and bilinear.py).

Boxes are x0, y0, x1, y1 in fractions of the picture's side, 0 at the centre of its first pixel and 1 at that of its
last (`align_corners=True`, as torch sampled when sg2im was written).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.systems.sg2im.graph import Graphs

THINNEST = 1e-3
"""A box's least width and height, either way round: a thinner one would be divided by nothing."""
PATCH = 8
"""Side of what stands for a mask where there is none, all ones."""


def layout(graphs: Graphs, vectors: Tensor, boxes: Tensor, masks: Tensor | None, size: tuple[int, int]) -> Tensor:
    """The sum of each picture's objects, every one drawn through its mask into its box.

    Args:
        vectors: (o, d), one an object.
        boxes: (o, 4).
        masks: (o, m, m) from 0 to 1; None: objects fill their boxes.
        size: (height, width).

    Returns:
        (b, d, height, width).
    """
    if masks is None:
        masks = vectors.new_ones(len(vectors), PATCH, PATCH)
    drawn = F.grid_sample(
        masks[:, None].to(vectors.dtype), places(boxes, size), "bilinear", "zeros", align_corners=True
    )[:, 0]
    # A vector is the same all over its mask, so masks alone are sampled, and pictures summed as products of matrices.
    summed = graphs.padded(vectors).transpose(1, 2) @ graphs.padded(drawn).flatten(2)
    return summed.unflatten(2, size)


def crop(pictures: Tensor, boxes: Tensor, image: Tensor, side: int | tuple[int, int]) -> Tensor:
    """(b, c, h, w), of which the boxes (o, 4) of the pictures `image` (o,) are seen as (o, c, side, side)."""
    height, width = (side, side) if isinstance(side, int) else side
    x0, y0, x1, y1 = (2 * boxes - 1)[:, :, None].unbind(1)
    across = torch.lerp(x0, x1, _steps(width, boxes))
    down = torch.lerp(y0, y1, _steps(height, boxes))
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), 3)
    return F.grid_sample(pictures.index_select(0, image), grid, "bilinear", "zeros", align_corners=True)


def places(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(o, height, width, 2): where in its box, from -1 to 1, each place of the picture lies."""
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    across = (_steps(size[1], boxes) - x0) / _thick(x1 - x0)
    down = (_steps(size[0], boxes) - y0) / _thick(y1 - y0)
    return 2 * torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), 3) - 1


def _thick(extent: Tensor) -> Tensor:
    thinnest = torch.where(extent < 0, -THINNEST, THINNEST).to(extent.dtype)
    return torch.where(extent.abs() < THINNEST, thinnest, extent)


def _steps(count: int, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, count, device=like.device, dtype=like.dtype)
