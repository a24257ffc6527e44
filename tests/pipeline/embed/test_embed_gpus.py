"""One worker a GPU: stand-ins for devices, since what is tested is who sees which."""

import os

import pytest

from pipeline.cluster import Cluster
from store import devices
from tests.support.folders import content

from .conftest import EmbedFolder

NAMES = ["GPU-5a", "GPU-2c"]


def test_every_worker_sees_a_gpu_of_its_own(place: EmbedFolder, rows, whole, monkeypatch: pytest.MonkeyPatch) -> None:
    place.corpus(rows)
    (place.path / "params.yaml").write_text("embed: {shard_mib: 1, workers: 1}\nencoders: {device: cuda}\n")
    monkeypatch.setattr(devices, "visible_gpus", lambda: NAMES)
    done = place.here()
    assert done.exit_code == 0, done.output
    assert "one worker for each of 2 GPUs" in done.output
    seen = {(call["pid"], call["gpu"]) for call in place.calls() if call["pid"] != os.getpid()}
    assert sorted(gpu for _, gpu in seen) == sorted(NAMES)
    assert len({pid for pid, _ in seen}) == 2
    assert content(place.path / "out") == whole


@pytest.mark.parametrize(
    ("options", "device", "expected"),
    [
        ([], "cuda", NAMES),
        ([], "auto", NAMES),
        (["--workers", "1"], "cuda", NAMES[:1]),
        (["--workers", "5"], "cuda", NAMES),
        ([], "cpu", []),
        (["--scheduler", "tcp://127.0.0.1:1"], "cuda", []),
    ],
)
def test_which_gpus_are_taken(place: EmbedFolder, rows, monkeypatch, options, device, expected) -> None:
    place.corpus(rows[:1])
    (place.path / "params.yaml").write_text(f"embed: {{shard_mib: 1, workers: 1}}\nencoders: {{device: {device}}}\n")
    monkeypatch.setattr(devices, "visible_gpus", lambda: NAMES)
    taken = []

    class Looked(Exception):
        pass

    def look(*given, gpus, **rest):
        taken.append(gpus)
        raise Looked

    monkeypatch.setattr("pipeline.cluster.Cluster", look)
    done = place.here(*options)
    assert isinstance(done.exception, Looked)
    assert taken == [expected]


@pytest.mark.parametrize(
    ("named", "found", "expected"),
    [
        (None, 2, ["0", "1"]),
        ("3,1", 2, ["3", "1"]),
        ("GPU-5a, GPU-2c", 2, NAMES),
        ("2,-1,0", 1, ["2"]),  # CUDA ends at the first that is none
        ("", 0, []),
        (None, 0, []),
    ],
)
def test_gpus_go_by_the_names_that_cuda_knows(monkeypatch, named, found, expected) -> None:
    import torch

    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    assert devices.visible_gpus() == expected


def test_a_worker_for_each_gpu_whatever_the_cores() -> None:
    cluster = Cluster(workers=1, gpus=[str(number) for number in range(300)])
    assert (cluster.workers, cluster.threads) == (300, 1)
