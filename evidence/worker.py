"""One training of the experiment, evaluated at several numbers of pictures seen. Run as a process of its own."""

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from store import params
from store.files import replacing

DONE = "result.json"


def run(folder: Path, device: str) -> None:
    """Train and evaluate what `folder`/params.yaml says, in its own work folder; continues where it stopped.

    Writes `folder`/{point}/metrics.json for every point and `folder`/result.json last.
    """
    from trainer import config, distributed, loop
    from trainer.evaluate import EvaluateSettings, Paths, evaluate

    values = params.load(folder / "params.yaml")
    about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    splits = values["splits"]
    model, training = config.load(folder / "params.yaml", 1)
    final = params.section(values, "evaluate", EvaluateSettings, str(folder / "params.yaml"))
    between = replace(final, gallery=0, probes=(), rounds_curve=())
    between = params.build(EvaluateSettings, {**_plain(between), **about["evaluate_between"]}, "evaluate_between")
    began = time.perf_counter()
    for point in about["points"]:
        out = folder / f"{point:09d}"
        if (out / "metrics.json").exists():
            continue
        going = loop.Run(
            stage=1,
            model=model,
            training=training,
            folder=folder / "run",
            embeddings=Path("data/embeddings"),
            images=Path("data/images"),
            split=splits[0],
            held_out=None,
            stop_at=point,
            device=device,
        )
        if not loop.train(going):
            sys.exit("interrupted; run the same command to continue")
        ranks = distributed.start(device)
        paths = Paths(
            generator=folder / "run" / "generator.safetensors",
            embeddings=Path("data/embeddings"),
            images=Path("data/images"),
            raw=Path(values["raw"]),
            out=out,
            classifier=Path("classifier.safetensors"),
            logs=(folder / "run",),
        )
        evaluate(paths, final if point == about["points"][-1] else between, ranks)
    shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)
    with replacing(folder / DONE) as temporary:
        temporary.write_text(json.dumps({"key": about["key"], "seconds": time.perf_counter() - began}) + "\n")


def _plain(settings: object) -> dict:
    from dataclasses import asdict

    return asdict(settings)  # type: ignore[call-overload]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run(Path(sys.argv[1]), sys.argv[2])
