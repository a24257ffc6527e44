"""Errors meant for people: one line that names the file, the record, what was expected and what to do."""

import click


class ChatPainterError(click.ClickException):
    """Something a person can put right: shown as one line without a traceback, exit status 1."""


class StoreError(ChatPainterError):
    """A store, or one of its shards, is missing, damaged or not the one that is needed."""


class ParamsError(ChatPainterError):
    """params.yaml says something that cannot be understood."""
