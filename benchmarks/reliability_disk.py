"""Commands on a disk that is too small for them: what do they say, what do they leave, does the next run repair it?

    python -m benchmarks.reliability_disk --trials 8

The disk is a tmpfs, mounted by root or in `unshare -rm`. It holds what an earlier command made; its size is random,
below what the command was seen to need. Then it is made larger, the same command is said again, and what it leaves is
compared with what it leaves where there is room from the beginning.
"""

import gc
import importlib
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.reliability import (
    EMBED,
    PATIENCE,
    compared,
    training_arguments,
    unreadable,
    write_results,
    write_training,
)
from store import machine
from tests.support.corpora import corpus_rows, write_corpus
from tests.support.disks import PAGE, ROOM, Disk, begin_where_disks_can_be_mounted
from tests.support.folders import content

FORKED = ("h5py", "pyarrow.parquet", "torch._dynamo", "torch.utils.tensorboard", "dvclive", "pipeline.embed",
          "pipeline.corpora.prepare", "pipeline.pictures.prepare", "trainer.loop", "painter.export", "painter.figures",
          "store.export")  # fmt: skip
FULL = "the disk is full"
DEMO = Path(__file__).parents[1] / "painter/demo"


@dataclass(frozen=True)
class Case:
    """A command that writes on the disk.

    Attributes:
        arguments: the module of the command, and what it is told.
        before: of the commands whose output is on the disk before.
        whole: the output is one thing: all of it the old one, or all of it the new one.
    """

    arguments: list[str]
    before: list[list[str]]
    whole: bool = False

    def judged(self, found: Path, before: Path, after: Path) -> tuple[list[str], list[str]]:
        """What lies there half written, and what is lost of what was there before."""
        here, old, new = content(found), content(before), content(after)
        partial = [name for name, data in here.items() if data not in (old.get(name), new.get(name))]
        lost = [name for name in old if here.get(name) not in (old[name], new.get(name))]
        if self.whole and here not in (old, new):
            lost += [name for name in old if here.get(name) != old[name]]
        return partial, sorted(set(lost))

    def differing(self, found: Path, after: Path) -> list[str]:
        """What is not as it is where there was room."""
        here, new = content(found), content(after)
        return [name for name in sorted({*here, *new}) if here.get(name) != new.get(name)]


class Training(Case):
    """Files change with every save, so that they are read instead of compared; the logs of others are not judged."""

    def judged(self, found: Path, before: Path, after: Path) -> tuple[list[str], list[str]]:
        from trainer.checkpoints import Checkpoints

        lost = [name for name in ("config.json", "log.jsonl") if not (found / "run" / name).exists()]
        latest, had = (Checkpoints(run / "run/checkpoints").latest() for run in (found, before))
        if latest is None or had is None or latest.name < had.name:
            lost.append("checkpoint")
        return unreadable(found / "run"), lost

    def differing(self, found: Path, after: Path) -> list[str]:
        return compared(found / "run", after / "run")


def cases(world: Path) -> dict[str, Case]:
    """The commands, run in `world`, in which the disk is `disk`; what they read lies beside it."""
    prepare = ["pipeline.prepare_cli", "--params", "params.yaml"]
    corpus = [*prepare, "corpus", "--out", "disk/corpus", "--raw"]
    images = [*prepare, "images", "--corpus", "corpus", "--raw", "raw", "--workers", "2", "--out", "disk/images"]
    embed = [*EMBED, "--scheduler", "sync", "--out", "disk/embeddings"]
    train = ["trainer.cli", *training_arguments(Path(), Path("disk/run"))]
    painted = ["painter.cli", "paint", "a red circle", "-n", "2", "--run", str(DEMO), "-o", "disk/picture.png"]
    model = ["painter.cli", "export", "disk/model", "--no-onnx", "--corpus", "corpus/train.parquet", "--run"]
    rows = ["store.cli", "export", "images/train/76", "--out"]
    return {
        "prepare world": Case([*prepare, "world", "--raw", "disk/world"],
                              [[*prepare, "world", "--raw", "disk/world", "--seed", "5"]], whole=True),
        "prepare corpus": Case([*corpus, "raw"], [[*corpus, "older"]]),
        "prepare images": Case(images, [[*images, "--split", "val"]]),
        "embed": Case(embed, [[*embed, "--kind", "captions"]]),
        "train stage1": Training(train, [[*train, "--steps", "4"]]),
        "paint": Case(painted, [[*painted, "--seed", "5"]]),
        "paint export": Case([*model, str(DEMO)], [[*model, "older-model"]], whole=True),
        "store export": Case([*rows, "disk/rows"], [[*rows, "disk/older"]]),
    }  # fmt: skip


def write_world(world: Path) -> None:
    """What the commands read."""
    from trainer import generator_file

    more = {
        "dataset": "sample", "visdial_version": "1.0", "world": {"seed": 3, "train": 150, "val": 30, "image_size": 64},
        "images": {"sizes": [76], "shard_mib": 1}, "embed": {"shard_mib": 1, "workers": 2},
    }  # fmt: skip
    (world / "params.yaml").write_text(yaml.safe_dump({**write_training(world), **more}))
    write_corpus(world / "data/corpus/t.parquet", corpus_rows(120))
    for command in (
        ["world", "--raw", "raw"],
        ["world", "--raw", "older", "--seed", "5"],
        ["corpus", "--raw", "raw", "--out", "corpus"],
    ):
        run(world, ["pipeline.prepare_cli", *command], must=True)
    shutil.copytree(DEMO, world / "older-model")
    generator = generator_file.load(DEMO / "generator.safetensors")
    for parameter in generator.parameters():
        parameter.data *= 1.01
    generator_file.save(generator, world / "older-model/generator.safetensors")


