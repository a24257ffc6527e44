"""What the system may refuse: locks, long files, threads. It works, or one line says what to do."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from store import Store, StoreError
from store.lock import FolderLock
from store.verify import verify_store
from tests.support.stores import write_turns


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def disk_without_locks(monkeypatch, request):
    def flock(descriptor, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_disk_that_keeps_no_locks_lets_one_run_work_at_a_time(tmp_path, disk_without_locks):
    with FolderLock(tmp_path) as held:
        assert (tmp_path / ".lock").read_text() == held.token
        with pytest.raises(StoreError) as error, FolderLock(tmp_path):
            pass
        assert error.value.message == (
            f"{tmp_path}: another run is writing here (process {os.getpid()} on {os.uname().nodename}); "
            f"this disk keeps no locks: if that process has ended, remove {tmp_path}/.lock"
        )
        assert (tmp_path / ".lock").read_text() == held.token
    assert not (tmp_path / ".lock").exists()
    rows = write_turns(tmp_path / "s")
    np.testing.assert_array_equal(Store(tmp_path / "s").take(np.arange(21)), rows)


def test_a_refusal_of_another_kind_is_said(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match="Input/output error"), FolderLock(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"x", b"host 17\n", b"pid: 3", b"\xff" * 500])
def test_a_lock_of_another_program_stays(tmp_path, content):
    (tmp_path / ".lock").write_bytes(content)
    with pytest.raises(StoreError, match=r"\.lock: was not written by this program"), FolderLock(tmp_path):
        pass
    assert (tmp_path / ".lock").read_bytes() == content
    for left in (b"", f"host-1.local 17 {'a' * 32}".encode()):  # by a killed run, before and after it wrote its token
        (tmp_path / ".lock").write_bytes(left)
        with FolderLock(tmp_path) as lock:
            assert (tmp_path / ".lock").read_text() == lock.token


LIMITED = """
import resource, sys
from pathlib import Path
from store.errors import ChatPainterError
from tests.support.stores import write_turns
import h5py, pyarrow.parquet
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_turns(Path(sys.argv[1]), ((100,), (100,)), (300,), "float32")
except ChatPainterError as error:
    error.show()
    raise SystemExit(1)
"""


@pytest.mark.parametrize("limit", [0, 20, 1000, 3000, 70_000, 150_000, 185_000])
def test_a_limit_on_the_length_of_files_ends_in_one_line_and_leaves_nothing(tmp_path, limit):
    """At every point at which a shard (185,536 bytes) is written: lock, HDF5's header and tables, rows."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "s"), str(limit)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "larger than a file may be here; raise the limit (ulimit -f) or make smaller shards" in done.stderr
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize("left", [0, 1, 2])
def test_without_more_threads_the_work_is_done_in_this_one(tmp_path, monkeypatch, left):
    real, started = threading.Thread.start, []

    def start(thread):
        started.append(thread)
        if len(started) > left:
            raise RuntimeError("can't start new thread")
        real(thread)

    write_turns(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        rows = write_turns(tmp_path / "s")
        assert write_turns(tmp_path / "s") is not None  # keeps every shard, which hashes them
        assert list(verify_store(tmp_path / "s")) == []
    assert len(started) > left
    np.testing.assert_array_equal(Store(tmp_path / "s").take(np.arange(21)), rows)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "s" / path.name).read_bytes() == path.read_bytes()
