"""Annotation files read with suspicion: a half-downloaded or foreign file ends in one line, not in a traceback."""

import json
import mmap
import re
from pathlib import Path
from typing import Any, TypeVar

from store.errors import ChatPainterError

T = TypeVar("T")

# VisDial v1.0 gives every round 100 candidate answers: nine tenths of the file, and gigabytes once parsed.
# Inside a JSON string the quote would be written \", so that only a real key can match.
_OPTIONS = re.compile(rb'"answer_options"\s*:\s*\[[0-9,\s]*\]')


def read_object(path: Path, remedy: str, without_options: bool = False) -> dict[str, Any]:
    """The JSON object in `path`; `without_options` empties VisDial's `answer_options` before parsing.

    Raises:
        ChatPainterError: the file is missing, empty, ends in the middle, is not JSON, or is not an object.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise ChatPainterError(f"{path}: the file is empty; {remedy}")
            if without_options:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                    data = _OPTIONS.sub(b'"answer_options":[]', whole)
            else:
                data = file.read()
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        if data.rstrip()[-1:] not in (b"}", b"]"):
            raise ChatPainterError(
                f"{path}: ends in the middle after {path.stat().st_size:,} bytes, half downloaded?; {remedy}"
            ) from None
        raise ChatPainterError(f"{path}: not valid JSON ({error}), half downloaded?; {remedy}") from None
    if not isinstance(value, dict):
        raise ChatPainterError(f"{path}: expected a JSON object, found {_called(value)}; {remedy}")
    return value


def field(record: Any, name: str, kind: type[T], where: str) -> T:
    """`record[name]`, checked to be a `kind`; `where` names file and record in the error."""
    if not isinstance(record, dict):
        raise ChatPainterError(f"{where}: expected an object with {name!r}, found {_called(record)}")
    if name not in record:
        raise ChatPainterError(
            f"{where}: {name!r} is missing; found {', '.join(map(repr, list(record)[:8])) or 'nothing'}"
        )
    value = record[name]
    # True is an int to Python, but not to the people who wrote these files.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ChatPainterError(f"{where}: {name!r} should be {_NAMES[kind]}, found {_called(value)}")
    return value


def fold(text: str) -> str:
    """`text` without outer whitespace, every run of whitespace inside (newlines too) made one space."""
    return " ".join(text.split())


_NAMES: dict[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def _called(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return f"{_NAMES.get(type(value), type(value).__name__)} ({shown})"
