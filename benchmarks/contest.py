"""A plain eager step and ours in several precisions, turn by turn: what the benchmarks of steps share."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from store import machine
from store.devices import fp32_precision
from trainer.feed.inputs import Batch
from trainer.logs.statistics import Statistics
from trainer.systems import Trainable

PLAIN, FLOAT32 = "plain", "ours, float32"
EVERY = (PLAIN, FLOAT32, "ours, tf32", "ours, bfloat16", "ours, bfloat16, compiled")

Step = Callable[[], None]
Make = Callable[[str], Step]
"""The step of a contestant, by name: `PLAIN`, or ours with `switches`."""


def chosen(names: Sequence[str], device: torch.device) -> list[str]:
    """The contestants asked for; all on a GPU, plain and ours in float32 on a CPU."""
    return list(names) or list(EVERY if device.type == "cuda" else (PLAIN, FLOAT32))


def switches(name: str) -> dict[str, Any]:
    """Of a contestant of ours: keys of its section."""
    return {"precision": _precision(name), "compile": name.endswith("compiled")}


def contest(
    make: Make, batch: int, names: list[str], rounds: int, seconds: float, device: torch.device
) -> dict[str, Any]:
    """Medians, contestant by contestant.

    The floor is the time that the plain step's multiplications would take at the rate of a large matrix product here,
    in the contestant's precision.

    Args:
        batch: pictures of a step.
        rounds, seconds: turns that each gets, and the time of all together.
    """
    work = flops(make(PLAIN))
    steps: dict[str, Step] = {}
    memory: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        before = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        steps[name] = make(name)
        with fp32_precision(_precision(name)):
            for _ in range(3):
                steps[name]()
        wait(device)
        if device.type == "cuda":
            memory[name] = (torch.cuda.max_memory_allocated() - before) / 2**30
    for _ in range(rounds):
        for name in names:
            with fp32_precision(_precision(name)):
                times[name].append(timed(steps[name], device, seconds / rounds / len(names)))
    rates = {}
    for kind in {_precision(name) for name in names}:
        with fp32_precision(kind):
            rates[kind] = matmul_rate(device, torch.bfloat16 if kind == "bfloat16" else torch.float32)
    found: dict[str, Any] = {"gflop_per_image": work / batch / 1e9, "contestants": {}}
    plain = statistics.median(times[PLAIN]) if PLAIN in times else None
    for name in names:
        median = statistics.median(times[name])
        found["contestants"][name] = {
            "ms": 1000 * median,
            "all_ms": [1000 * each for each in times[name]],
            "img_per_s": batch / median,
            "times_plain": plain / median if plain else None,
            "gib": memory.get(name),
            "share_of_floor": work / rates[_precision(name)] / median,
        }
    return found


def line(name: str, row: dict[str, Any]) -> str:
    """One contestant of what `contest` gave."""
    times = f"{row['times_plain']:5.2f} x plain" if row["times_plain"] else ""
    gib = f"{row['gib']:6.1f} GiB" if row["gib"] is not None else ""
    speed = f"{row['ms']:9.1f} ms {row['img_per_s']:9.1f} img/s"
    return f"  {name:26} {speed} {times} {gib}  {row['share_of_floor']:.0%} of the floor"


def command(
    about: str, prepare: Callable[[str, torch.device], tuple[Make, int]], cases: str, case: str, on_gpu: str, out: str
) -> click.Command:
    """The command of a benchmark of one step.

    Args:
        about: the module's own docstring.
        prepare: a case and a device to what makes its contestants, and its batch.
        cases, case, on_gpu: how cases are written, and which is measured where none is given, on a GPU too.
        out: name of the file below benchmarks/results.
    """

    def main(
        device: str, asked: tuple[str, ...], names: tuple[str, ...], rounds: int, seconds: float, out: Path
    ) -> None:
        place = torch.device(device)
        torch.backends.cudnn.benchmark = True  # as the loop has it
        results = []
        for text in asked or (on_gpu if place.type == "cuda" else case,):
            make, batch = prepare(text, place)
            found = contest(make, batch, chosen(names, place), rounds, seconds, place)
            print(f"{text}, {found['gflop_per_image']:.2f} GFLOP an image and iteration")
            for name, row in found["contestants"].items():
                print(line(name, row), flush=True)
            results.append({"case": text, **found})
        out.parent.mkdir(parents=True, exist_ok=True)
        record = {"machine": machine.describe(), "cases": results}
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    made = click.Command("main", callback=main, help=about.partition("\n")[0])
    for option in (
        click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / out,
                     show_default=True),
        click.option("--seconds", default=60.0, show_default=True, help="Time to measure a case, all together."),
        click.option("--rounds", default=5, show_default=True, help="Turns that each gets; the median counts."),
        click.option("--contestant", "names", multiple=True,
                     help="Repeatable.  [default: plain and ours in float32; cuda: all]"),
        click.option("--case", "asked", multiple=True, metavar=cases,
                     help=f"Repeatable.  [default: {case}; cuda: {on_gpu}]"),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
    ):  # fmt: skip
        option(made)
    return made


def stepping(gan: Trainable, inputs: Batch, batch: int, device: torch.device) -> Step:
    """Iterations of ours on the same inputs, each counted, reporting as the loop has it."""
    report, count = Statistics(device).report, 0

    def once() -> None:
        nonlocal count
        gan.step(inputs, count * batch, 0, report)
        count += 1

    return once


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(once: Callable[[], object], device: torch.device, seconds: float, most: int = 10_000) -> float:
    """Seconds an iteration."""
    wait(device)
    began, count = time.perf_counter(), 0
    while count < most and (not count or time.perf_counter() - began < seconds):
        once()
        count += 1
        if device.type == "cuda" and count % 8 == 0:
            wait(device)  # or the queue runs away from the clock
    wait(device)
    return (time.perf_counter() - began) / count


def flops(once: Step) -> float:
    """Of one step's multiplications and additions."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        once()
    return float(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    n = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * n**3 / timed(lambda: a @ b, device, 1.0)


def _precision(name: str) -> Any:
    return name.split(", ")[1] if ", " in name else "float32"
