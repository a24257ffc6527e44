"""Errors meant for people: one line that names the file, the record, what was expected and what to do."""

import reprlib

import click


class ChatPainterError(click.ClickException):
    """Something a person can put right: shown as one line without a traceback, exit status 1."""


class StoreError(ChatPainterError):
    """A store, or one of its shards, is missing, damaged or not the one that is needed."""


class ParamsError(ChatPainterError):
    """params.yaml says something that cannot be understood."""


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
