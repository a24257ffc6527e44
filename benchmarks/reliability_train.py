"""chatpainter-train killed at random moments: in its iterations, while it saves, on two ranks. What is lost?

    python -m benchmarks.reliability_train --kills 8

The same command is said again after every kill, to the end; what it leaves is compared with a run that nobody
disturbed: the generators byte for byte, the networks and optimisers of the last checkpoint bit for bit, the log, the
grids.
"""

import contextlib
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.reliability import (
    BATCH,
    ITERATIONS,
    PATIENCE,
    compared,
    training_arguments,
    write_results,
    write_training,
)
from store import machine
from tests.support.processes import Ranks, wait_for

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


class Trial:
    """A folder of a run over the stores in `world`, and the moments at which it was killed."""

    def __init__(self, world: Path, name: str, world_size: int) -> None:
        self.folder = world / name
        self.world_size = world_size
        self._arguments = [*training_arguments(world, self.folder), "--log", "tensorboard"]

    def start(self, before: Callable[[], None] | None = None) -> Ranks:
        """The command on every rank; `before` runs first, in each."""
        return Ranks(_command, self.world_size, self._arguments, self.folder.with_suffix(".out"), before)

    def finish(self) -> None:
        statuses = self.start().wait(PATIENCE)
        if any(statuses):
            raise click.ClickException(f"{self.folder}: ended with {statuses}:\n{self.said()}")

    def said(self) -> str:
        return self.folder.with_suffix(".out").read_text(encoding="utf-8")

    def iterations(self) -> int:
        """Finished so far; their records are in the log."""
        with contextlib.suppress(OSError):
            return len((self.folder / "log.jsonl").read_bytes().splitlines())
        return 0

    def saved(self) -> int:
        """Pictures that the newest checkpoint has seen."""
        return max((int(path.stem.removeprefix("images-")) for path in self.folder.glob("checkpoints/*.pt")), default=0)

    def files(self) -> list[str]:
        """Those that were being written."""
        return sorted(re.sub(r"\.[0-9a-f]{12}\.tmp$", "", path.name) for path in self.folder.rglob("*.tmp"))


def _command(arguments: list[str], out: Path, before: Callable[[], None] | None) -> None:
    from trainer.cli import main

    file = open(out, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
    sys.stdout = sys.stderr = file
    if before:
        before()
    main(arguments)


def in_an_iteration(trial: Trial, ranks: Ranks, chance: random.Random) -> None:
    """So many iterations later, and then a part of one."""
    begun, pause = chance.randrange(ITERATIONS), chance.random()
    started = time.monotonic()
    wait_for(lambda: trial.iterations() > begun or not all(process.is_alive() for process in ranks.each))
    time.sleep(pause * (time.monotonic() - started) / (begun + 1))


def kill_training(trial: Trial, chance: random.Random) -> None:
    ranks = trial.start()
    in_an_iteration(trial, ranks, chance)
    ranks.kill()


def kill_saving(trial: Trial, chance: random.Random) -> None:
    """A random number of file operations and milliseconds after an iteration whose checkpoint is due."""
    due, operations, pause = chance.randrange(1, ITERATIONS // 2 + 1), chance.randrange(1, 40), chance.random() / 100
    trial.start(lambda: _end_while_saving(trial, 2 * due, operations, pause)).wait(PATIENCE)


def _end_while_saving(trial: Trial, iteration: int, operations: int, pause: float) -> None:
    left = operations

    def seen(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in FILE_EVENTS and str(arguments[0]).startswith(str(trial.folder)):
            left -= reached()
            if left == 0:
                # Nobody handles it, so the kernel ends the process wherever it is by then, as SIGKILL does.
                signal.setitimer(signal.ITIMER_REAL, pause + 1e-6)

    checking = False

    def reached() -> bool:
        nonlocal checking
        if checking:  # the log is opened to be counted
            return False
        checking = True
        try:
            return trial.iterations() >= iteration
        finally:
            checking = False

    sys.addaudithook(seen)


def kill_both(trial: Trial, chance: random.Random) -> None:
    ranks = trial.start()
    in_an_iteration(trial, ranks, chance)
    ranks.kill()


def kill_one(trial: Trial, chance: random.Random) -> None:
    """One of two; the other gets SIGTERM, as torchrun does it, and SIGKILL when it waits for the dead one."""
    ranks = trial.start()
    in_an_iteration(trial, ranks, chance)
    dead = chance.randrange(2)
    with contextlib.suppress(ProcessLookupError):
        ranks.signal(dead, signal.SIGKILL)
        ranks.signal(1 - dead, signal.SIGTERM)
    ranks.each[1 - dead].join(10)
    ranks.kill()


KILLS = {
    "in an iteration": (1, kill_training),
    "while saving": (1, kill_saving),
    "both of two ranks": (2, kill_both),
    "one of two ranks": (2, kill_one),
}


@click.command()
@click.option("--kills", default=8, show_default=True, help="Of each kind.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KILLS)), help="[default: all]")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="[default: benchmarks/results/reliability-train.json]")
def main(kills: int, kinds: tuple[str, ...], seed: int, out: Path | None) -> None:
    """Kill, say again, compare; print a table and write JSON."""
    import torch._dynamo
    from torch.utils import tensorboard  # noqa: F401

    from trainer import loop  # noqa: F401

    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine.describe(), "iterations": ITERATIONS, "kills": {}}
    with tempfile.TemporaryDirectory() as name:
        world = Path(name)
        (world / "params.yaml").write_text(yaml.safe_dump(write_training(world)))
        whole: dict[int, Trial] = {}
        for kind in kinds or KILLS:
            ranks, kill = KILLS[kind]
            if ranks not in whole:
                whole[ranks] = Trial(world, f"whole-{ranks}", ranks)
                whole[ranks].finish()
            chance = random.Random(f"{kind} {seed}")
            rows = []
            for number in range(kills):
                trial = Trial(world, f"{ranks}-{kind.replace(' ', '-')}-{number}", ranks)
                kill(trial, chance)
                row = {"iterations": trial.iterations(), "saved": trial.saved() // BATCH, "files": trial.files()}
                trial.finish()
                row["differs"] = compared(trial.folder, whole[ranks].folder)
                rows.append(row)
                click.echo(f"{kind} {number + 1}/{kills}: {row}", err=True)
            result["kills"][kind] = rows
            write_results(result, "train", out)
    click.echo(f"{'killed':>18} {'tried':>5} {'the same in the end':>19} {'iterations done again':>21}")
    for kind, rows in result["kills"].items():
        again = sum(max(0, row["iterations"] - row["saved"]) for row in rows)
        click.echo(f"{kind:>18} {len(rows):>5} {sum(not row['differs'] for row in rows):>19} {again:>21}")


if __name__ == "__main__":
    main()
