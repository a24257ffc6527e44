"""Files that are either whole or absent, and file-system errors in words for people."""

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from store.errors import StoreError, short

TEMPORARY = ".tmp"
_UNFINISHED = re.compile(rf".+\.[0-9a-f]{{12}}{re.escape(TEMPORARY)}")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def sha256_file(path: Path) -> str:
    """The checksum that `sha256sum` prints for the file."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, moved over it once the block ended well; left nowhere when it did not."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unfinished(folder: Path) -> list[Path]:
    """What `replacing` left below a folder where it was killed; files of other names are somebody else's."""
    return [path for path in folder.rglob(f"*{TEMPORARY}") if _UNFINISHED.fullmatch(path.name)]


def inside(folder: Path, name: object, stated_in: object = None) -> Path:
    """`folder / name` for a name that some file states, once it is known to stay in the folder.

    Links that lie in the folder are followed: whoever put them there meant it.

    Args:
        stated_in: the file (and record) that states the name, for the message.

    Raises:
        StoreError: no text, empty, absolute, with `..` on any system's way of writing, or a name that no file can have.
    """
    fault = _name_fault(name)
    if fault:
        raise StoreError(f"{stated_in or folder}: the file name {short(name)} {fault}")
    return folder / str(name)


def _name_fault(name: object) -> str | None:
    if not isinstance(name, str):
        return "is no text"
    if not name or name in (".", "./"):
        return "is empty"
    if "\0" in name:
        return "has a NUL character, which no file's name can have"
    if _CONTROLS.search(name):
        return "has a control character (the end of a line, say), which no message could show"
    windows = PureWindowsPath(name)  # knows backslashes, slashes, drives and shares
    if name.startswith("/") or windows.drive or windows.root:
        return "is absolute; it should be relative to its folder"
    if ".." in windows.parts:
        return "leads out of its folder"
    try:
        if max(map(len, map(os.fsencode, name.split("/")))) > 255 or len(os.fsencode(name)) > 4000:
            return "is longer than a file's name can be"
    except UnicodeEncodeError:
        return "has a lone surrogate, which no file's name can have"
    return None


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder; they order renames themselves
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a StoreError that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error_in_words(error)}") from error


@contextlib.contextmanager
def system_errors(kind: type[Exception], number: str) -> Iterator[None]:
    """An OSError for what a library raises as `kind`, with the system's number in the text alone: `number` finds it."""
    try:
        yield
    except kind as error:
        found = re.search(number, str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def is_full(error: OSError) -> bool:
    """Whether what the operating system refused is more space on a disk."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def unwritten(error: OSError, remedy: str) -> str:
    """One clause about a file that cannot be written: what to do about a full disk, else `remedy`."""
    return error_in_words(error) if is_full(error) else f"cannot be written ({error.strerror or error}); {remedy}"


def error_in_words(error: OSError) -> str:
    """One clause that says what the operating system refused, and what to do about it."""
    if is_full(error):
        return "the disk is full; free some space and run the same command again"
    if error.errno == errno.EFBIG:
        return "larger than a file may be here; raise the limit (ulimit -f) or make smaller shards (shard_mib)"
    if error.errno == errno.EROFS:
        return "the folder is on a read-only file system; choose another output folder"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission; change the permissions of the file and its folder, or choose another folder"
    if error.errno == errno.ENOENT:
        return "no such file or folder"
    return f"{error.strerror or error} (errno {error.errno})"
