"""`log.jsonl`: one record a tick, read, shortened where a run starts again, and as a table.

A run that starts again at N images drops the records beyond N, so the log of a run that was killed reads like the log
of one that was not.
"""

import contextlib
import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.errors import ChatPainterError
from store.files import in_words, replacing, unwritten

MEASURED = frozenset({"seconds", "sec_per_kimg", "img_per_s", "data_wait", "cpu_gib", "gpu_gib", "gpu_reserved_gib"})
"""Figures of the machine and its load; all others follow from the training alone."""


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first; a last line cut off by a kill is passed over."""
    records = []
    with contextlib.suppress(FileNotFoundError), open(Path(folder) / "log.jsonl", encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
    return records


class LogFile:
    """`log.jsonl` of a run that starts at `images_seen`, open for records; those beyond it were lost, and are dropped.

    Attributes:
        kept: the records before it, oldest first.

    Raises:
        ChatPainterError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, images_seen: int) -> None:
        self._folder = Path(folder)
        try:
            self.kept = [record for record in read_log(folder) if record.get("images", 0) <= images_seen]
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / "log.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(record) + "\n" for record in self.kept), encoding="utf-8")
            self._file = open(self._folder / "log.jsonl", "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise ChatPainterError(f"{folder}: {unwritten(error, 'name another folder')}") from None

    def write(self, record: Mapping[str, float]) -> None:
        """One line, there when this returns, or none of it. JSON has no NaN: null stands for it.

        Raises:
            StoreError: it cannot be written.
        """
        values = {name: value if math.isfinite(value) else None for name, value in record.items()}
        line, end = (json.dumps(values) + "\n").encode(), self._file.tell()
        with in_words(self._folder / "log.jsonl"):
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                raise

    def close(self) -> None:
        """Close it and write `curves.csv` from it: one column a figure, for `dvc plots` and spreadsheets.

        It lacks what was measured, so that the same training writes the same bytes.

        Raises:
            StoreError: it cannot be written.
        """
        self._file.close()
        records = read_log(self._folder)
        names = list(dict.fromkeys(name for record in records for name in record if name not in MEASURED))
        path = self._folder / "curves.csv"
        with in_words(path), replacing(path) as temporary:
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, names, restval="", extrasaction="ignore")
                writer.writeheader()
                for record in records:
                    writer.writerow({name: "" if value is None else value for name, value in record.items()})
