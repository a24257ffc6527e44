"""params.yaml, read strictly: the one file that the pipeline and the trainer share.

Every section becomes a frozen dataclass beside the code that it steers, or one plain value. Which sections there are,
and what each is read as, setup.cfg says in the entry-point group `chatpainter.params`: a new one is a line there.
A key nobody knows is an error and not a silent default, because a misspelt learning rate would otherwise cost days.
"""

import copy
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from store.errors import ParamsError, one_line
from store.typed import build, refuse_unknown, value_of

T = TypeVar("T")
__all__ = [
    "GROUP",
    "Names",
    "build",
    "digest",
    "load",
    "merge",
    "parse",
    "read",
    "refuse_unknown",
    "section",
    "sections",
]

GROUP = "chatpainter.params"
Names = tuple[str, ...]  # of splits, of sample worlds


def load(path: str | Path = "params.yaml") -> dict[str, Any]:
    """The whole file as a dict of plain values.

    Raises:
        ParamsError: as `read`, or it has a section that nobody knows.
    """
    values = read(path, "; run from the project's folder or name the file with --params")
    refuse_unknown(values, list(sections()), str(path))
    return values


def read(path: str | Path, remedy: str = "") -> dict[str, Any]:
    """A YAML file that holds a mapping, as plain values; `remedy`: what to do where it is missing.

    Raises:
        ParamsError: the file is missing, is not YAML in UTF-8, or is not a mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}){remedy}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ParamsError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    values = parse(text, str(path))
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping of sections, found {type(values).__name__}")
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
    return typing.cast(T, value_of(kind, value, f"{where}: {name}"))


def merge(below: Mapping[str, Any], above: Mapping[str, Any] | None) -> dict[str, Any]:
    """`above` laid over `below`, section by section; neither is changed.

    A section that names a preset is a whole recipe: nothing below it counts.
    """
    result = copy.deepcopy(dict(below))
    for name, value in (above or {}).items():
        if isinstance(value, dict) and isinstance(result.get(name), dict) and "preset" not in value:
            result[name] = merge(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


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


def digest(values: Any) -> str:
    """sha256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
