"""Which files of a folder a store may delete or replace: those that this program wrote, and nobody else's.

A wrong output folder must not cost anyone a file, whatever the file is called.
"""

import json
import os
import re
from pathlib import Path

from store.checksums import CHECKSUMS
from store.errors import StoreError
from store.files import TEMPORARY
from store.manifest import FORMAT, INDEX, MANIFEST, Manifest

_SHARD = re.compile(r"\w+-\d{5,}\.h5")
_TEMPORARY = re.compile(
    rf"({_SHARD.pattern}|{re.escape(INDEX)}|{re.escape(MANIFEST)}|{re.escape(CHECKSUMS)})\.[0-9a-f]{{12}}"
    rf"{re.escape(TEMPORARY)}"
)
_HEAD = 1 << 20  # bytes of a shard in which the name of its format stands


def our_files(folder: Path) -> list[Path]:
    """Every file of the folder that is a store's, finished or not, damaged or not."""
    entries = [entry for entry in sorted(folder.iterdir()) if entry.is_file()]
    listed = _listed(folder)
    shards = [entry for entry in entries if _SHARD.fullmatch(entry.name) and (entry.name in listed or _is_shard(entry))]
    manifest = [entry for entry in entries if entry.name == MANIFEST and _is_manifest(entry)]
    temporary = [entry for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    # Neither says of itself whose it is; beside a store's other files they are the store's.
    others = [entry for entry in entries if entry.name in (INDEX, CHECKSUMS) and (shards or manifest)]
    return [*shards, *manifest, *temporary, *others]


def refuse_foreign(folder: Path, names: set[str]) -> None:
    """Refuse to write `names` where a file of one of them is not a store's.

    Raises:
        StoreError: names the file.
    """
    there = {name for name in names if os.path.lexists(folder / name)}
    if foreign := sorted(there and there - {path.name for path in our_files(folder)}):
        raise StoreError(
            f"{folder / foreign[0]}: was not written by this program and would be replaced; move it away, or choose "
            "another folder"
        )


def _listed(folder: Path) -> set[str]:
    """Names of the shards that a store's manifest in the folder lists."""
    try:
        return {shard.file for shard in Manifest.read(folder).shards}
    except StoreError:
        return set()


def _is_shard(path: Path) -> bool:
    """Says of itself that it is a shard, or holds nothing at all: zeros are what some crashes leave of a file."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
        if FORMAT.encode() in head:
            return True
        while head and not any(head):
            head = file.read(_HEAD)
    return not head


def _is_manifest(path: Path) -> bool:
    if path.stat().st_size == 0:
        return True
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        # Damaged, and ours all the same where the name of the format can still be read.
        return f'"format": "{FORMAT}"'.encode() in path.read_bytes()[:1000]
    return isinstance(values, dict) and values.get("format") == FORMAT
