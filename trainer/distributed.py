"""One process a device, started by torchrun: who we are, what all must agree on, and gradients averaged in the open.

There is no DistributedDataParallel: its hooks and buffer broadcasts break on two forwards with one backward, on
penalties and on frozen parts (pytorch#175024). A GAN step needs one flat all-reduce a network, and here it is.
Without torchrun everything below is a no-op for a world of one.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous

from store import devices
from store.errors import ChatPainterError

T = TypeVar("T")
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Ranks:
    """This process among the others."""

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Rank 0: the only one that writes files and prints."""
        return self.rank == 0


def start(device: str = "auto") -> Ranks:
    """Join the other processes (RANK, WORLD_SIZE, LOCAL_RANK as torchrun sets them) and choose the device.

    `device` is as in `store.devices.choose`. CPU tensors travel over gloo, also between GPU processes, so that small
    agreements never wait for a GPU.

    Raises:
        ChatPainterError: no such device, or more processes on this machine than GPUs.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = devices.choose(device, local=int(os.environ.get("LOCAL_RANK", 0)))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=_meeting_place(), rank=rank, world_size=world)
    return Ranks(rank, world, chosen)


_meetings: list[dist.Store] = []


def _meeting_place() -> dist.Store:
    """Where the processes find each other, kept from one `start` to the next.

    A process that ends one run early and starts another would else meet the others of the run that still goes on.
    """
    if not _meetings:
        _meetings.append(next(rendezvous("env://"))[0])
    _meetings.append(dist.PrefixStore(f"start {len(_meetings)}", _meetings[0]))
    return _meetings[-1]


def stop() -> None:
    """Leave the group, at the end of a run; another `start` may follow."""
    if dist.is_initialized():
        dist.destroy_process_group()


def agree(flag: bool) -> bool:
    """True on every process when it is True on any: the way to stop together. No device is waited for."""
    if not dist.is_initialized():
        return flag
    votes = torch.tensor([int(flag)])
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return bool(votes.item())


def from_main(value: T) -> T:
    """Rank 0's small plain value (numbers, strings, lists, dicts), on every process."""
    if not dist.is_initialized():
        return value
    box: list[T] = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def wait_for_all() -> None:
    """Return once every process has come here (rank 0 has written what the others read next)."""
    agree(False)


def broadcast_parameters(*modules: nn.Module) -> None:
    """Give every process rank 0's parameters and buffers, in place; at the start, after loading."""
    if not dist.is_initialized():
        return
    with torch.no_grad():
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                # A channels_last weight is not contiguous, and collectives want contiguous memory.
                whole = tensor.contiguous()
                dist.broadcast(whole, src=0)
                tensor.copy_(whole)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, with one flat all-reduce a dtype.

    Parameters without a gradient are passed over: every process runs the same step, so they are the same ones.
    """
    if not dist.is_initialized():
        return
    by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_dtype.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view(gradient.shape))


class _Rows(torch.autograd.Function):
    """See `gather_rows`."""

    @staticmethod
    def forward(context: Any, rows: torch.Tensor) -> torch.Tensor:
        context.count = len(rows)
        pieces = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(pieces, rows.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        first = dist.get_rank() * context.count
        return gradient[first : first + context.count]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """rows (b, …) of every process below each other, (world b, …); what comes back as gradient is summed over them."""
    if not dist.is_initialized():
        return rows
    if rows.dtype == torch.bool:
        return gather_rows(rows.to(torch.uint8)).bool()
    gathered: torch.Tensor = _Rows.apply(rows)
    return gathered


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The sum over the processes of a small contiguous tensor, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def synchronise_batchnorm(module: Module, ranks: Ranks) -> Module:
    """`module` with statistics taken over all processes; state_dict keys stay the same. A world of one changes nothing.

    Raises:
        ChatPainterError: several processes on CPUs, for which torch has no SyncBatchNorm.
    """
    if ranks.world == 1:
        return module
    if ranks.device.type != "cuda":
        raise ChatPainterError("sync_batchnorm needs CUDA devices; switch it off for CPU processes")
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)
