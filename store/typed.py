"""Plain values as they come from YAML or JSON, made into frozen dataclasses: every key known, every type right."""

import contextlib
import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from store.errors import ParamsError, short

T = TypeVar("T")


def build(kind: type[T], values: Any, where: str) -> T:
    """`values` (a mapping) as an instance of the frozen dataclass `kind`, every key known and every type right.

    Raises:
        ParamsError: names the key, what was found and what was expected.
    """
    assert dataclasses.is_dataclass(kind)
    if not isinstance(values, dict):
        raise ParamsError(f"{where}: expected a mapping, found {short(values)}")
    hints = _hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    refuse_unknown(values, known, where)
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ParamsError(f"{where}: {', '.join(missing)} must be given")
    arguments = {name: value_of(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return typing.cast(T, kind(**arguments))
    except ValueError as error:
        raise ParamsError(f"{where}: {error}") from None


def refuse_unknown(values: dict[str, Any], known: Sequence[str], where: str) -> None:
    """Raise ParamsError for the first key of `values` that is not in `known`, with the nearest known key."""
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ParamsError(f"{where}: unknown key {short(name)}; {hint}")


def value_of(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint` (of a dataclass's field, or of a plain value).

    Raises:
        ParamsError: names the key, what was found and what was expected.
    """
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        rest = [option for option in options if option is not type(None)]
        for option in rest[:-1]:
            try:
                return value_of(option, value, where)
            except ParamsError:
                continue
        return value_of(rest[-1], value, where)
    if origin is typing.Literal:
        if value not in options or (isinstance(value, bool) and not any(o is value for o in options)):
            raise ParamsError(f"{where}: {short(value)} is not one of {', '.join(map(str, options))}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ParamsError(f"{where}: expected a list, found {short(value)}")
        if origin is tuple and options and options[-1] is not Ellipsis:
            if len(value) != len(options):
                raise ParamsError(f"{where}: expected {len(options)} values, found {len(value)}")
            return tuple(
                value_of(option, item, f"{where}[{i}]") for i, (option, item) in enumerate(zip(options, value))
            )
        return origin(value_of(options[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ParamsError(f"{where}: expected a mapping, found {short(value)}")
        return {
            value_of(options[0], key, f"{where}: key"): value_of(options[1], item, f"{where}.{key}")
            for key, item in value.items()
        }
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML 1.1 reads 2e-4 (no dot) as text; people mean the number.
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if hint is float and isinstance(value, float) and math.isnan(value):
        raise ParamsError(f"{where}: expected a number, found nan")
    if hint in (int, float, str, bool) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ParamsError(f"{where}: expected {hint.__name__}, found {short(value)}")
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
