"""One run at a time in a folder, held by a lock that dies with its process."""

import errno
import fcntl
import os
import re
import socket
import uuid
from pathlib import Path
from types import TracebackType

from store.errors import StoreError
from store.files import in_words

LOCK = ".lock"
_TOKEN = re.compile(r"\S+ \d+ [0-9a-f]{32}")
# What network disks answer that keep no locks: NFS without lockd, Lustre without flock.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderLock:
    """Holds `folder/.lock` exclusively; the file's text is a token by which workers elsewhere know this run.

    The kernel lets go when the process dies, however it dies. DVC's own lock does not help here: a killed `dvc`
    leaves its stage running. On a network disk that keeps no locks the file itself is the lock: whoever makes it holds
    the folder, and what a killed run leaves has to be removed by hand.

    Raises:
        StoreError: another run holds the folder, the folder cannot be written, or another program's `.lock` is there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.token = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        self._descriptor: int | None = None

    def __enter__(self) -> "FolderLock":
        with in_words(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self._descriptor is None:
                self._descriptor = self._try()
            try:
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, self.token.encode(), 0)
                os.fsync(self._descriptor)
            except OSError:
                self.__exit__(None, None, None)
                raise
        return self

    def _try(self) -> int | None:
        made = True
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            made = False
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if made and error.errno in _NO_LOCKS:
                return descriptor
            host, pid, *_ = (_content(descriptor).split() or ["?"]) + ["?"]
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                remedy = "wait for it or stop it"
            elif error.errno in _NO_LOCKS:
                remedy = f"this disk keeps no locks: if that process has ended, remove {self.path}"
            else:
                raise
            raise StoreError(
                f"{self.path.parent}: another run is writing here (process {pid} on {host}); {remedy}"
            ) from None
        if (content := _content(descriptor)) and not _TOKEN.fullmatch(content):
            os.close(descriptor)
            raise StoreError(f"{self.path}: was not written by this program; move it away, or choose another folder")
        # The holder before us may have removed the file between our open and our lock.
        try:
            if os.stat(self.path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._descriptor is not None
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def _content(descriptor: int) -> str:
    return os.pread(descriptor, 400, 0).decode(errors="replace")


def read_token(folder: Path) -> str | None:
    """The token of the run that holds `folder`, or None where there is none (or where another disk is mounted)."""
    try:
        return (folder / LOCK).read_text(errors="replace")
    except OSError:
        return None
