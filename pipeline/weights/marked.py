"""Folders of weights that this program wrote, marked by a WEIGHTS.json with the sha256 of every file."""

import json
from pathlib import Path
from typing import Any

from pipeline.weights import WeightsError
from pipeline.weights.published import MARKER
from store.files import sha256_file


def read(folder: Path, made_by: str) -> dict[str, Any]:
    """The marker of a folder that the command `made_by` wrote; {} where there is none, or another's."""
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        return marker if marker["made_by"] == made_by and isinstance(marker["files"], dict) else {}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def write(folder: Path, marker: dict[str, Any]) -> None:
    """WEIGHTS.json: `marker`, and the sha256 of all files that lie in the folder."""
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.name != MARKER}
    (folder / MARKER).write_text(json.dumps({**marker, "files": files}, indent=1) + "\n", encoding="utf-8")


def refuse_foreign(out: Path, made_by: str) -> None:
    """Names prove nothing here: published files have the same ones, and some of them can be fetched from nowhere.

    Raises:
        WeightsError: `out` holds anything that the command `made_by` did not write, or that was changed since.
    """
    if not out.exists():
        return
    files = read(out, made_by).get("files", {})
    for path in sorted(out.rglob("*")) if out.is_dir() else [out]:
        name = path.relative_to(out).as_posix()
        if not path.is_symlink() and (path.is_dir() or (name == MARKER and files)):
            continue
        if name not in files or not path.is_file() or files[name] != sha256_file(path):
            raise WeightsError(
                f"{path}: not as `{made_by}` wrote it, and this command replaces all of {out}; move it, or name "
                "another folder with --out"
            )
