"""Whole trainings on small stores, as the commands start them, and what they left behind."""

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

TIMES = ("seconds", "sec_per_kimg", "img_per_s", "data_wait", "cpu_gib")
"""Figures of a log that differ from run to run."""


def run_of(data: Path, folder: Path, model: Any, training: Any, **about: Any) -> Any:
    """A `Run` of stage 1, or of stage 2 where `training` is a Stage2Config; data/ holds embeddings/ and images/.

    Args:
        about: other fields of the Run, and the fields of `training` to change.
    """
    from trainer import systems
    from trainer.run import Run
    from trainer.systems.chatpainter.config import Stage2Config, StageSettings

    stage = 2 if isinstance(training, Stage2Config) else 1
    own = {name: about.pop(name) for name in list(about) if name in Run.__dataclass_fields__ and name != "images"}
    defaults = {"split": "train", "held_out": None, "device": "cpu"}
    return Run(
        system=systems.find(f"stage{stage}"),
        config=StageSettings(stage, model, replace(training, **about)),  # type: ignore[arg-type]
        folder=folder,
        embeddings=data / "embeddings",
        images=data / "images",
        **(defaults | own),
    )


def figures(folder: Path) -> list[dict[str, float]]:
    """The records of a run's log without what was timed."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def hold_after(steps: int, gate: Path) -> None:
    """In this process no iteration after the first `steps` begins until the file `gate` is there.

    So a test finds a run in its middle, however busy the machine is.
    """
    from trainer.systems.chatpainter.step import Gan

    step, begun = Gan.step, itertools.count(1)

    def held(self: Any, *arguments: Any, **named: Any) -> None:
        if next(begun) > steps:
            while not gate.exists():
                time.sleep(0.01)
        step(self, *arguments, **named)

    Gan.step = held  # type: ignore[method-assign]
