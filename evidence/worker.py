"""One training of the experiment, evaluated at several numbers of pictures seen. Run as a process of its own."""

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store import params
from store.files import replacing

if TYPE_CHECKING:
    from trainer.config import Config
    from trainer.evaluation.settings import EvaluateSettings
    from trainer.systems import System

DONE = "result.json"
CLASSIFIER = Path("classifier.safetensors")


def run(folder: Path, device: str) -> None:
    """Train and evaluate what `folder`/params.yaml says, in its own work folder; continues where it stopped.

    Writes `folder`/{point}/metrics.json for every point and `folder`/result.json last.
    """
    from trainer import loop
    from trainer.run import Run

    where = folder / "params.yaml"
    values = params.load(where)
    about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    system, config, final, between = configured(values, about["system"], about["evaluate_between"], str(where))
    began = time.perf_counter()
    whole = Run(
        system=system,
        config=config,
        folder=folder / "run",
        embeddings=Path("data/embeddings"),
        images=Path("data/images"),
        split=values["splits"][0],
        held_out=None,
        start=Path("runs") / system.starts_from if system.starts_from else None,
        device=device,
    )
    for point in about["points"]:
        out = folder / f"{point:09d}"
        if (out / "metrics.json").exists():
            continue
        if not loop.train(replace(whole, stop_at=point // about["pictures_each"])):
            sys.exit("interrupted; run the same command to continue")
        settings = final if point == about["points"][-1] else between
        evaluate(folder, out, settings, device, classifier_of(settings.split, final.split))
    shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)
    with replacing(folder / DONE) as temporary:
        seconds = time.perf_counter() - began
        parameters = system.parameters(config, whole.data(whole.split))
        temporary.write_text(json.dumps({"key": about["key"], "seconds": seconds, "parameters": parameters}) + "\n")


def configured(
    values: dict[str, Any], name: str, evaluate_between: dict[str, Any], where: str
) -> "tuple[System, Config, EvaluateSettings, EvaluateSettings]":
    """The system of that name, how it is trained, how its last point is evaluated, and how the others are.

    Raises:
        ChatPainterError: there is no such system, or a section is wrong; begins with `where`.
    """
    from trainer import systems

    system = systems.find(name)
    params.refuse_unknown(values, list(params.sections()), where)
    return system, system.configure(values, where), *judged_by(values, evaluate_between, where)


def judged_by(
    values: dict[str, Any], evaluate_between: dict[str, Any], where: str
) -> "tuple[EvaluateSettings, EvaluateSettings]":
    """How the last point is evaluated, and how the others are."""
    from trainer.evaluation.settings import EvaluateSettings

    final = params.section(values, "evaluate", EvaluateSettings, where)
    between = asdict(replace(final, gallery=0, probes=(), rounds_curve=())) | evaluate_between
    return final, params.build(EvaluateSettings, between, where)


def classifier_of(split: str, final: str) -> Path:
    """The world's classifier beside its scores on pictures of `split`; `final`: the split of the last point."""
    return CLASSIFIER if split == final else CLASSIFIER.with_stem(f"{CLASSIFIER.stem}-{split}")


def evaluate(folder: Path, out: Path, settings: "EvaluateSettings", device: str, classifier: Path) -> None:
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
