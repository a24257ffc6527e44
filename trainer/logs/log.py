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
from store.files import replacing


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first; a last line cut off by a kill is passed over."""
    records = []
    with contextlib.suppress(FileNotFoundError), open(Path(folder) / "log.jsonl", encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
    return records


def start_log(folder: str | Path, images_seen: int) -> list[dict[str, Any]]:
    """Make the log end at `images_seen`; records beyond it belong to a part of the run that was lost. Returns the rest.

    Raises:
        ChatPainterError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        kept = [record for record in read_log(folder) if record.get("images", 0) <= images_seen]
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    except OSError as error:
        raise ChatPainterError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    return kept


def write_curves(folder: str | Path) -> Path:
    """`curves.csv` from `log.jsonl`: one column a figure, for `dvc plots` and spreadsheets."""
    records = read_log(folder)
    names = list(dict.fromkeys(name for record in records for name in record))
    path = Path(folder) / "curves.csv"
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in record.items()} for record in records)
    return path


def plain(record: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: null stands for it."""
    return {name: value if math.isfinite(value) else None for name, value in record.items()}
