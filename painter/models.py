"""Which models there are to paint with: those that somebody names, the last run below runs/, and the shipped one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from painter import shipped
from trainer import systems


@dataclass(frozen=True)
class Model:
    """A run's folder, an exported model's folder, or a generator file.

    Attributes:
        name: for people; never a path.
        about: what is to be said of it before it paints; "" where nothing is.
    """

    name: str
    path: Path
    about: str = ""


SHIPPED = Model("shipped sample model", shipped.FOLDER, f"{shipped.ABOUT}; name another with --run")


def find(run: Path | None) -> Model:
    """The one that is named, else that of the last training below runs/, else the shipped one."""
    if run is not None:
        return Model(run.stem if run.suffix else run.resolve().name, run)
    for name in reversed(systems.lineage(systems.LAST)):
        if (Path("runs") / name / "generator.safetensors").is_file():
            return Model(name, Path("runs") / name)
    return SHIPPED


def choice(runs: Sequence[Path]) -> list[Model]:
    """Those to choose from, the first one to begin with: all that are named, or what `find` finds and the shipped one.

    Two of one name are told apart by a number.
    """
    found = [find(run) for run in runs] or list(dict.fromkeys((find(None), SHIPPED)))
    names = [model.name for model in found]
    numbered = (f"{name} {names[:place].count(name) + 1}" if names.count(name) > 1 else name
                for place, name in enumerate(names))  # fmt: skip
    return [Model(name, model.path, model.about) for name, model in zip(numbered, found)]
