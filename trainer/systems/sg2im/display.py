"""Pictures as ImageNet's networks see them, in which sg2im paints, and as people do (google/sg2im, data/utils.py)."""

import torch
from torch import Tensor

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalised(pictures: Tensor) -> Tensor:
    """(b, 3, s, s) in [-1, 1] → each channel minus ImageNet's mean, by its standard deviation."""
    return ((pictures + 1) / 2 - _channels(MEAN, pictures)) / _channels(DEVIATION, pictures)


def shown(pictures: Tensor, rescale: bool = False) -> Tensor:
    """The way back, (b, 3, s, s) → [-1, 1].

    Args:
        rescale: stretch each picture from its least value to its greatest, as sg2im's scripts do; else clamp.
    """
    light = pictures * _channels(DEVIATION, pictures) + _channels(MEAN, pictures)
    if rescale:
        least, greatest = light.flatten(1).aminmax(dim=1)
        span = (greatest - least).clamp(min=torch.finfo(light.dtype).tiny)
        light = (light - least[:, None, None, None]) / span[:, None, None, None]
    return (2 * light - 1).clamp(-1, 1)


def _channels(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype)[:, None, None]
