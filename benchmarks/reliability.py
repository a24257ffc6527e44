"""What the reliability scripts share: the commands that they disturb, and how what these leave is judged."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store.files import sha256_file
from tests.support.models import SMALL
from tests.support.runs import figures
from tests.support.same import same
from tests.support.stores import write_training_stores

PATIENCE = 600
"""Seconds after which a command hangs."""
EMBED = ["pipeline.embed_cli", "--split", "t", "--encoders", "tests.support.hash_encoder"]
BATCH, ITERATIONS = 6, 12
TRAINING = {
    "epochs": None, "images": ITERATIONS * BATCH, "batch": BATCH, "seed": 3, "ema_half_life": 20, "keep": 3,
    "log_every": BATCH, "grid_every": 4 * BATCH, "checkpoint_every": 2 * BATCH,
}  # fmt: skip


def environment() -> dict[str, str]:
    """Of a command in another folder that is to be this checkout's."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def write_training(folder: Path) -> dict[str, Any]:
    """Write the stores of a training of ITERATIONS iterations below `folder`; what params.yaml is to say."""
    write_training_stores(folder, "train", images=20, rounds=(3, 1, 2))
    write_training_stores(folder, "val", images=8, rounds=(3, 1, 2), seed=1, first_id=5000)
    model = {**SMALL, "dialogue": "recurrent", "standardise": True}
    return {"splits": ["train", "val"], "model": model, "stage1": TRAINING}


def training_arguments(folder: Path, run: Path) -> list[str]:
    """Of chatpainter-train, over the stores and params.yaml in `folder`."""
    return [
        "stage1", "--params", str(folder / "params.yaml"), "--run", str(run), "--device", "cpu",
        "--embeddings", str(folder / "embeddings"), "--images", str(folder / "images"),
    ]  # fmt: skip


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


def unreadable(run: Path) -> list[str]:
    """Files of a run, finished or not, that are not whole; the logs of TensorBoard and DVCLive are not looked at."""
    from PIL import Image

    from trainer import generator_file
    from trainer.checkpoints import load

    def checkpoint(path: Path) -> None:
        expected = path.with_name(f"{path.name}.sha256").read_text().split()[0]
        if sha256_file(path) != expected or not load(path):
            raise ValueError

    def lines(path: Path) -> None:
        if not path.read_text().endswith("\n"):
            raise ValueError

    readers: dict[str, Callable[[Path], object]] = {
        "checkpoints/*.pt": checkpoint,
        "*.safetensors": generator_file.load,
        "grids/*.png": lambda path: Image.open(path).load(),
        "log.jsonl": lines,
        "curves.csv": lines,
        "config.json": lambda path: json.loads(path.read_text()),
    }
    found = [path.name for path in run.rglob("*") if path.name == ".lock" or path.suffix == ".tmp"]
    for pattern, read in readers.items():
        for path in run.glob(pattern):
            try:
                read(path)
            except Exception:  # whatever it is, the file cannot be read
                found.append(path.name)
    return found


def write_results(result: dict[str, Any], what: str, out: Path | None) -> None:
    """As JSON, into `out` or benchmarks/results/reliability-WHAT.json."""
    path = out or Path(__file__).parent / f"results/reliability-{what}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
