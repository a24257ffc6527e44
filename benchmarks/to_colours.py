"""How many pictures, and how many minutes, until the sample profile paints 95 of 100 colours as they were said?

    python -m benchmarks.to_colours --device cuda

Makes the sample world in a temporary folder by the commands that `dvc repro` calls, trains stage 1 in pieces and
evaluates between them. Minutes are of the training's own log: starts, saving and evaluations apart. The file is written
after every evaluation, so what was found stands even where time runs out.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import yaml

from store import machine, params
from trainer.logs.log import read_log

ROOT = Path(__file__).parents[1]
SCORE = "stage1_colour_accuracy"


def command(module: str, *arguments: object) -> list[str]:
    """One of our commands, by its module."""
    return [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)]


@click.command()
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--reach", default=0.95, show_default=True, help="Colour accuracy to reach.")
@click.option("--every", default=4_000, show_default=True, help="Pictures between two evaluations.")
@click.option("--most", default=48_000, show_default=True, help="Pictures after which to give up.")
@click.option("--smoke", is_flag=True, help="A few scenes and pictures: that it runs, not how fast.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks/results/to_colours.json",
              show_default=True)  # fmt: skip
def main(device: str, reach: float, every: int, most: int, smoke: bool, out: Path) -> None:
    """Train the sample profile's stage 1 until its colours are right."""
    values = params.load(ROOT / "params.yaml")
    values["evaluate"] = {"split": "val", "rounds_curve": [], "probes": [], "gallery": 0}
    values["images"]["sizes"] = [76]
    if smoke:
        values["world"] |= {"train": 64, "val": 16}
        values["evaluate"]["classifier"] = {"epochs": 1}
        every, most = 64, 128
    points: list[dict[str, Any]] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")

        def run(module: str, *arguments: object) -> None:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run(
                command(module, *arguments), cwd=work, check=True, env=environment, stdout=subprocess.DEVNULL
            )

        run("pipeline.prepare_cli", "world")
        for split in ("train", "val"):
            run("pipeline.prepare_cli", "corpus", "--split", split)
        run("pipeline.prepare_cli", "weights")
        for split in ("train", "val"):
            run("pipeline.prepare_cli", "images", "--split", split)
            run("pipeline.embed_cli", "--split", split, "--scheduler", "sync")
        for seen in range(every, most + 1, every):
            arguments = ("stage1", "--images-seen", seen, "--device", device, "--log", "tensorboard")
            run("trainer.cli", *arguments)
            minutes = read_log(work / "runs/stage1")[-1]["seconds"] / 60
            run("trainer.evaluation.cli", "--run", "runs/stage1", "--device", device)
            score = json.loads((work / "runs/evaluate/metrics.json").read_text(encoding="utf-8"))[SCORE]
            points.append({"pictures": seen, "minutes": round(minutes, 2), SCORE: score})
            click.echo(f"{seen:>8,} pictures  {minutes:6.2f} min  {score:.3f}")
            reached = score >= reach
            about = {"device": device, "smoke": smoke, "reach": reach, "machine": machine.describe()}
            out.write_text(
                json.dumps(about | {"reached": reached, "points": points}, indent=1) + "\n", encoding="utf-8"
            )
            if reached:
                break


if __name__ == "__main__":
    main()