def run(world: Path, arguments: list[str], must: bool = False, before: Callable[[], object] = int) -> tuple[int, str]:
    """Exit status and stderr of a command; `before` runs first, in its process.

    Raises:
        ClickException: it fails, and must not.
    """
    said = world / "said"
    # Forked: to import torch anew takes longer than most of the commands.
    process = multiprocessing.get_context("fork").Process(target=_command, args=(world, said, before, *arguments))
    process.start()
    process.join(PATIENCE)
    process.kill()
    process.join()
    text, status = said.read_text(), process.exitcode
    assert status is not None
    if must and status:
        raise click.ClickException(f"{' '.join(arguments)}: failed where there was room:\n{text}")
    return status, text


def _command(world: Path, said: Path, before: Callable[[], object], module: str, *arguments: str) -> None:
    os.chdir(world)
    with open(said, "wb") as file, open(os.devnull, "wb") as nowhere:
        os.dup2(file.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    before()
    try:
        importlib.import_module(module).main(arguments)
    finally:
        gc.collect()  # what Python would say at its end of files that it cannot close


def undisturbed(case: Case, world: Path, before: Path, after: Path) -> tuple[int, int]:
    """Make both folders; bytes of the disk that are used before the command, and at most while it runs."""
    with Disk(world / "disk") as disk:
        for command in case.before:
            run(world, command, must=True)
        shutil.copytree(disk.folder, before)
    with Disk(world / "disk") as disk:
        shutil.copytree(before, disk.folder, dirs_exist_ok=True)
        began, most = disk.used(), multiprocessing.Value("q", 0)

        def seen(event: str, _: object) -> None:
            if event in ("os.rename", "os.remove"):  # the most is used just before a temporary file goes
                most.value = max(most.value, disk.used())

        run(world, case.arguments, must=True, before=lambda: sys.addaudithook(seen))
        shutil.copytree(disk.folder, after)
        return began, max(most.value, disk.used())


def trial(case: Case, world: Path, before: Path, after: Path, size: int) -> dict[str, Any]:
    """The command on a disk of `size` bytes, and again once there is room."""
    with Disk(world / "disk") as disk:
        shutil.copytree(before, disk.folder, dirs_exist_ok=True)
        disk.resize(size)
        status, said = run(world, case.arguments)
        partial, lost = case.judged(disk.folder, before, after)
        disk.resize(ROOM)
        again, then = run(world, case.arguments)
        differs = case.differing(disk.folder, after) if again == 0 else [then]
    return {
        "bytes": size,
        "status": status,
        "said": said,
        "one_line": status > 0 and bool(re.fullmatch(rf"Error: \S*disk/\S*: .*{FULL}.*\n", said)),
        "partial": partial,
        "lost": lost,
        "differs": differs,
    }


@click.command()
@click.option("--trials", default=8, show_default=True, help="Of each command.")
@click.option("--case", "names", multiple=True, help="[default: all]")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="[default: benchmarks/results/reliability-disk.json]")
def main(trials: int, names: tuple[str, ...], seed: int, out: Path | None) -> None:
    """Fill disks, make room, compare; print a table and write JSON."""
    begin_where_disks_can_be_mounted("benchmarks.reliability_disk")
    for module in FORKED:
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)  # a pool of threads does not live on in a forked process
    result: dict[str, Any] = {"machine": machine.describe(), "commands": {}}
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder).resolve()
        write_world(world)
        for name, case in cases(world).items():
            if names and name not in names:
                continue
            before, after = (world / f"{which} {name}" for which in ("before", "after"))
            began, needed = undisturbed(case, world, before, after)
            chance = random.Random(f"{name} {seed}")
            rows = []
            for number in range(trials):
                size = PAGE * chance.randrange(began // PAGE + 1, needed // PAGE)
                rows.append(trial(case, world, before, after, size))
                rows[-1]["said"] = rows[-1]["said"].replace(f"{world}/", "")
                click.echo(f"{name} {number + 1}/{trials}: {rows[-1]}", err=True)
            result["commands"][name] = {"used_before": began, "needed": needed, "trials": rows}
            write_results(result, "disk", out)
    for line in table(result):
        click.echo(line)


def table(result: dict[str, Any]) -> Iterator[str]:
    """Counts, a line a command."""
    head = ("needed KiB", "tried", "one line", "nothing partial", "kept", "same")
    yield " ".join(["command".rjust(14), *head])
    for name, about in result["commands"].items():
        rows = about["trials"]
        said = sum(row["one_line"] for row in rows)
        whole, kept, same = (sum(not row[what] for row in rows) for what in ("partial", "lost", "differs"))
        needed = (about["needed"] - about["used_before"]) // 1024
        figures = (f"{needed:,}", len(rows), said, whole, kept, same)
        yield " ".join([name.rjust(14), *(str(figure).rjust(len(word)) for word, figure in zip(head, figures))])


if __name__ == "__main__":
    main()
