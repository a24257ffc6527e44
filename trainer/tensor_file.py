"""Files that torch.save wrote, read as tensors and plain values alone: nothing in them can run."""

import re
from pathlib import Path
from typing import Any

import torch

from store.errors import ChatPainterError, one_line

_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)|Unsupported (?:global|class|operand|type)[: ]+([\w.]+)")


def load(path: str | Path, what: str, device: str | torch.device = "cpu") -> Any:
    """What torch.save wrote to `path`.

    torch's own messages advise to try again with `weights_only=False`, which would run what the file holds: they are
    never passed on.

    Args:
        what: it should be, for people: "a checkpoint of tensors and plain values".

    Raises:
        ChatPainterError: there is no such file, it is damaged, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        raise ChatPainterError(f"{path}: not {what} ({_reason(Path(path), error)})") from None


def _reason(path: Path, error: Exception) -> str:
    text = str(error)
    if found := _FORBIDDEN.search(text):
        return f"it holds {found[1] or found[2]}, which is refused"
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK":
        return "damaged, or cut off while it was written or fetched"
    if "weights_only" in text or "nickle" in text or not text.strip():
        return "damaged, or written by another program"
    return one_line(text)
