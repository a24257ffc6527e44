"""params.yaml, read strictly: the one file that the pipeline and the trainer share.

Every section becomes a frozen dataclass. A key nobody knows is an error and not a silent default, because a
misspelt learning rate would otherwise cost days.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from store.errors import ParamsError

T = TypeVar("T")

# Every section that params.yaml may have. Each is a dataclass beside the code that it steers.
SECTIONS = (
    *("dataset", "raw", "visdial_version", "splits", "worlds", "world", "corpus", "images"),
    *("text", "encoders", "untrained", "embed"),
    *("model", "stage1", "stage2", "evaluate"),
)


def load(path: str | Path = "params.yaml") -> dict[str, Any]:
    """The whole file as a dict of plain values.

    Raises:
        ParamsError: the file is missing, is not YAML, is not a mapping, or has a section that nobody knows.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(
            f"{path}: cannot be read ({error.strerror}); run from the project's folder or name the file with --params"
        ) from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ParamsError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    refuse_unknown(values, SECTIONS, str(path))
    return values


def section(values: dict[str, Any], name: str, kind: type[T], where: str = "params.yaml") -> T:
    """Section `name` of params.yaml as an instance of the dataclass `kind`; an absent section takes the defaults."""
    return build(kind, values.get(name) or {}, f"{where}: {name}")


def build(kind: type[T], values: Any, where: str) -> T:
    """`values` (a mapping) as an instance of the frozen dataclass `kind`, every key known and every type right.

    Raises:
        ParamsError: names the key, what was found and what was expected.
    """
    assert dataclasses.is_dataclass(kind)
    if not isinstance(values, dict):
        raise ParamsError(f"{where}: expected a mapping, found {values!r}")
    hints = typing.get_type_hints(kind)
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
    arguments = {name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
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
            raise ParamsError(f"{where}: unknown key {name!r}; {hint}")


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        rest = [option for option in options if option is not type(None)]
        for option in rest[:-1]:
            try:
                return _value(option, value, where)
            except ParamsError:
                continue
        return _value(rest[-1], value, where)
    if origin is typing.Literal:
        if value not in options or (isinstance(value, bool) and not any(o is value for o in options)):
            raise ParamsError(f"{where}: {value!r} is not one of {', '.join(map(str, options))}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ParamsError(f"{where}: expected a list, found {value!r}")
        if origin is tuple and options and options[-1] is not Ellipsis:
            if len(value) != len(options):
                raise ParamsError(f"{where}: expected {len(options)} values, found {len(value)}")
            return tuple(_value(option, item, f"{where}[{i}]") for i, (option, item) in enumerate(zip(options, value)))
        return origin(_value(options[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ParamsError(f"{where}: expected a mapping, found {value!r}")
        return {key: _value(options[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 2e-4 (no dot) as text; people mean the number.
        try:
            return float(value)
        except ValueError:
            pass
    if hint in (int, float, str, bool) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ParamsError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
