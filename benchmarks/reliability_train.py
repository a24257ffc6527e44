"""chatpainter-train killed at random moments: in its iterations, while it saves, on two ranks. What is lost?

    python -m benchmarks.reliability_train --kills 8

The same command is said again after every kill, to the end; what it leaves is compared with a run that nobody
disturbed: the generators byte for byte, the networks and optimisers of the last checkpoint bit for bit, the log, the
grids.
"""

import contextlib
import json
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

from store import machine
from tests.support.models import SMALL
from tests.support.processes import Ranks, wait_for
from tests.support.runs import figures
from tests.support.same import same
from tests.support.stores import write_training_stores

BATCH, ITERATIONS = 6, 12
TRAINING = {
    "epochs": None, "images": ITERATIONS * BATCH, "batch": BATCH, "seed": 3, "ema_half_life": 20, "keep": 3,
    "log_every": BATCH, "grid_every": 4 * BATCH, "checkpoint_every": 2 * BATCH,
}  # fmt: skip
PATIENCE = 600
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


class Trial:
    """A folder of a run over the stores in `world`, and the moments at which it was killed."""

    def __init__(self, world: Path, name: str, world_size: int) -> None:
        self.folder = world / name
        self.world_size = world_size
        self._arguments = [
            "stage1", "--params", str(world / "params.yaml"), "--run", str(self.folder), "--device", "cpu",
            "--embeddings", str(world / "embeddings"), "--images", str(world / "images"), "--log", "tensorboard",
        ]  # fmt: skip

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


def compared(found: Path, expected: Path) -> list[str]:
    """What of a finished run differs."""
    from trainer.checkpoints import Checkpoints, load

    ours, theirs = (Checkpoints(folder / "checkpoints").latest() for folder in (found, expected))
    wrong = []
    if ours is None or theirs is None or ours.name != theirs.name or not same(load(ours), load(theirs)):
        wrong.append("checkpoint")
    for name in ("generator.safetensors", "generator-best.safetensors"):
        if _bytes(found / name) != _bytes(expected / name):
            wrong.append(name)
    if figures(found) != figures(expected):
        wrong.append("log.jsonl")
    if {path.name: path.read_bytes() for path in found.glob("grids/*.png")} != {
        path.name: path.read_bytes() for path in expected.glob("grids/*.png")
    }:
        wrong.append("grids")
    strays = [path.name for path in found.rglob("*.tmp")]
    return wrong + strays


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


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
        write_training_stores(world, "train", images=20, rounds=(3, 1, 2))
        write_training_stores(world, "val", images=8, rounds=(3, 1, 2), seed=1, first_id=5000)
        model = {**SMALL, "dialogue": "recurrent", "standardise": True}
        (world / "params.yaml").write_text(
            yaml.safe_dump({"splits": ["train", "val"], "model": model, "stage1": TRAINING})
        )
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
            _write(out or Path(__file__).parent / "results/reliability-train.json", result)
    click.echo(f"{'killed':>18} {'tried':>5} {'the same in the end':>19} {'iterations done again':>21}")
    for kind, rows in result["kills"].items():
        again = sum(max(0, row["iterations"] - row["saved"]) for row in rows)
        click.echo(f"{kind:>18} {len(rows):>5} {sum(not row['differs'] for row in rows):>19} {again:>21}")


def _write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
