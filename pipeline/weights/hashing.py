"""sha256 of files that are gigabytes long, computed once."""

import hashlib
import json
import os
import tempfile
from pathlib import Path


def sha256(path: Path, known: Path | None = None) -> str:
    """The file's sha256. `known`, a JSON file, remembers it by path, size and modification time."""
    status = path.stat()
    key = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
    remembered = _read(known)
    if key not in remembered:
        with path.open("rb") as file:
            remembered = {key: hashlib.file_digest(file, "sha256").hexdigest()}
        if known is not None and status.st_size > 1 << 20:
            write_atomically(known, json.dumps(_read(known) | remembered, indent=1, sort_keys=True).encode())
    return remembered[key]


def _read(known: Path | None) -> dict[str, str]:
    try:
        return json.loads(known.read_text()) if known is not None else {}
    except (OSError, ValueError):
        return {}


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` is either as before or complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
