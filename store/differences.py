"""Where two nested mappings differ: configurations, encoders' identities, origins of shards."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

_LONGEST = 60  # characters of a value that are shown


def differences(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, ignore: Collection[str] = ()
) -> list[str]:
    """Dotted names of the entries in which two nested mappings differ, in their order; [] where they do not.

    An entry that is absent equals None, and a tuple the list that JSON makes of it.

    Args:
        ignore: dotted names that are passed over, with all that lies below them.
    """
    return [name for name, _, _ in _leaves(before or {}, after or {}, "", ignore)]


def changes(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, ignore: Collection[str] = ()
) -> list[str]:
    """As `differences`, each as `name: before → after`."""
    return [f"{name}: {old} → {new}" for name, old, new in _leaves(before or {}, after or {}, "", ignore)]


def difference(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, there: str = "there", here: str = "here"
) -> str:
    """The first entry that differs, with both values: `text.turn: 'answer' there, 'question' here`; "" if none does.

    Args:
        there, here: what to call the places of `before` and `after`.
    """
    for name, old, new in _leaves(before or {}, after or {}, "", ()):
        shown_old, shown_new = _short(old), _short(new)
        if shown_old == shown_new:
            shown_old, shown_new = repr(old), repr(new)
        return f"{name}: {shown_old} {there}, {shown_new} {here}"
    return ""


def _leaves(before: Any, after: Any, where: str, ignore: Collection[str]) -> Iterator[tuple[str, Any, Any]]:
    if where in ignore:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys([*before, *after]):
            yield from _leaves(before.get(name), after.get(name), f"{where}.{name}" if where else str(name), ignore)
    elif _plain(before) != _plain(after):
        yield where, before, after


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    """A value on part of a line: checksums are told apart by their first characters."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:16]}…"
