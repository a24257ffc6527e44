"""kill -9 at any moment, then the same command again: the same bytes as if nothing had happened."""

import os
import pickle
import time

import pytest

from pipeline.encoders import EncoderSettings
from pipeline.worker import EncoderSource, Work
from store.machine import cores
from store.manifest import content_key
from store.shards import ShardTask
from tests.support.folders import content
from tests.support.processes import alive, wait_for

SHARDS = 8  # 2 of captions, 5 of turns, 1 of dialogues


def encoded(calls):
    return sum(not call["what"].startswith("load") for call in calls)


@pytest.mark.parametrize(("calls", "pause"), [(1, 0.0), (5, 0.41)])
def test_the_command_is_killed(place, rows, whole, calls, pause):
    place.corpus(rows)
    process = place.start("--scheduler", "sync", HASH_DELAY="0.4", HASH_HOLD=str(calls))
    place.wait_for_calls(calls, process.poll)
    second = place.here("--scheduler", "sync")
    assert second.exit_code == 1
    assert f"another run is writing here (process {process.pid} on " in second.output.splitlines()[-1]
    place.go_on()
    time.sleep(pause)  # from the middle of a shard's encoding to the middle of its writing
    process.kill()
    process.wait()
    place.calls()
    finished = sum(name.endswith(".h5") for name in content(place.path / "out"))
    assert finished >= calls - 1
    done = place.here("--scheduler", "sync")
    assert done.exit_code == 0, done.output
    assert encoded(place.calls()) == SHARDS - finished
    assert content(place.path / "out") == whole


def test_the_command_is_killed_with_its_workers_at_work(place, rows, whole):
    place.corpus(rows)
    process = place.start("--workers", "2", HASH_DELAY="0.5")
    place.wait_for_calls(4, process.poll)
    process.kill()
    process.wait()
    calls = place.calls()
    workers = {call["pid"] for call in calls} - {process.pid}
    wait_for(lambda: not any(map(alive, workers)), "workers outlive the command")
    loads = [(call["pid"], call["what"]) for call in calls if call["what"].startswith("load")]
    assert len(loads) == len(set(loads)), "an encoder was loaded twice by one process"
    threads = {int(call["threads"]) for call in calls if call["pid"] in workers}
    assert len(workers) * max(threads) <= cores()
    assert {call["trim"] for call in calls} == {None}  # dask's own would have every matrix mapped anew
    place.calls()
    done = place.here("--scheduler", "sync")
    assert done.exit_code == 0, done.output
    assert encoded(place.calls()) < SHARDS
    assert content(place.path / "out") == whole


def test_what_travels_is_no_larger_than_the_texts():
    texts = [f"is there a number {number}? yes." for number in range(20_000)]
    identity = {"name": "hash", "weights": {"file": "0" * 64}}
    key = content_key({"encoder": identity}, "float16", (4800,), 0, texts)
    task = ShardTask("/out", "vectors", 3, 0, len(texts), (4800,), "float16", key, {"encoder": identity}, "token")
    work = Work(task, EncoderSource("tests.support.hash_encoder", "dialogues", EncoderSettings(), identity), texts)
    assert len(pickle.dumps(work)) < sum(len(text) for text in texts) + 12 * len(texts) + 4000


def test_dask_leaves_this_process_as_it_was(place, rows, whole):
    before = dict(os.environ)
    place.corpus(rows)
    done = place.here("--workers", "2")
    assert done.exit_code == 0, done.output
    assert done.output.count("\n") == 3
    assert dict(os.environ) == before
    assert content(place.path / "out") == whole
