"""Encoder weights as they were published: readers that run nothing from the files, and untrained stand-ins."""

from store.errors import ChatPainterError


class WeightsError(ChatPainterError):
    """A weight file is missing, damaged, or not the file that its name says."""


def shown(text: object, longest: int = 200) -> str:
    """A name from a file or an option as a message can show it: printable, and not without end."""
    said = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text)[: longest + 1])
    return said if len(said) <= longest else f"{said[: longest - 1]}…"
