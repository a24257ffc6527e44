"""One training iteration: ours beside a plain eager float32 step written as StackGAN-Pytorch's trainer does it.

    python -m benchmarks.train_step                                   # CPU: tiny and paper stage 1
    python -m benchmarks.train_step --device cuda --case paper:1:384 --case paper:2:64 --feed

Same sizes, same text (a caption and ten turns through a BiLSTM), one run; contestants take turns and the table holds
medians. The plain step is handed finished float pictures, ours crops, flips and normalises stored uint8 ones itself.
The floor is the time that the plain step's multiplications would take at the rate of a large matrix product here,
in the precision of the contestant. `--feed` trains ours from real stores through the ring and says how long it waited.
"""

import gc
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import contest
from store import machine
from tests.support import plain_stackgan as plain
from trainer.config import section
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData
from trainer.feed.inputs import CAPTIONS, LENGTH, TURNS, Batch, pictures, stored_side
from trainer.feed.ring import BatchRing
from trainer.logs.statistics import Statistics
from trainer.networks.blocks import initialise
from trainer.systems.chatpainter.config import PRESETS, ModelConfig, Stage, Stage1Config, Stage2Config, StageSettings
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings
from trainer.systems.chatpainter.step import Gan
from trainer.systems.chatpainter.system import discriminator
from trainer.systems.text_reader import text_inputs

CAPTION_DIM, TURN_DIM, ROUNDS = 1024, 4800, 10
BARS = {"cpu times_plain": 1.4, "cuda times_plain": 3.0, "cuda share_waiting": 0.05}
TRAIN_IMAGES, EPOCHS = 82_783, 800  # COCO 2014 train, the paper's duration


class Case:
    """Sizes of one comparison, `preset:stage:batch`, and the same random inputs for every contestant."""

    def __init__(self, text: str, device: torch.device, dialogue: str):
        preset, stage, batch = text.split(":")
        self.name, self.batch, self.device = text, int(batch), device
        self.stage: Stage = 2 if int(stage) == 2 else 1
        values = {"model": {"preset": preset, "dialogue": dialogue}, f"stage{stage}": {"preset": preset}}
        model = section(values, "model", ModelConfig, PRESETS)
        # The plain step knows only StackGAN's objective, so ours is held to it too.
        self.model = replace(model, condition_activation="relu", standardise=False)
        self.training = (Stage1Config if self.stage == 1 else Stage2Config)(batch=self.batch)
        small = preset == "tiny"
        self.caption_dim, self.turn_dim = (256, 256) if small else (CAPTION_DIM, TURN_DIM)
        random = torch.Generator().manual_seed(0)
        self.side = self.model.sides[self.stage - 1]
        side = stored_side(self.side)
        recurrent = dialogue == "recurrent"
        inputs = {
            "images": torch.randint(0, 256, (self.batch, side, side, 3), dtype=torch.uint8, generator=random),
            CAPTIONS.name: torch.randn(self.batch, self.caption_dim, generator=random).half(),
            "image_id": torch.arange(self.batch),
        }
        if recurrent:
            inputs[TURNS.name] = torch.randn(self.batch, ROUNDS, self.turn_dim, generator=random).half()
            inputs[TURNS.name + LENGTH] = torch.full((self.batch,), ROUNDS)
        self.inputs = Batch(inputs).to(device)

    @property
    def text_dim(self) -> int:
        return self.caption_dim + (2 * self.model.lstm_hidden if self.model.dialogue == "recurrent" else 0)


