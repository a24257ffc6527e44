"""sha256 of files that are gigabytes long, computed once where that is safe."""

import json
import os
import re
from pathlib import Path

from pipeline.weights import WeightsError
from store.files import in_words, replacing, sha256_file

_SHA256 = re.compile("[0-9a-f]{64}")
_hashed: dict[str, str] = {}  # what this process has hashed: two encoders share files


def sha256(path: Path) -> str:
    """The file's sha256, computed once a process.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        key = _key(path)
        if key not in _hashed:
            _hashed[key] = sha256_file(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    return _hashed[key]


def remembered_sha256(path: Path, known: Path) -> str:
    """As `sha256`, remembered in `known`, a JSON file, by path, inode, size and times.

    Only for files of which no byte is used before the whole has been hashed afresh (`tables`): what decayed on the disk
    looks the same from outside.
    """
    key = _key(path)
    remembered = _read(known)
    if key not in remembered:
        remembered = {other: value for other, value in remembered.items() if not other.startswith(f"{path.resolve()}:")}
        remembered[key] = sha256(path)
        with in_words(known):
            known.parent.mkdir(parents=True, exist_ok=True)
            with replacing(known) as temporary:
                temporary.write_text(json.dumps(remembered, indent=1, sort_keys=True))
    return remembered[key]


def _key(path: Path) -> str:
    status = os.stat(path)
    about = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return ":".join(map(str, (path.resolve(), *about)))


def _read(known: Path) -> dict[str, str]:
    try:
        values = json.loads(known.read_bytes())
        return {key: value for key, value in values.items() if _SHA256.fullmatch(value)}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
