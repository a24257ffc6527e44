"""Several processes on CPUs: they agree, they average, and together they take the step that one would take."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from store.errors import ChatPainterError
from trainer import distributed
from trainer.feed.data import TrainingData
from trainer.feed.inputs import CAPTIONS, TURNS, pictures
from trainer.feed.ring import BatchRing
from trainer.logs.statistics import Statistics
from trainer.optimising import Updates
from trainer.systems.chatpainter.config import ModelConfig, Stage1Config, StageSettings
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings
from trainer.systems.chatpainter.step import Gan
from trainer.systems.chatpainter.system import discriminator


def primitives(out: Path) -> None:
    ranks = distributed.start("cpu")
    found: dict[str, object] = {"rank": ranks.rank, "world": ranks.world, "main": ranks.main}
    found["any"] = distributed.agree(ranks.rank == 1)
    found["none"] = distributed.agree(False)
    found["word"] = distributed.from_main({"latest": f"images-{ranks.rank}.pt", "n": [ranks.rank]})

    torch.manual_seed(ranks.rank)
    net: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    net[1].running_mean += 5 + ranks.rank
    distributed.broadcast_parameters(net)
    found["net"] = net.state_dict()
    found["layout"] = net[0].weight.is_contiguous(memory_format=torch.channels_last)

    wide = nn.Parameter(torch.zeros(2, 3, 2, 2).to(memory_format=torch.channels_last))
    fine = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    idle = nn.Parameter(torch.zeros(3))
    wide.grad = torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last)
    fine.grad = torch.full((5,), 1e-12 + ranks.rank, dtype=torch.float64)
    found["before"] = wide.grad.clone()
    distributed.average_gradients([wide, fine, idle])
    found.update(wide=wide.grad, fine=fine.grad, idle=idle.grad)

    statistics = Statistics()
    statistics.report({"d": torch.arange(4.0) + 10 * ranks.rank, "g": torch.tensor(float(ranks.rank))})
    found["statistics"] = statistics.collect()
    try:
        distributed.synchronise_batchnorm(net, ranks)
    except ChatPainterError as error:
        found["refused"] = error.message
    distributed.wait_for_all()
    distributed.stop()
    torch.save(found, out / f"{ranks.rank}.pt")


def results(folder: Path, world: int) -> list[dict]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def test_they_agree_share_and_average(tmp_path, launch):
    processes = launch(primitives, 3, tmp_path)
    assert processes.wait() == [0, 0, 0]
    found = results(tmp_path, 3)
    assert [(one["rank"], one["world"], one["main"]) for one in found] == [(0, 3, True), (1, 3, False), (2, 3, False)]
    mean = sum(one["before"].double() for one in found) / 3
    for one in found:
        assert one["any"] is True
        assert one["none"] is False
        assert one["word"] == {"latest": "images-0.pt", "n": [0]}
        assert one["layout"]
        for name, tensor in one["net"].items():
            assert torch.equal(tensor, found[0]["net"][name]), name
        torch.testing.assert_close(one["wide"].double(), mean, rtol=1e-6, atol=1e-7)
        assert torch.equal(one["wide"], found[0]["wide"])
        assert one["wide"].stride() == one["before"].stride()
        torch.testing.assert_close(one["fine"], torch.full((5,), 1 + 1e-12, dtype=torch.float64), rtol=0, atol=1e-15)
        assert one["idle"] is None
        assert one["statistics"]["g"] == 1.0
        assert one["statistics"]["d"] == 11.5
        every = torch.cat([torch.arange(4.0) + 10 * rank for rank in range(3)])
        assert one["statistics"]["d.std"] == pytest.approx(every.std(correction=0).item())
        assert "sync_batchnorm needs CUDA" in one["refused"]
    assert found[0]["net"]["1.running_mean"][0] == 5


def runs_in_a_row(out: Path) -> None:
    votes = []
    for number in range(4):
        ranks = distributed.start("cpu")
        votes.append(distributed.agree(ranks.rank == number))
        # Now one process, now the other is the last to leave.
        time.sleep(0.3 if ranks.rank == number % 2 else 0)
        distributed.stop()
    torch.save({"votes": votes}, out / f"{ranks.rank}.pt")


def test_one_run_after_another_meets_again(tmp_path, launch):
    assert launch(runs_in_a_row, 2, tmp_path).wait() == [0, 0]
    assert [found["votes"] for found in results(tmp_path, 2)] == [[True, True, False, False]] * 2


class Watched(Gan):
    """Keeps the gradients that each update sees."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.gradients = []
        self.updates: Any = self.keeping

    def keeping(self, optimizer, parameters):
        distributed.average_gradients(parameters)
        self.gradients.append([p.grad.clone() for p in parameters if p.grad is not None])
        return Updates(self.device)(optimizer, parameters)  # averaging equal gradients once more changes nothing


