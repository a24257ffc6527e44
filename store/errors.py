"""Errors meant for people: one line that names the file, the record, what was expected and what to do."""

import reprlib

import click


class ChatPainterError(click.ClickException):
    """Something a person can put right: shown as one line without a traceback, exit status 1.

    What a terminal cannot show as part of a line, such as a line break in a file's name, is shown as Python writes it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class StoreError(ChatPainterError):
    """A store, or one of its shards, is missing, damaged or not the one that is needed."""


class ParamsError(ChatPainterError):
    """params.yaml says something that cannot be understood."""


def printable(text: str) -> str:
    """The text with line breaks, control characters and lone surrogates as Python writes them in a string."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: object) -> str:
    """What somebody else's library says, on one line of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def short(value: object) -> str:
    """A value of any size, as Python writes it, for part of a line."""
    return one_line(_shortener.repr(value))


_LONGEST = 160
_shortener = reprlib.Repr()
_shortener.maxlevel = 2
_shortener.maxstring = _shortener.maxother = _shortener.maxlong = 80
