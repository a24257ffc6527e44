"""One choice of device and of float32 for encoders, trainings and painting."""

import contextlib
from typing import Any

import pytest
import torch

from store.devices import choose, fp32_precision
from store.errors import ChatPainterError


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("name", "gpus", "local", "device"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 2, 1, "cuda:1"),
        ("cuda", 2, 0, "cuda:0"),
        ("cuda", 8, 7, "cuda:7"),
        ("cuda:1", 2, 0, "cuda:1"),
        ("cpu", 2, 1, "cpu"),
    ],
)
def test_a_process_has_its_own_gpu(
    name: str, gpus: int, local: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(monkeypatch, gpus)
    assert choose(name, local=local) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "gpus", "local", "says"),
    [
        ("cuda", 0, 0, "here.device is cuda, but torch finds no GPU; say cpu or auto"),
        ("cuda:0", 0, 0, "here.device is cuda:0, but torch finds no GPU"),
        ("cuda:2", 2, 0, "here.device is cuda:2: process 0 of this machine wants cuda:2, but there are 2 GPUs"),
        ("auto", 2, 2, "process 2 of this machine wants cuda:2, but there are 2 GPUs"),
        ("tpu?", 0, 0, "here.device 'tpu\\?': expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    name: str, gpus: int, local: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(monkeypatch, gpus)
    with pytest.raises(ChatPainterError, match=says) as refused:
        choose(name, "here.device", local)
    assert "\n" not in str(refused.value)


def test_float32_means_all_bits_and_is_put_back() -> None:
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for name, allowed in (("float32", False), ("tf32", True), ("bfloat16", True)):
        with contextlib.suppress(KeyError), fp32_precision(name):
            assert [backend.allow_tf32 for backend in backends] == [allowed, allowed]
            raise KeyError
        assert [backend.allow_tf32 for backend in backends] == before