def steps_of_stage1(embeddings: Path, images: Path, out: Path, d_norm: Any, d_lr: float, steps: int) -> None:
    ranks = distributed.start("cpu")
    alone = ranks.world == 1
    model = ModelConfig(gf=8, df=4, residual_blocks=1, condition_dim=8, noise_dim=6, lstm_hidden=8)
    training = Stage1Config(
        batch=12, accumulate=2 if alone else 1, d_norm=d_norm, d_lr=d_lr, precision="float32", diffaugment=True
    )
    data = TrainingData((CAPTIONS, pictures(64), TURNS), embeddings, images)
    torch.manual_seed(0)
    generator = ChatPainterGenerator(generator_settings(1, model, data.dim("captions"), data.dim("turns"), stores={}))
    opponent = discriminator(generator, StageSettings(1, model, training))
    gan = Watched(generator, opponent, training, ranks)
    with BatchRing(data, 12, seed=0, rank=ranks.rank, world=ranks.world) as ring:
        for number in range(steps):
            gan.step(next(ring), 12 * number, 0, lambda values: None)
    distributed.stop()
    state = {"generator": gan.generator.state_dict(), "discriminator": gan.discriminator.state_dict()}
    learned = {who: {k: v for k, v in each.items() if "running" not in k} for who, each in state.items()}
    torch.save({"gradients": gan.gradients, "learned": learned}, out / f"{ranks.rank}.pt")


@pytest.mark.parametrize("d_norm", ["batch", "none"])
def test_two_processes_take_the_step_of_one_that_takes_the_batch_in_two_parts(tmp_path, make_stores, launch, d_norm):
    """A part is to BatchNorm what a process is: each is normalised by itself, and wrong pairs stay inside it."""
    stores = make_stores(tmp_path)
    for name, world in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        # D does not move, or Adam would blow rounding up to whole steps before G's turn.
        processes = launch(steps_of_stage1, world, *stores, tmp_path / name, d_norm, 0.0, 1)
        assert processes.wait() == [0] * world
    one, (first, second) = results(tmp_path / "one", 1)[0], results(tmp_path / "two", 2)
    assert len(one["gradients"]) == 2
    for alone, here, there in zip(one["gradients"], first["gradients"], second["gradients"]):
        assert len(alone) == len(here) > 5
        scale = max(float(gradient.abs().max()) for gradient in alone)
        assert scale > 1e-4
        for expected, found, other in zip(alone, here, there):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * scale)
            assert torch.equal(found, other)


def test_after_some_steps_every_process_holds_the_same_networks(tmp_path, make_stores, launch):
    processes = launch(steps_of_stage1, 2, *make_stores(tmp_path), tmp_path, "spectral", 4e-4, 3)
    assert processes.wait() == [0, 0]
    first, second = results(tmp_path, 2)
    for who in ("generator", "discriminator"):
        assert first["learned"][who].keys() == second["learned"][who].keys()
        for name, tensor in first["learned"][who].items():
            assert torch.equal(tensor, second["learned"][who][name]), name


def test_alone_everything_is_a_no_op(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    ranks = distributed.start("cpu")
    assert (ranks.rank, ranks.world, ranks.main, str(ranks.device)) == (0, 1, True, "cpu")
    assert distributed.agree(True)
    assert not distributed.agree(False)
    assert distributed.from_main("x") == "x"
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    distributed.average_gradients([parameter])
    assert parameter.grad.tolist() == [3.0, 3.0]
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    assert distributed.synchronise_batchnorm(net, ranks) is net
    distributed.stop()


@pytest.mark.parametrize("device", ["cuda:99", "tpu?"])
def test_a_device_that_is_not_there_is_one_line(device):
    with pytest.raises(ChatPainterError, match=r"device|GPU"):
        distributed.start(device)
