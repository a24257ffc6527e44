"""Where tensors are computed, and how exactly: one choice for encoders, trainings and painting.

The only place of this room that names torch; it is imported when a device is asked for.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from store.errors import ChatPainterError, one_line, short

if TYPE_CHECKING:
    import torch


def choose(name: str, asked: str = "--device", local: int = 0) -> "torch.device":
    """The device that a name means.

    Args:
        name: "cpu", "cuda" (the GPU of this process), "cuda:3", or "auto" (a GPU where there is one).
        asked: where the name was given, for messages.
        local: number of this process among those of this machine; each has a GPU of its own.

    Raises:
        ChatPainterError: no such device here, or more processes on this machine than GPUs.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ChatPainterError(f"{asked} {short(name)}: expected auto, cpu, cuda or cuda:N") from None
    if device.type != "cuda":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ChatPainterError(f"{asked} {short(name)}: {one_line(error)}; say auto or cpu") from None
        return device
    if not gpus:
        raise ChatPainterError(f"{asked} is {name}, but torch finds no GPU; say cpu or auto")
    index = local if device.index is None else device.index
    if index >= gpus:
        raise ChatPainterError(
            f"{asked} is {name}: process {local} of this machine wants cuda:{index}, but there are {gpus} GPUs; name"
            " another, or start torchrun with --nproc-per-node no larger than that"
        )
    return torch.device("cuda", index)


def visible_gpus() -> list[str]:
    """The GPUs that torch finds here, by the names that CUDA_VISIBLE_DEVICES has for them, or by number."""
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(found)) if named is None else (name.strip() for name in named.split(","))
    return list(names)[:found]


@contextmanager
def fp32_precision(name: str) -> Iterator[None]:
    """What float32 means for a GPU's matrix products and convolutions, as before afterwards.

    Args:
        name: "float32" asks for all bits; others ("tf32", "bfloat16" for what autocast leaves) allow TF32's ten.
    """
    import torch

    # The newer fp32_precision of these backends cannot be mixed with allow_tf32, which torch.compile reads.
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = name != "float32"
    try:
        yield
    finally:
        for backend, value in zip(backends, before):
            backend.allow_tf32 = value
