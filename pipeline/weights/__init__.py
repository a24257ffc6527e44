"""Encoder weights as they were published: readers that run nothing from the files, and untrained stand-ins."""

from store.errors import ChatPainterError


class WeightsError(ChatPainterError):
    """A weight file is missing, damaged, or not the file that its name says."""
