"""Pictures into stores: chatpainter-prepare images beside a plain loop, on one worker and on several.

    python -m benchmarks.images PHOTOS          # a folder of JPEGs; prints a table, writes results/images.json

The plain loop opens a picture once a size, as StackGAN's preparation does, resizes it and keeps the array: no store, no
checksum. The floor is Pillow's decoding of every file at full size, once. Ours runs as people run it; its start is in
its time.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks.pipeline import IMAGES, ROOT
from pipeline.corpora import corpus
from store import machine

SIZES = (76, 304)


def make_corpus(photos: list[Path], count: int, folder: Path) -> list[Path]:
    """`count` pictures, the photos over and over under names of their own, and the corpus that lists them."""
    pictures = folder / "data" / "raw" / "images" / "bench"
    pictures.mkdir(parents=True)
    rows = []
    for image_id, photo in zip(range(count), itertools.cycle(photos)):
        name = f"{image_id:012d}.jpg"
        (pictures / name).write_bytes(photo.read_bytes())
        rows.append(corpus.Row(image_id, name, None, None, [(image_id, "a photo")], [], ""))
    (folder / "data" / "corpus").mkdir()
    corpus.write(rows, folder / "data" / "corpus" / "bench.parquet")
    (folder / "params.yaml").write_text("raw: data/raw\nsplits: [bench]\n")
    return sorted(pictures.iterdir())


def plain(paths: list[Path]) -> None:
    for path in paths:
        for size in SIZES:
            with Image.open(path) as image:
                np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def decode(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            image.load()


def ours(folder: Path, workers: int) -> None:
    sizes = [option for size in SIZES for option in ("--size", str(size))]
    start = "from pipeline.prepare_cli import main; main()"
    command = [sys.executable, "-c", start, "images", *sizes, "--workers", str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    subprocess.run(["rm", "-r", str(folder / "data" / "images")], check=True)


@click.command(context_settings={"show_default": True})
@click.argument("photos", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--count", default=2000, help="Pictures.")
@click.option("--runs", default=3)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "images.json")
def main(photos: Path, count: int, runs: int, out: Path) -> None:
    """Time them in turn and write JSON."""
    found = sorted(photos.glob("*.jpg"))
    if not found:
        raise click.ClickException(f"{photos}: no *.jpg in it")
    cores = machine.cores()
    numbers = [number for number in (1, 2, 4, 8) if number <= cores]
    with tempfile.TemporaryDirectory(prefix="chatpainter-images-") as place:
        folder = Path(place)
        paths = make_corpus(found, count, folder)
        contestants: dict[str, Callable[[], None]] = {
            "decoding alone": lambda: decode(paths),
            "plain loop": lambda: plain(paths),
            **{f"ours, {n} worker{'s' * (n > 1)}": lambda n=n: ours(folder, n) for n in numbers},  # type: ignore[misc]
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(runs):
            for name, work in contestants.items():
                start = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - start)
    rates = {name: count / statistics.median(each) for name, each in seconds.items()}
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "photos": len(found),
        "pictures": count,
        "sizes": SIZES,
        "pictures_per_second": rates,
        "of_plain_loop": {name: rate / rates["plain loop"] for name, rate in rates.items()},
        "minutes_for_coco_2014": {name: IMAGES / rate / 60 for name, rate in rates.items()},
    }
    for name, rate in rates.items():
        print(f"{name:16} {rate:7.0f} pictures/s, {result['of_plain_loop'][name]:.2f} x the plain loop")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main()
