"""Finished models for people: the library's entry point, the command line and the chat page."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from painter.dialogue import Dialogue as Dialogue
    from painter.painter import Painter as Painter

__all__ = ["Dialogue", "Painter"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `chatpainter-paint --help` should not wait for numpy.
    if name == "Painter":
        from painter.painter import Painter

        return Painter
    if name == "Dialogue":
        from painter.dialogue import Dialogue

        return Dialogue
    raise AttributeError(f"module 'painter' has no attribute {name!r}")
