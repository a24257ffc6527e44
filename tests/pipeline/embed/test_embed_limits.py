"""What a system refuses: locks, large files, more processes. One line, or it works."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from pipeline import cluster, worker
from pipeline.worker import Sync, Work, make
from tests.support.corpora import corpus_rows
from tests.support.folders import content
from tests.support.outcomes import one_line


def test_a_disk_that_keeps_no_locks(place, rows, whole, monkeypatch):
    """As NFS without lockd answers: the run works, the lock's file being the lock."""

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    place.corpus(rows)
    done = place.here("--scheduler", "sync")
    assert done.exit_code == 0, done.output
    assert content(place.path / "out") == whole


@pytest.mark.parametrize("kib", [0, 1, 100])
def test_files_may_not_be_as_large_as_a_shard(place, rows, whole, kib):
    place.corpus(rows)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({kib << 10},) * 2)"
    script = f"{limit}; import sys; from pipeline.embed_cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *place.command()[3:], "--scheduler", "sync"], cwd=place.path,
        env=place.environment(HASH_LOG=""), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "larger than a file may be here; raise the limit (ulimit -f)" in one_line(done.stderr.strip())
    assert not list(place.path.rglob("*.h5"))
    again = place.here("--scheduler", "sync")
    assert again.exit_code == 0, again.output
    assert content(place.path / "out") == whole


def test_what_killed_all_workers_is_not_tried_in_the_commands_process(place, monkeypatch):
    place.corpus(corpus_rows(2))

    class Asked(Exception):
        pass

    def client(self):
        raise Asked

    monkeypatch.setattr(cluster, "make", lambda work: pytest.fail("made here"))
    monkeypatch.setattr(cluster.Cluster, "client", property(client))
    runner = cluster.Cluster(workers=1)
    runner._deserted = True
    with pytest.raises(Asked):
        next(runner.run([Work(None, None, ["poison"])]))


class LeavesTemporaries(Sync):
    """Beside every shard lies what a worker left that was killed while it wrote the same one."""

    def run(self, work):
        for item in work:
            item.task.path.with_name(f"{item.task.path.name}.0123456789ab.tmp").write_bytes(b"half a shard")
            yield make(item)


def test_what_a_killed_worker_left_is_gone_once_the_store_is_whole(place, rows, whole, monkeypatch):
    place.corpus(rows)
    monkeypatch.setattr(worker, "Sync", LeavesTemporaries)
    done = place.here("--scheduler", "sync")
    assert done.exit_code == 0, done.output
    assert content(place.path / "out") == whole


def test_workers_that_cannot_be_started(place, monkeypatch):
    """Where the system allows no more processes."""
    import distributed

    def refuse(*arguments, **options):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    place.corpus(corpus_rows(120))
    monkeypatch.setattr(distributed, "LocalCluster", refuse)
    done = place.here("--workers", "2")
    assert done.exit_code == 1
    assert "cannot be started" in one_line(done.stderr.strip())
    assert "--scheduler sync" in done.stderr
