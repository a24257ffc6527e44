"""What every step of training needs: precision, rates, optimisers that leave out what is not finite, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainer.config import Machine, Optimisers
from trainer.distributed import average_gradients
from trainer.networks import average

Report = Callable[[Mapping[str, Tensor]], None]


def adam(groups: list[dict], betas: tuple[float, float]) -> torch.optim.Adam:
    """Adam over `groups` of {"params", "lr"}; each group's rate at the start is kept as `initial_lr`."""
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.Adam(groups, betas=betas, fused=True)


def set_learning_rates(optimisers: Optimisers, epoch: int, *adams: torch.optim.Optimizer) -> None:
    """Every group's rate in `epoch`."""
    factor = optimisers.rate(epoch)
    for optimizer in adams:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def rates_of(**adams: torch.optim.Optimizer) -> dict[str, float]:
    """The rate of each one's first group, now, by the name that it is given under."""
    return {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in adams.items()}


def autocast(machine: Machine, device: torch.device) -> torch.autocast:
    """The context that forwards run in at the configured precision: bfloat16 where it may, or nothing at all."""
    return torch.autocast(device.type, torch.bfloat16, enabled=machine.precision == "bfloat16")


class Updates:
    """Steps of optimisers, with the count of those left out.

    Attributes:
        nonfinite: (), steps left out, ever; on the device.
        streak: (), and in a row.
    """

    def __init__(self, device: torch.device) -> None:
        self.nonfinite = torch.zeros((), device=device)
        self.streak = torch.zeros((), device=device)

    def __call__(
        self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], longest: float | None = None
    ) -> Tensor:
        """Average gradients over the processes and step, unless a gradient is not finite; gradients are gone then.

        The fused optimiser skips on the device, so nobody waits to find out.

        Args:
            longest: gradients whose norm is larger are shortened to it.

        Returns:
            () the gradients' norm, before they are shortened.
        """
        average_gradients(parameters)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if longest is not None:
            nn.utils.clip_grads_with_norm_(parameters, longest, norm)
        bad = (~norm.isfinite()).float()
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.nonfinite += bad
        self.streak = (self.streak + bad) * bad
        return norm


class Checkpointed:
    """What a `trainer.systems.Trainable` says of its state, where continuing needs some of its attributes alone.

    Attributes:
        networks: every module.
        checkpointed: names of the attributes that a checkpoint holds, networks and optimisers.
    """

    networks: Sequence[nn.Module]
    checkpointed: ClassVar[tuple[str, ...]]

    def finite(self) -> bool:
        """Whether every weight and statistic is a number; waits for the device."""
        return average.finite(*self.networks)

    def state_dict(self) -> dict[str, Any]:
        """Everything that continuing needs."""
        return {name: getattr(self, name).state_dict() for name in self.checkpointed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for name in self.checkpointed:
            getattr(self, name).load_state_dict(state[name])
