"""One iteration of StackGAN++: ours beside a plain eager float32 step written as StackGAN-v2's trainer does it.

    python -m benchmarks.stackgan_v2_step                               # CPU: tiny's sizes
    python -m benchmarks.stackgan_v2_step --device cuda --case birds:24

Same sizes, captions alone, no feed: the plain step is handed finished float pictures of every side, ours crops, flips,
normalises and makes the smaller ones itself. Contestants take turns and the table holds medians; the floor is the time
that the plain step's multiplications would take at the rate of a large matrix product here.
"""

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.train_step import flops, matmul_rate, timed, wait
from store import machine
from store.devices import fp32_precision
from tests.support.plain_stackgan_v2 import PlainV2D, PlainV2G, stepper
from trainer.distributed import Ranks
from trainer.feed.inputs import CAPTIONS, Batch, stored_side
from trainer.logs.statistics import Statistics
from trainer.networks.blocks import initialise_orthogonal
from trainer.systems.stackgan_v2.config import StackGanV2Config
from trainer.systems.stackgan_v2.networks import StackGanV2Generator, generator_settings
from trainer.systems.stackgan_v2.step import StackGanV2
from trainer.systems.stackgan_v2.system import STACKGAN_V2, discriminators

CAPTION_DIM = 1024
KINDS: dict[str, Any] = {
    "ours, float32": ("float32", False),
    "ours, tf32": ("tf32", False),
    "ours, bfloat16": ("bfloat16", False),
    "ours, bfloat16, compiled": ("bfloat16", True),
}


def settings(text: str) -> StackGanV2Config:
    """Of a case PRESET:BATCH: the preset's sizes, and the published objective, as the plain step knows no other."""
    preset, batch = text.split(":")
    config = STACKGAN_V2.configure({"stackgan-v2": {"preset": preset, "dialogue": "none", "batch": int(batch)}}, text)
    published = {"d_norm": "batch", "loss": "bce", "d_condition": "mu", "kl_weight": 2.0, "ema_decay": 0.999}
    return replace(config, standardise=False, other_class=False, **published)  # type: ignore[arg-type]


def plain_step(config: StackGanV2Config, inputs: Batch) -> Callable[[], None]:
    device = inputs["images"].device
    torch.manual_seed(0)
    model = config.model
    g = PlainV2G(model.gf, CAPTION_DIM, model.condition_dim, model.noise_dim, model.size, model.branches,
                 model.residual_blocks)  # fmt: skip
    judges = [PlainV2D(config.df, model.condition_dim, model.size, branch) for branch in range(model.branches)]
    for network in (g, *judges):
        network.apply(initialise_orthogonal).to(device)
    real, wrong = [
        [
            torch.nn.functional.interpolate(whole[:, :, : model.sides[-1], : model.sides[-1]], side).contiguous()
            for side in model.sides
        ]
        for whole in (inputs[name].permute(0, 3, 1, 2).float().div(127.5).sub(1) for name in ("images", "wrong_images"))
    ]
    return stepper(g, judges, real, wrong, inputs[CAPTIONS.name].float(), model.noise_dim)


def our_step(config: StackGanV2Config, inputs: Batch) -> Callable[[], None]:
    device = inputs["images"].device
    torch.manual_seed(0)
    generator = StackGanV2Generator(generator_settings(config.model, CAPTION_DIM, None))
    generator.network.apply(initialise_orthogonal)
    gan = StackGanV2(generator, discriminators(generator, config), config, Ranks(0, 1, device))
    report, count = Statistics(device).report, 0

    def once() -> None:
        nonlocal count
        gan.step(inputs, count * config.batch, 0, report)
        count += 1

    return once


def measure(text: str, device: torch.device, names: list[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Medians of a case, contestant by contestant."""
    config, random = settings(text), torch.Generator().manual_seed(0)
    side = stored_side(config.sides[-1])
    shape = (config.batch, side, side, 3)
    made = {
        name: torch.randint(0, 256, shape, dtype=torch.uint8, generator=random) for name in ("images", "wrong_images")
    }
    made[CAPTIONS.name] = torch.randn(config.batch, CAPTION_DIM, generator=random).half()
    inputs = Batch({**made, "image_id": torch.arange(config.batch)}).to(device)
    work = flops(plain_step(config, inputs))
    steps: dict[str, Callable[[], None]] = {}
    for name in names:
        kind, compiled = KINDS.get(name, ("float32", False))
        ours = replace(config, precision=kind, compile=compiled)
        steps[name] = plain_step(config, inputs) if name == "plain" else our_step(ours, inputs)
        with fp32_precision(kind):
            for _ in range(3):
                steps[name]()
        wait(device)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with fp32_precision(KINDS.get(name, ("float32", False))[0]):
                times[name].append(timed(steps[name], device, seconds / rounds / len(names)))
    rates = {}
    for kind in {KINDS.get(name, ("float32", False))[0] for name in names}:
        with fp32_precision(kind):
            rates[kind] = matmul_rate(device, torch.bfloat16 if kind == "bfloat16" else torch.float32)
    found: dict[str, Any] = {"case": text, "gflop_per_image": work / config.batch / 1e9, "contestants": {}}
    plain = statistics.median(times["plain"]) if "plain" in times else None
    for name in names:
        median = statistics.median(times[name])
        found["contestants"][name] = {
            "ms": 1000 * median,
            "all_ms": [1000 * each for each in times[name]],
            "img_per_s": config.batch / median,
            "times_plain": plain / median if plain else None,
            "share_of_floor": work / rates[KINDS.get(name, ("float32", False))[0]] / median,
        }
    return found


@click.command()
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--case", "cases", multiple=True, metavar="PRESET:BATCH", help="Repeatable.  [tiny:32; cuda: birds:24]")
@click.option("--contestant", "names", multiple=True, help="Repeatable.  [plain and ours in float32; cuda: all]")
@click.option("--rounds", default=5, show_default=True, help="Turns that each contestant gets; the median counts.")
@click.option("--seconds", default=60.0, show_default=True, help="Time to measure a case, over all contestants.")
@click.option("--out", type=click.Path(path_type=Path), show_default=True,
              default=Path(__file__).parent / "results" / "stackgan_v2_step.json")  # fmt: skip
def main(device: str, cases: tuple[str, ...], names: tuple[str, ...], rounds: int, seconds: float, out: Path) -> None:
    """Measure one training iteration; see the module's first lines."""
    place = torch.device(device)
    on_gpu = place.type == "cuda"
    torch.backends.cudnn.benchmark = True  # as the loop has it
    chosen = list(names) or ["plain", *KINDS][: None if on_gpu else 2]
    results = []
    for text in cases or (("birds:24",) if on_gpu else ("tiny:32",)):
        result = measure(text, place, chosen, rounds, seconds)
        print(f"{text}, {result['gflop_per_image']:.2f} GFLOP an image and iteration")
        for name, row in result["contestants"].items():
            times = f"{row['times_plain']:5.2f} x plain" if row["times_plain"] else ""
            print(
                f"  {name:26} {row['ms']:9.1f} ms {row['img_per_s']:9.1f} img/s {times}"
                f"  {row['share_of_floor']:.0%} of the floor",
                flush=True,
            )
        results.append(result)
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine.describe(), "cases": results}
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
