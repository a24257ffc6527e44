"""Pickles that would run something: what a file from elsewhere may hold."""

import os
import pickle
from pathlib import Path
from typing import Any


class Hostile:
    """An object whose pickle, once loaded freely, makes the file `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)

    def pickled(self, protocol: int = 2) -> bytes:
        return pickle.dumps(self, protocol)

    @property
    def ran(self) -> bool:
        return self.trace.exists()
