"""Figures with what they mean: a number without its protocol is not written.

`metrics.json` is flat so that `dvc metrics show` and `diff` read it; the full record of every figure (protocol,
network and its sha256, pictures, splits, resize, seed) and every skipped figure with its reason stand in it as lists,
which DVC passes over.
"""

import csv
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from store.files import replacing


@dataclass(frozen=True)
class Figure:
    """One number. `about` holds whatever its protocol fixes: network, sha256, splits, resize, seed, spread.

    Those that are not `shown` stand in the full record only.
    """

    name: str
    value: float
    protocol: str
    pictures: int
    about: dict[str, Any] = field(default_factory=dict)
    shown: bool = True


@dataclass
class Figures:
    """All figures of an evaluation, in order."""

    made: list[Figure] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, value: float, protocol: str, pictures: int, shown: bool = True, **about: Any) -> None:
        """Add one figure."""
        self.made.append(Figure(name, float(value), protocol, int(pictures), about, shown))

    def add_all(
        self,
        prefix: str,
        values: Mapping[str, float],
        protocol: str,
        pictures: int,
        shown: Collection[str],
        **about: Any,
    ) -> None:
        """Add several of one protocol, named PREFIX_NAME; those whose names are in `shown` are shown."""
        for name, value in values.items():
            self.add(f"{prefix}_{name}", value, protocol, pictures, name in shown, **about)

    def skip(self, name: str, reason: str) -> None:
        """Note a figure that cannot be had here, and why."""
        self.skipped.append({"name": name, "reason": reason})

    def shown(self) -> dict[str, float]:
        """The figures that stand flat in metrics.json."""
        return {figure.name: figure.value for figure in self.made if figure.shown}

    def write(self, path: Path, about: dict[str, Any]) -> None:
        """Write metrics.json atomically. `about`: what was evaluated (as one-element list, for DVC to pass over)."""
        values: dict[str, Any] = {name: round(value, 6) for name, value in self.shown().items()}
        record = {
            **values,
            "figures": [asdict(figure) for figure in self.made],
            "skipped": self.skipped,
            "evaluated": [about],
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
