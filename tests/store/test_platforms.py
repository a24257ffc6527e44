"""Systems that lack what Linux has: each call taken away, and what is said or done without it (docs/platforms.md)."""

import ctypes
import importlib.metadata
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from store import Store, StoreError, reader
from tests.support.stores import write_store

COMMANDS = sorted(
    (point.name, point.module)
    for point in importlib.metadata.entry_points(group="console_scripts")
    if point.name.startswith("chatpainter-")
)
# What Python has on Windows, as far as our rooms ask: none of these modules, and not all signals.
WINDOWS = """
import signal, sys
sys.modules.update(fcntl=None, resource=None)
del signal.SIGUSR1
from {module} import main
main(["--help"])
"""


@pytest.mark.parametrize("module", [module for _, module in COMMANDS], ids=[name for name, _ in COMMANDS])
def test_windows_gets_one_line_from_every_command(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", WINDOWS.format(module=module)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "Error: ChatPainter runs on Linux and macOS; this Python has no fcntl, which keeps two runs out of one folder. "
        "On Windows use WSL 2 or Docker (docs/platforms.md)\n"
    )


def test_macos_has_neither_advice_on_files_nor_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are written and read without both; the bytes are the same."""
    rows = np.arange(600, dtype=np.float16).reshape(150, 4)
    here, there = tmp_path / "here", tmp_path / "there"
    write_store(here, rows, {"row": range(150)}, kind="captions")
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    write_store(there, rows, {"row": range(150)}, kind="captions")
    np.testing.assert_array_equal(Store(there).take(np.arange(150)), rows)
    names = [shard.file for shard in Store(here).manifest.shards]
    assert names
    assert [(here / name).read_bytes() for name in names] == [(there / name).read_bytes() for name in names]


def test_a_disk_whose_files_cannot_be_mapped_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "store", np.zeros((3, 4), np.float16), {"row": range(3)})

    class Refusing:
        @staticmethod
        def mmap(*arguments: object) -> int:
            ctypes.set_errno(19)  # ENODEV, as file systems without mmap answer
            return ctypes.c_size_t(-1).value

    monkeypatch.setattr(reader, "libc", Refusing)
    with pytest.raises(StoreError) as refused:
        Store(tmp_path / "store").take(np.arange(3))
    said = refused.value.message
    assert said.endswith(f"cannot be mapped ({os.strerror(19)}); copy the store to a local disk")
    assert "\n" not in said
