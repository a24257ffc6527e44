"""The two outcomes that bad input may have: right, or refused in one line."""

from collections.abc import Callable
from typing import TypeVar

from click.testing import Result

from store.errors import ChatPainterError

Value = TypeVar("Value")


def right_or_refused(call: Callable[[], Value]) -> tuple[Value | None, str]:
    """(what the call gave, "") or (None, its one line); any other exception is the test's failure."""
    try:
        return call(), ""
    except ChatPainterError as error:
        return None, one_line(error.message)


def one_line(message: str, longest: int = 2000) -> str:
    """The message, held to what every message keeps: a line of words that a terminal can show."""
    assert message.strip(), "an empty message"
    assert "\n" not in message, f"several lines: {message!r}"
    assert len(message) <= longest, f"{len(message)} characters: {message[:200]!r}"
    message.encode()  # no lone surrogates
    return message


def refused(result: Result) -> str:
    """The one line in which a command ended, with status 1."""
    assert result.exit_code == 1, f"status {result.exit_code}: {result.output}"
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return one_line(lines[0])
