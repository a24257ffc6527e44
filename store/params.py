"""params.yaml, read strictly: the one file that the pipeline and the trainer share.

Every section becomes a frozen dataclass beside the code that it steers, or one plain value. Which sections there are,
and what each is read as, setup.cfg says in the entry-point group `chatpainter.params`: a new one is a line there.
A key nobody knows is an error and not a silent default, because a misspelt learning rate would otherwise cost days.
"""

import contextlib
import dataclasses
import difflib
import functools
import importlib.metadata
import math
import types
import typing
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from store.errors import ParamsError, one_line, short

T = TypeVar("T")
GROUP = "chatpainter.params"
Names = tuple[str, ...]  # of splits, of sample worlds


def load(path: str | Path = "params.yaml") -> dict[str, Any]:
    """The whole file as a dict of plain values.

    Raises:
        ParamsError: the file is missing, is not YAML in UTF-8, is not a mapping, or has a section that nobody knows.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(
            f"{path}: cannot be read ({error.strerror}); run from the project's folder or name the file with --params"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ParamsError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    values = parse(text, str(path))
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
    refuse_unknown(values, list(sections()), str(path))
    return values


def parse(text: str, where: str) -> Any:
    """YAML as plain values.

    Raises:
        ParamsError: it is not YAML, or gives a key twice; names the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = one_line(getattr(error, "problem", None) or error)
        raise ParamsError(f"{where}{line}: not valid YAML ({problem})") from None
    except RecursionError:
        raise ParamsError(f"{where}: not valid YAML (lists or mappings nested too deeply)") from None
    except ValueError as error:  # numbers of thousands of digits, the 45th of a month
        raise ParamsError(f"{where}: not valid YAML ({one_line(error)})") from None


@functools.cache
def sections() -> dict[str, importlib.metadata.EntryPoint]:
    """Every section that params.yaml may have; an entry point's `load()` is what the section is read as.

    Raises:
        ParamsError: the project is not installed.
    """
    found = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if not found:
        raise ParamsError(
            "ChatPainter is not installed, or by an older version than this one: pip install -e . in its folder"
        )
    return found


def section(values: dict[str, Any], name: str, kind: type[T], where: str = "params.yaml") -> T:
    """Section `name` of params.yaml as a `kind`: a dataclass, or the type of a plain value (`str`, `Names`).

    An absent section takes a dataclass's defaults.

    Raises:
        ParamsError: names the key, what was found and what was expected.
    """
    value = values.get(name)
    if dataclasses.is_dataclass(kind):
        return build(kind, {} if value is None else value, f"{where}: {name}")
    if value is None:
        raise ParamsError(f"{where}: {name} must be given")
    return typing.cast(T, _value(kind, value, f"{where}: {name}"))


def build(kind: type[T], values: Any, where: str) -> T:
    """`values` (a mapping) as an instance of the frozen dataclass `kind`, every key known and every type right.

    Raises:
        ParamsError: names the key, what was found and what was expected.
    """
    assert dataclasses.is_dataclass(kind)
    if not isinstance(values, dict):
        raise ParamsError(f"{where}: expected a mapping, found {short(values)}")
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
            raise ParamsError(f"{where}: unknown key {short(name)}; {hint}")


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
            raise ParamsError(f"{where}: {short(value)} is not one of {', '.join(map(str, options))}")
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ParamsError(f"{where}: expected a list, found {short(value)}")
        if origin is tuple and options and options[-1] is not Ellipsis:
            if len(value) != len(options):
                raise ParamsError(f"{where}: expected {len(options)} values, found {len(value)}")
            return tuple(_value(option, item, f"{where}[{i}]") for i, (option, item) in enumerate(zip(options, value)))
        return origin(_value(options[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ParamsError(f"{where}: expected a mapping, found {short(value)}")
        return {
            _value(options[0], key, f"{where}: key"): _value(options[1], item, f"{where}.{key}")
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


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that is given twice: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, Any]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)
