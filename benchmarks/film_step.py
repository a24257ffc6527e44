"""One training iteration of the systems that paint a picture after every turn.

    python -m benchmarks.film_step                                       # CPU: tiny presets
    python -m benchmarks.film_step --device cuda --system geneva --preset geneva

Random inputs as large as a store's; the systems take turns, and the table holds medians. An iteration of `geneva` is
every turn of a batch of dialogues, one of `iterative` a change of each dialogue: compare turns a second. `plain` is
`iterative` whose turns do not look at the picture and that draws one change of each dialogue.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import click
import torch

from store import machine
from trainer import systems
from trainer.distributed import Ranks
from trainer.feed.inputs import (
    CAPTIONS,
    FIRST_PICTURES,
    FIRST_PRESENCE,
    LENGTH,
    PRESENCE,
    TURN_PICTURES,
    TURNS,
    Batch,
    stored_side,
)

DIMS = {CAPTIONS.name: 384, TURNS.name: 384, PRESENCE.name: 18}
TURNS_A_DIALOGUE = {"geneva": True, "iterative": False}  # whether an iteration trains on all turns, or on one
PAINTERS: dict[str, tuple[str, dict[str, Any]]] = {  # the system, and what is not its preset's
    "geneva": ("geneva", {}),
    "iterative": ("iterative", {}),
    "plain": ("iterative", {"candidates": 1, "networks": {"look": 0}}),
}


class Sizes:
    """What a system asks of its data before it is built, without a store behind it; first pictures are white."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.identity: dict[str, Any] = {}

    def __len__(self) -> int:
        return self.batch.size

    def dim(self, name: str) -> int:
        return DIMS[name]

    def at(self, images: Any, numbers: Any = None) -> Batch:
        return self.batch


def inputs(size: int, rows: int, turns: int) -> Batch:
    """Random dialogues of `turns` turns each, on the CPU."""
    random = torch.Generator().manual_seed(0)
    side = stored_side(size)
    return Batch(
        {
            CAPTIONS.name: torch.randn(rows, DIMS[CAPTIONS.name], generator=random).half(),
            TURNS.name: torch.randn(rows, turns, DIMS[TURNS.name], generator=random).half(),
            TURNS.name + LENGTH: torch.full((rows,), turns),
            TURN_PICTURES.name: torch.randint(0, 256, (rows, turns, side, side, 3), generator=random).byte(),
            FIRST_PICTURES.name: torch.full((rows, side, side, 3), 255, dtype=torch.uint8),
            PRESENCE.name: torch.randint(0, 2, (rows, turns, DIMS[PRESENCE.name]), generator=random).byte(),
            FIRST_PRESENCE.name: torch.zeros(rows, DIMS[PRESENCE.name], dtype=torch.uint8),
            "image_id": torch.arange(rows),
        }
    )


@click.command()
@click.option(
    "--system",
    "names",
    multiple=True,
    type=click.Choice(list(PAINTERS)),
    default=list(PAINTERS),
    show_default=True,
)
@click.option("--preset", default="tiny", show_default=True)
@click.option("--batch", type=click.IntRange(min=2), help="Dialogues.  [default: the preset's]")
@click.option("--turns", type=click.IntRange(min=1), default=10, show_default=True, help="Of each dialogue.")
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "film_step.json",
              show_default=True)  # fmt: skip
def main(names: tuple[str, ...], preset: str, batch: int | None, turns: int, runs: int, device: str, out: Path) -> None:
    """Measure one iteration of each system."""
    where = torch.device(device)
    steps: dict[str, tuple[Any, Batch]] = {}
    for name in names:
        section, switches = PAINTERS[name]
        system = systems.find(section)
        given = {"preset": preset, **({"batch": batch} if batch else {}), **switches}
        config: Any = system.configure({section: given}, "the command line")
        rows = inputs(config.networks.size, config.training.batch, turns)
        trainable = system.trainable(config, Sizes(rows), Ranks(0, 1, where), None)  # type: ignore[arg-type]
        steps[name] = trainable, rows.to(where)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs + 1):
        for name, (trainable, rows) in steps.items():
            began = time.perf_counter()
            trainable.step(rows, run * rows.size, 0, lambda figures: None)
            if where.type == "cuda":
                torch.cuda.synchronize(where)
            if run:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
    found = {}
    click.echo(f"{'system':12}{'s/iteration':>14}{'turns/s':>12}")
    for name, times in seconds.items():
        median, rows = statistics.median(times), steps[name][1]
        rate = rows.size * (turns if TURNS_A_DIALOGUE[PAINTERS[name][0]] else 1) / median
        found[name] = {"seconds": times, "median": median, "dialogues": rows.size, "turns_per_second": rate}
        click.echo(f"{name:12}{median:14.3f}{rate:12.1f}")
    about = {"preset": preset, "turns": turns, "device": device, "machine": machine.describe()}
    out.write_text(json.dumps({**about, "systems": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