def plain_step(case: Case) -> contest.Step:
    model, device = case.model, case.device
    torch.manual_seed(0)
    if case.stage == 1:
        netg: torch.nn.Module = plain.PlainStage1G(model.gf, case.text_dim, model.condition_dim, model.noise_dim)
        netd: torch.nn.Module = plain.PlainStage1D(model.df, model.condition_dim)
    else:
        netg = plain.PlainStage2G(model.gf, case.text_dim, model.condition_dim, model.noise_dim, model.residual_blocks)
        netd = plain.PlainStage2D(model.df, model.condition_dim)
    netg.apply(initialise).to(device)
    netd.apply(initialise).to(device)
    dialogue = plain.PlainDialogue(case.turn_dim, model.lstm_hidden).to(device) if TURNS.name in case.inputs else None
    trained = [p for p in netg.parameters() if p.requires_grad]
    if dialogue is not None:
        # Stage 2 keeps the RNN of stage 1 fixed.
        dialogue.requires_grad_(case.stage == 1)
        trained += [p for p in dialogue.parameters() if p.requires_grad]
    g_optimizer = torch.optim.Adam(trained, lr=2e-4, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(netd.parameters(), lr=2e-4, betas=(0.5, 0.999))
    size = 64 if case.stage == 1 else 256
    real = case.inputs["images"][:, :size, :size].permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
    captions = case.inputs[CAPTIONS.name].float()
    turns = case.inputs[TURNS.name].float() if TURNS.name in case.inputs else None

    def once() -> None:
        plain.step(
            netg,
            netd,
            dialogue,
            g_optimizer,
            d_optimizer,
            real,
            captions,
            turns,
            case.inputs.get(TURNS.name + LENGTH),
            model.noise_dim,
            model.condition_dim,
        )

    return once


def ours(case: Case, training: Stage1Config) -> Gan:
    torch.manual_seed(0)
    turn_dim = case.turn_dim if TURNS.name in case.inputs else None
    generator = ChatPainterGenerator(generator_settings(case.stage, case.model, case.caption_dim, turn_dim))
    opponent = discriminator(generator, StageSettings(case.stage, case.model, training))
    return Gan(generator, opponent, training, Ranks(0, 1, case.device))


def our_step(case: Case, **switches: Any) -> contest.Step:
    gan = ours(case, replace(case.training, **switches))
    return contest.stepping(gan, case.inputs, case.batch, case.device)


def measure(case: Case, names: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Medians, and how long the paper's training would take."""

    def make(name: str) -> contest.Step:
        return plain_step(case) if name == contest.PLAIN else our_step(case, **contest.switches(name))

    found = contest.contest(make, case.batch, names, rounds, seconds, case.device)
    for row in found["contestants"].values():
        row["days_for_800_epochs"] = TRAIN_IMAGES * EPOCHS / row["img_per_s"] / 86400
    return {"case": case.name, **found}


def fed(case: Case, seconds: float, switches: dict[str, Any], threads: int) -> dict[str, float]:
    """Train ours from stores through the ring: pictures a second and the share of the time spent waiting."""
    with tempfile.TemporaryDirectory(prefix="chatpainter-step-") as name:
        folder = Path(name)
        images = max(2 * case.batch, 2048 if case.stage == 1 else 512)
        _make_stores(folder, images, case)
        caption, *said = text_inputs(case.model.dialogue)
        data = TrainingData((caption, pictures(case.side), *said), folder, folder)
        training = replace(case.training, **switches)
        gan, report = ours(case, training), Statistics(case.device).report
        seen = 0
        with BatchRing(data, case.batch, seed=0, device=case.device, threads=threads) as ring:

            def once() -> None:
                nonlocal seen
                gan.step(next(ring), seen, 0, report)
                seen += case.batch

            for _ in range(5):
                once()
            contest.wait(case.device)
            ring.take_wait()
            began, first = time.perf_counter(), seen
            contest.timed(once, case.device, seconds)
            lasted = time.perf_counter() - began
            return {"img_per_s": (seen - first) / lasted, "share_waiting": ring.take_wait() / lasted}


def _make_stores(folder: Path, images: int, case: Case) -> None:
    import numpy as np
    import pyarrow

    from store import StoreWriter

    random = np.random.default_rng(0)
    ids, side = np.arange(images), stored_side(case.side)

    def write(name: str, array: Any, index: dict[str, Any]) -> None:
        kind, dataset = (name, "vectors") if array.dtype == np.float16 else ("images", "images")
        with StoreWriter(
            folder / name, kind=kind, split="bench", shape=array.shape[1:], dtype=array.dtype.name, dataset=dataset,
            made_from={},
        ) as writer:  # fmt: skip
            writer.plan([(0, len(array), "0")])
            writer.write_shard(0, array)
            writer.commit(pyarrow.table(index), lengths="rounds" if "rounds" in index else None)

    def vectors(rows: int, dim: int) -> Any:
        return random.standard_normal((rows, dim), dtype=np.float32).astype(np.float16)

    write("captions", vectors(images, case.caption_dim), {"row": ids, "image_id": ids})
    if case.model.dialogue == "recurrent":
        rounds = np.full(images, ROUNDS)
        index = {"row": ids * ROUNDS, "image_id": ids, "rounds": rounds}
        write("turns", vectors(images * ROUNDS, case.turn_dim), index)
    write(str(side), random.integers(0, 256, (images, side, side, 3), dtype=np.uint8), {"row": ids, "image_id": ids})


@click.command()
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--case",
    "cases",
    multiple=True,
    metavar="PRESET:STAGE:BATCH",
    help="Repeatable.  [default: tiny:1:64 and paper:1:16; cuda: paper:1:384 and paper:2:64]",
)
@click.option("--dialogue", type=click.Choice(["none", "recurrent"]), default="recurrent", show_default=True)
@click.option(
    "--contestant", "names", multiple=True, help="Repeatable.  [default: plain and ours in float32; cuda: all]"
)
@click.option("--rounds", default=5, show_default=True, help="Turns that each contestant gets; the median counts.")
@click.option("--seconds", default=60.0, show_default=True, help="Time to measure a case, over all contestants.")
@click.option("--threads", default=2, show_default=True, help="Threads that gather batches, with --feed.")
@click.option("--feed", is_flag=True, help="Also train ours from stores and say how long it waited for data.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "train_step.json",
              show_default=True)  # fmt: skip
def main(
    device: str,
    cases: tuple[str, ...],
    dialogue: str,
    names: tuple[str, ...],
    rounds: int,
    seconds: float,
    threads: int,
    feed: bool,
    out: Path,
) -> None:
    """Measure one training iteration; see the module's first lines."""
    place = torch.device(device)
    on_gpu = place.type == "cuda"
    torch.backends.cudnn.benchmark = True  # as the loop has it
    cases = cases or (("paper:1:384", "paper:2:64") if on_gpu else ("tiny:1:64", "paper:1:16"))
    chosen = contest.chosen(names, place)
    results = []
    out.parent.mkdir(parents=True, exist_ok=True)
    for text in cases:
        case = Case(text, place, dialogue)
        result = measure(case, chosen, rounds, seconds)
        print(f"{text}, dialogue {dialogue}, {result['gflop_per_image']:.1f} GFLOP an image and iteration")
        for name, row in result["contestants"].items():
            print(f"{contest.line(name, row)}  {row['days_for_800_epochs']:.2f} days for 800 epochs", flush=True)
        gc.collect()
        if feed:
            best = max((n for n in chosen if n != "plain"), key=lambda n: result["contestants"][n]["img_per_s"])
            result["fed"] = {"contestant": best, **fed(case, seconds / 3, contest.switches(best), threads)}
            print(
                f"  {best}, from stores: {result['fed']['img_per_s']:.1f} img/s,"
                f" {result['fed']['share_waiting']:.1%} of the time spent waiting for data",
                flush=True,
            )
        results.append(result)
        record = {"machine": machine.describe(), "dialogue": dialogue, "bars": BARS, "cases": results}
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
