"""Too little room, for as long as it is needed: a file system of any size, a limit on the size of files."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

PAGE, ROOM = 4096, 1 << 30
_INSIDE = "CHATPAINTER_UNSHARED"  # set in the namespace in which disks can be mounted


class Disk:
    """A tmpfs in `folder`, as long as the block lasts. A file takes whole pages, a folder nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "Disk":
        self.folder.mkdir(exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def resize(self, size: int) -> None:
        """To so many bytes, at least what is used."""
        _mount("-o", f"remount,size={size}", str(self.folder))

    def used(self) -> int:
        """Bytes."""
        about = os.statvfs(self.folder)
        return (about.f_blocks - about.f_bfree) * about.f_frsize


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def begin_where_disks_can_be_mounted(module: str) -> None:
    """Go on where they can; else begin `module`, which is being run, anew in a namespace of its own.

    Raises:
        ClickException: neither can.
    """
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(OSError, subprocess.CalledProcessError), Disk(Path(folder)):
            return
    unshare = ["unshare", "--map-root-user", "--mount"]
    if _INSIDE not in os.environ and shutil.which("unshare"):
        again = [sys.executable, "-m", module, *sys.argv[1:]]
        if not subprocess.run([*unshare, "true"], capture_output=True).returncode:
            os.execvpe("unshare", [*unshare, *again], {**os.environ, _INSIDE: "1"})
    raise click.ClickException("no file system can be mounted here; run it as root, or where `unshare -rm` is allowed")


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What would make a file larger than so many bytes writes a part, or ends in EFBIG, as ENOSPC on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
