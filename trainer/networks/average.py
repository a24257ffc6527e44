"""A network's running average over training, and BatchNorm that stands still."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, half_life: int, images_seen: int, batch: int) -> None:
    """Move `average`, buffers included, towards `network`, so that a weight's share halves every `half_life` pictures.

    Early on the half-life is a twentieth of what was seen, or the random start would linger (Karras et al., 2020).

    Args:
        images_seen: pictures seen, the `batch` of this step included.
    """
    reach = min(half_life, 0.05 * images_seen)
    decay = 0.5 ** (batch / reach) if reach else 0.0
    ours, theirs = average.state_dict(), network.state_dict()
    floating = [name for name, value in ours.items() if value.is_floating_point()]
    # state_dict's tensors are the module's own, so they move in place; torch types its helper for parameters alone.
    move = get_ema_multi_avg_fn(decay)
    move([cast(nn.Parameter, ours[name]) for name in floating], [theirs[name] for name in floating], 0)


@torch.no_grad()
def decay_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the parameters of `average` towards those of `network`, as StackGAN++ and AttnGAN do in every iteration.

    Statistics of BatchNorm are not averaged: `average` has those of `network`.
    """
    move = get_ema_multi_avg_fn(decay)
    move(list(average.parameters()), list(network.parameters()), 0)
    for ours, theirs in zip(average.buffers(), network.buffers(), strict=True):
        ours.copy_(theirs)


@contextmanager
def unmoved_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorm uses the batch as ever but leaves its running statistics alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before):
            norm.momentum = momentum


def finite(*modules: nn.Module) -> bool:
    """Whether every weight and statistic is a number; waits for the device."""
    values: list[Tensor] = [
        value for module in modules for value in module.state_dict().values() if value.is_floating_point()
    ]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())
