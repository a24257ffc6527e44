"""Which calls add rows by atomic sums: on two threads a processor makes them in any order, so to other last bits."""

import traceback
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

ACCUMULATE = {"aten::index_put": 3, "aten::index_put_": 3, "aten::_index_put_impl_": 3}
"""Operators that may, and which of their arguments says so."""


class SumsInAnyOrder(TorchDispatchMode):
    """While entered, notes every such call of this thread, gradients' too.

    Attributes:
        places: of each, the innermost line of the program that led to it (for gradients the one that asked for them),
            and the shape that is added to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = ACCUMULATE.get(func.name())
        if place is not None and len(args) > place and args[place]:
            ours = [line for line in traceback.extract_stack() if "/trainer/" in line.filename]
            self.places.append(f"{ours[-1].filename}:{ours[-1].lineno} {tuple(args[0].shape)}")
        return func(*args, **(kwargs or {}))
