"""Annotation files read with suspicion: a half-downloaded or foreign file ends in one line, not in a traceback."""

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pipeline.corpora.recognise import recognise
from store.errors import ChatPainterError

T = TypeVar("T")

# VisDial v1.0 gives every round 100 candidate answers: nine tenths of the file, and gigabytes once parsed.
# Inside a JSON string the quote would be written \", so that only a real key can match.
_OPTIONS = re.compile(rb'"answer_options"\s*:\s*\[[0-9,\s]*\]')
_WORDS = ("true", "false", "null", "NaN", "-Infinity", "Infinity")
# Numbers are kept in 64 bits from here on.
LEAST, MOST = -(2**63), 2**63 - 1
_LONGEST_LINE = 1 << 24  # characters


def read_object(path: Path, remedy: str, without_options: bool = False) -> dict[str, Any]:
    """The JSON object in `path`; `without_options` empties VisDial's `answer_options` before parsing.

    Raises:
        ChatPainterError: the file is missing, empty, ends in the middle, is something else (an HTML page, an archive,
            ...), is not JSON or not UTF-8, says a thing twice, or is not an object.
    """
    value = _read(path, remedy, without_options)
    if not isinstance(value, dict):
        raise ChatPainterError(f"{path}: expected a JSON object, found {_called(value)}; {remedy}")
    return value


def read_value(path: Path, remedy: str) -> Any:
    """Whatever JSON value is in `path`; raises as `read_object` does."""
    return _read(path, remedy)


def read_list(path: Path, remedy: str) -> list[Any]:
    """The JSON list in `path`; raises as `read_object` does."""
    value = _read(path, remedy)
    if not isinstance(value, list):
        raise ChatPainterError(f"{path}: expected a JSON list, found {_called(value)}; {remedy}")
    return value


def read_lines(path: Path, remedy: str) -> Iterator[tuple[str, Any]]:
    """(where, value) of every line of `path`, each JSON of its own (JSON Lines); empty lines are passed over.

    Raises:
        ChatPainterError: the file is missing or not UTF-8, or a line is not JSON, too long, or says a thing twice.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:  # Windows' editors begin a file with a byte order mark
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), ""), 1):
                where = f"{path}: line {number}"
                if line.strip():
                    try:
                        value = json.loads(line, object_pairs_hook=_once)
                    except (ValueError, RecursionError, MemoryError) as error:
                        raise ChatPainterError(f"{where}: {_why(error, line.encode())}; {remedy}") from None
                    yield where, value
    except UnicodeDecodeError as error:
        raise ChatPainterError(f"{path}: not UTF-8 text (byte {error.start:,}); {remedy}") from None
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None


def _read(path: Path, remedy: str, without_options: bool = False) -> Any:
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
        value = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError, MemoryError) as error:
        what = recognise(data[:512])
        if what and ":" in what:  # says itself what to do
            raise ChatPainterError(f"{path}: not JSON, but {what}") from None
        why = f"not JSON, but {what}" if what else _why(error, data)
        raise ChatPainterError(f"{path}: {why}; {remedy}") from None
    return value


def field(record: Any, name: str, kind: type[T], where: str, least: int = LEAST, most: int = MOST) -> T:
    """`record[name]`, checked to be a `kind`; `where` names file and record in the error.

    A whole number is from `least` to `most`, and a text can be written as UTF-8 (JSON can spell half a character).
    """
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
    if isinstance(value, int) and not least <= value <= most:
        limits = "of 64 bits" if (least, most) == (LEAST, MOST) else f"from {least:,} to {most:,}"
        raise ChatPainterError(f"{where}: {name!r} should be a whole number {limits}, found {_shown(value)}")
    if isinstance(value, str):
        check_text(value, f"{where}: {name!r}")
    return value


def check_text(text: str, what: str) -> None:
    """Refuse a text with half a character in it (a lone surrogate), which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ChatPainterError(
            f"{what} has half a character (\\u{ord(text[error.start]):04x}) at place {error.start}, cut in two by "
            f"whoever wrote it: {_called(text)}"
        ) from None


def fold(text: str) -> str:
    """`text` without outer whitespace, every run of whitespace inside (newlines too) made one space."""
    return " ".join(text.split())


_NAMES: dict[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"an object says {_shown(twice)} twice")
    return found


def _why(error: Exception, data: bytes) -> str:
    """What is wrong with bytes that are not JSON."""
    if not data.strip():
        return "the file is empty but for white space"
    if data.endswith(b"\0"):
        return f"ends in {len(data) - len(data.rstrip(bytes(1))):,} zero bytes, half downloaded?"
    if _cut(error, data):
        return f"ends in the middle after {len(data):,} bytes, half downloaded?"
    if isinstance(error, RecursionError):
        return "not valid JSON (brackets in brackets in brackets, too deep to be meant)"
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    if isinstance(error, UnicodeDecodeError):
        near = data[max(0, error.start - 20) : error.start + 20].decode("latin-1")
        return f"not UTF-8 text (byte {error.start:,}, in {_shown(near)}; ISO-8859-1?), save it as UTF-8"
    if not data.lstrip().startswith((b"{", b"[")):
        return f"not JSON: begins with {_shown(data[:40].decode('utf-8', 'replace'))}"
    if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
        return f"more than one JSON value (the second at line {error.lineno}; JSON Lines?)"
    return f"not valid JSON ({error})"


def _cut(error: Exception, data: bytes) -> bool:
    """Did the parser come to the end of the file and want more?"""
    if isinstance(error, UnicodeDecodeError):
        return error.end >= len(data) and error.reason == "unexpected end of data"
    if not isinstance(error, json.JSONDecodeError):
        return False
    rest = error.doc[error.pos :].strip()
    return (
        not rest
        or error.msg.startswith("Unterminated string")
        or (error.msg == "Expecting value" and any(word.startswith(rest) for word in _WORDS))
        or ("escape" in error.msg and len(rest) <= 6)
    )


def _called(value: Any) -> str:
    return f"{_NAMES.get(type(value), type(value).__name__)} ({_shown(value)})"


def _shown(value: Any) -> str:
    """A value on part of a line, whatever it is made of."""
    try:
        shown = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    except RecursionError:
        return "..."
    return shown if len(shown) <= 40 else shown[:37] + "..."
