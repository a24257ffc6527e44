"""Fetching a weight file by URL: resumed where it broke off, and checked before it gets its name."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pipeline.weights import WeightsError
from pipeline.weights.published import SKIP_THOUGHT, PublishedFile
from store.files import sha256_file

CHUNK = 1 << 20


def fetch(
    url: str,
    folder: Path,
    name: str | None = None,
    sha256: str | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """Fetch `url` into `folder` under `name` (default: the URL's last part); returns the path.

    What has arrived lies in `name`.part and is continued by the next call, if the server can. The file gets its
    name once its hash is right: the one given, else the published one where `name` is a published file's.

    Raises:
        WeightsError: no such URL, a connection that broke (say the same command again), a wrong hash or size.
    """
    if not url.startswith(("http://", "https://", "file://")):
        raise WeightsError(f"{url}: expected an http, https or file URL")
    name = name or url.split("?")[0].rstrip("/").rpartition("/")[2]
    if not name or Path(name).name != name:
        raise WeightsError(f"{url}: does not end in a file's name; say --name")
    known = SKIP_THOUGHT.get(name, PublishedFile(name, None, None, ""))
    expected = sha256.lower() if sha256 else known.sha256
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / name, folder / f"{name}.part"
    if target.exists():
        raise WeightsError(f"{target}: is there already; move it away to fetch it again")
    try:
        _download(url, part, progress)
    except urllib.error.HTTPError as error:
        raise WeightsError(f"{url}: {error.code} {error.reason}") from None
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        so_far = part.stat().st_size if part.exists() else 0
        raise WeightsError(f"{url}: {reason} after {so_far:,} bytes; the same command continues there") from None
    size = part.stat().st_size
    found = sha256_file(part)
    if expected and found != expected:
        part.unlink()
        wanted = f"{known.size:,} bytes and " if known.size and not sha256 else ""
        raise WeightsError(
            f"{url}: what came has {size:,} bytes and sha256 {found}, expected {wanted}sha256 {expected}; "
            "it was thrown away: try another mirror"
        )
    os.replace(part, target)
    return target


def _download(url: str, part: Path, progress: Callable[[int, int | None], None]) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is left: it had all arrived
            return
        raise
    with response, part.open("r+b" if part.exists() else "wb") as file:
        if getattr(response, "status", 200) == 206:
            file.seek(0, os.SEEK_END)
        else:  # the server sends everything from the start
            file.truncate(0)
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        while block := response.read(CHUNK):
            file.write(block)
            done += len(block)
            progress(done, total)
        file.flush()
        os.fsync(file.fileno())
        if total is not None and done < total:
            raise ConnectionError(f"the connection ended at {done:,} of {total:,} bytes")
