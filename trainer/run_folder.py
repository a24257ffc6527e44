"""The folder of one run: who is writing in it, with which configuration it was begun, and what leaves it.

runs/stage1/  config.json  log.jsonl  curves.csv  checkpoints/  grids/  generator.safetensors
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from store.differences import changes
from store.errors import ChatPainterError
from store.files import in_words, replacing, sha256_file, unfinished
from store.lock import LOCK, FolderLock
from trainer import generator_file
from trainer.checkpoints import Checkpoints
from trainer.config import MAY_CHANGE
from trainer.feed.data import TrainingData
from trainer.run import Run
from trainer.systems import Generator


def describe(run: Run, generator: Generator, data: TrainingData) -> dict[str, Any]:
    """What config.json holds: all that decides what is trained, the data's and the starting point's checksums too."""
    start = run.start_file
    return {
        **run.config.plain(),
        **run.system.describe(run.config, generator),
        "split": run.split,
        "data": data.checksums,
        "dataset": run.dataset,
        **({} if start is None or not start.is_file() else {f"{run.system.starts_from}_generator": sha256_file(start)}),
    }


@contextlib.contextmanager
def claimed(run: Run, config: dict[str, Any], end: int) -> Iterator[None]:
    """Hold the run's folder for this process alone, with `config` written into it.

    A run that was begun with another configuration, or that has seen more pictures than the configuration's `end`,
    is refused, forked, or set aside for a new one.

    Raises:
        ChatPainterError: the configuration differs and neither --fork nor --restart was given.
        StoreError: another process is training in this folder, or it cannot be written.
    """
    with contextlib.ExitStack() as held:
        held.enter_context(FolderLock(run.folder))
        changed = _changed(run, config)
        if (seen := Checkpoints(run.folder / "checkpoints").furthest()) > end:
            changed.append(f"{seen:,} pictures were seen, {end:,} are asked for")
        if changed and run.restart:
            old = set_aside(run.folder)
            print(f"{run.folder}: the configuration changed ({', '.join(changed)}); the old run is {old}")
            held.enter_context(FolderLock(run.folder))
        elif changed and not run.fork:
            raise ChatPainterError(
                f"{run.folder}: was trained with another configuration ({', '.join(changed)}); restore it, name another"
                " --run, continue from its weights with --fork, or set it aside and begin again with --restart"
            )
        with in_words(run.folder):
            for left in unfinished(run.folder):
                left.unlink(missing_ok=True)
        path = run.folder / "config.json"
        with in_words(path), replacing(path) as temporary:
            temporary.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        yield


def _changed(run: Run, config: dict[str, Any]) -> list[str]:
    """How the configuration differs from that which the folder's run was begun with."""
    path = run.folder / "config.json"
    if not path.exists():
        return []
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError
    except ValueError:
        raise ChatPainterError(f"{path}: not JSON; remove the run's folder to start again") from None
    own = tuple(f"{run.system.name}.{name}" for name in MAY_CHANGE)
    before = _over(run.config.defaults(), before)  # a setting that came later was as it is by default
    return changes(before, config, ignore=("dataset", *own, *run.system.retired))


def _over(defaults: Any, given: Any) -> Any:
    """`given`, with what it lacks of `defaults`."""
    if not isinstance(defaults, dict) or not isinstance(given, dict):
        return given
    return {**defaults, **{name: _over(defaults.get(name), value) for name, value in given.items()}}


def set_aside(folder: Path) -> Path:
    """Rename a run's folder to the first free FOLDER.old-N."""
    number = 1
    while (old := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(old)
    (old / LOCK).unlink(missing_ok=True)
    return old


def save_generator(run: Run, average: Generator, images_seen: int, score: float | None, best: bool) -> None:
    """The average as generator.safetensors, and as generator-best.safetensors if no checkpoint scored better."""
    average.settings = {
        **average.settings,
        "training": run.config.plain()[run.system.name],
        "images_seen": images_seen,
        "held_out_distance": score,
        "dataset": run.dataset,
    }
    for name in ("generator.safetensors", *(["generator-best.safetensors"] if best else [])):
        generator_file.save(average, run.folder / name)
