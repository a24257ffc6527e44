"""Where the encoders compute, and how exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from store.errors import ChatPainterError

if TYPE_CHECKING:
    import torch


def device(name: str) -> "torch.device":
    """The torch device for `cpu`, `cuda` or `auto` (a GPU where there is one).

    Raises:
        ChatPainterError: `cuda` where torch finds none.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ChatPainterError("params.yaml: encoders.device is cuda, but torch finds no GPU; say cpu or auto")
    return torch.device(name)


@contextmanager
def fp32_precision(name: str) -> Iterator[None]:
    """TF32 off (float32) or on (tf32) for matrix products and convolutions, as before afterwards; no gradients."""
    import torch

    wanted = "tf32" if name == "tf32" else "ieee"
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    if hasattr(torch.backends.mkldnn, "matmul"):
        backends.append(torch.backends.mkldnn.matmul)
    if hasattr(torch.backends.cudnn, "conv"):
        backends += [torch.backends.cudnn.conv, torch.backends.cudnn.rnn]  # type: ignore[attr-defined,unused-ignore]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = wanted
    try:
        with torch.inference_mode():
            yield
    finally:
        for backend, value in zip(backends, before):
            backend.fp32_precision = value
