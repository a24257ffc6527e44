"""The shard format: the one thing that the pipeline and the trainer share."""

from typing import TYPE_CHECKING, Any

try:
    import fcntl as _fcntl  # noqa: F401
except ModuleNotFoundError:
    # Not an ImportError: every command imports this room first, and whoever runs one gets this line and no traceback.
    raise SystemExit(
        "Error: ChatPainter runs on Linux and macOS; this Python has no fcntl, which keeps two runs out of one folder. "
        "On Windows use WSL 2 or Docker (docs/platforms.md)"
    ) from None

if TYPE_CHECKING:
    from store.errors import ChatPainterError, StoreError
    from store.manifest import Manifest
    from store.reader import Store
    from store.writer import StoreWriter

__all__ = ["ChatPainterError", "Manifest", "Store", "StoreError", "StoreWriter"]

_HOMES = {"Store": "reader", "StoreWriter": "writer", "Manifest": "manifest", "StoreError": "errors"}


def __getattr__(name: str) -> Any:
    # Commands import `store.errors` to start; numpy and pyarrow are loaded only where rows are read or written.
    import importlib

    if name in __all__:
        return getattr(importlib.import_module(f"store.{_HOMES.get(name, 'errors')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
