"""One training of the experiment, evaluated at several numbers of pictures seen. Run as a process of its own."""

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from store import params
from store.files import replacing

if TYPE_CHECKING:
    from trainer.evaluation.settings import EvaluateSettings

DONE = "result.json"
CLASSIFIER = Path("classifier.safetensors")


def run(folder: Path, device: str) -> None:
    """Train and evaluate what `folder`/params.yaml says, in its own work folder; continues where it stopped.

    Writes `folder`/{point}/metrics.json for every point and `folder`/result.json last.
    """
    from trainer import loop, systems
    from trainer.evaluation.settings import EvaluateSettings
    from trainer.run import Run

    values = params.load(folder / "params.yaml")
    about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    system = systems.find(systems.lineage(systems.LAST)[0])
    config = system.configure(values, str(folder / "params.yaml"))
    final = settings(folder)
    between = replace(final, gallery=0, probes=(), rounds_curve=())
    between = params.build(EvaluateSettings, asdict(between) | about["evaluate_between"], "evaluate_between")
    began = time.perf_counter()
    for point in about["points"]:
        out = folder / f"{point:09d}"
        if (out / "metrics.json").exists():
            continue
        going = Run(
            system=system,
            config=config,
            folder=folder / "run",
            embeddings=Path("data/embeddings"),
            images=Path("data/images"),
            split=values["splits"][0],
            held_out=None,
            stop_at=point,
            device=device,
        )
        if not loop.train(going):
            sys.exit("interrupted; run the same command to continue")
        evaluate(folder, out, final if point == about["points"][-1] else between, device)
    shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)
    with replacing(folder / DONE) as temporary:
        temporary.write_text(json.dumps({"key": about["key"], "seconds": time.perf_counter() - began}) + "\n")


def settings(folder: Path) -> "EvaluateSettings":
    """How a training's last point is evaluated."""
    from trainer.evaluation.settings import EvaluateSettings

    where = folder / "params.yaml"
    return params.section(params.load(where), "evaluate", EvaluateSettings, str(where))


def evaluate(folder: Path, out: Path, settings: "EvaluateSettings", device: str, classifier: Path = CLASSIFIER) -> None:
    """Evaluate the generator of a training as it is, into `out`; all paths are the work folder's."""
    from trainer import distributed
    from trainer.evaluation import evaluate as evaluation

    paths = evaluation.Paths(
        generator=folder / "run" / "generator.safetensors",
        embeddings=Path("data/embeddings"),
        images=Path("data/images"),
        raw=Path(params.load(folder / "params.yaml")["raw"]),
        out=out,
        classifier=classifier,
        logs=(folder / "run",),
    )
    evaluation.evaluate(paths, settings, distributed.start(device))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run(Path(sys.argv[1]), sys.argv[2])
