"""How fast batches of stage 1 come: the ring beside sequential slices of the same maps and a DataLoader over h5py.

    python -m benchmarks.feed                       # makes its own stores, prints a table, writes results/feed.json
    python -m benchmarks.feed --device cuda --seconds 60

A sample is what the paper's stage 1 reads at full scale: a 76 × 76 picture (uint8), a caption (1024, float16) and ten
rounds (10 × 4800, float16), 115 kB in all. All contestants read the same files from the page cache and take turns
within one run; the table holds medians. The crop is not in it: it happens on the device (`augment` has its own line).
"""

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from store import machine

if TYPE_CHECKING:
    from trainer.feed.data import TrainingData

IMAGES, CAPTIONS, ROUNDS = 4096, 5, 10
CAPTION_DIM, TURN_DIM, SIDE = 1024, 4800, 76
AHEAD = 4  # batches that a contestant may have gathered while others were measured: not timed


def make_stores(folder: Path, images: int) -> None:
    """Random stores of the shapes above, written through the real writer."""
    import pyarrow

    from store import StoreWriter

    random = np.random.default_rng(0)
    ids = np.arange(images) + 1

    def write(name: str, rows: int, shape: tuple[int, ...], dtype: str, index: dict[str, Any]) -> None:
        per_shard = max(1, (128 << 20) // (int(np.prod(shape)) * np.dtype(dtype).itemsize))
        per_shard = max(ROUNDS, per_shard // ROUNDS * ROUNDS)  # a dialogue lies in one shard
        plan = [(first, min(per_shard, rows - first), f"{first}") for first in range(0, rows, per_shard)]
        kind, dataset = (name, "vectors") if dtype == "float16" else ("images", "images")
        with StoreWriter(
            folder / name, kind=kind, split="bench", shape=shape, dtype=dtype, dataset=dataset, made_from={}
        ) as writer:
            for number in writer.plan(plan):
                count = plan[number][1]
                if dtype == "uint8":
                    array = random.integers(0, 256, (count, *shape), dtype=np.uint8)
                else:
                    array = (random.standard_normal((count, *shape), dtype=np.float32) * 0.02).astype(np.float16)
                writer.write_shard(number, array)
            writer.commit(pyarrow.table(index), lengths="rounds" if "rounds" in index else None)

    every = np.arange(images)
    captions = np.repeat(ids, CAPTIONS)
    write("captions", len(captions), (CAPTION_DIM,), "float16", {"row": np.arange(len(captions)), "image_id": captions})
    turns = {"row": every * ROUNDS, "image_id": ids, "rounds": np.full(images, ROUNDS)}
    write("turns", images * ROUNDS, (TURN_DIM,), "float16", turns)
    write(str(SIDE), images, (SIDE, SIDE, 3), "uint8", {"row": every, "image_id": ids})


class H5Samples:
    """What a torch tutorial does: a map-style dataset that opens the HDF5 files in its process and reads a sample."""

    def __init__(self, folder: Path) -> None:
        from store import Store

        self.stores = {name: Store(folder / name) for name in ("captions", "turns", str(SIDE))}
        self.files: dict[str, tuple[list[Any], np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.stores[str(SIDE)])

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        import h5py

        if name not in self.files:
            shards, dataset = self.stores[name].manifest.shards, self.stores[name].manifest.dataset
            sets = [h5py.File(self.stores[name].path / shard.file, "r")[dataset] for shard in shards]
            self.files[name] = sets, np.array([shard.first_row for shard in shards])
        sets, first = self.files[name]
        shard = int(np.searchsorted(first, start, side="right")) - 1
        return np.asarray(sets[shard][start - first[shard] : stop - first[shard]])

    def __getitem__(self, image: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        caption = image * CAPTIONS + int(np.random.randint(CAPTIONS))  # noqa: NPY002
        return (
            self.read(str(SIDE), image, image + 1)[0],
            self.read("captions", caption, caption + 1)[0],
            self.read("turns", image * ROUNDS, (image + 1) * ROUNDS),
        )


def training_data(folder: Path) -> "TrainingData":
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import CAPTIONS, TURNS, pictures

    return TrainingData((CAPTIONS, pictures(64), TURNS), folder, folder)


def sequential(folder: Path, batch: int) -> Generator[int, None, None]:
    """The floor: neighbouring rows copied from the same maps into one preallocated batch."""
    data = training_data(folder)
    out = data.new_batch(batch)
    images, captions, turns = (out[name].numpy() for name in ("images", "captions", "turns"))
    stores: dict[str, Any] = data.stores
    while True:
        for first in range(0, len(data) - batch + 1, batch):
            images[:] = stores["images"].slice(first, first + batch)
            captions[:] = stores["captions"].slice(first, first + batch)
            rows = stores["turns"].slice(first * ROUNDS, (first + batch) * ROUNDS)
            turns[:] = rows.reshape(batch, ROUNDS, TURN_DIM)
            yield batch


def ring(folder: Path, batch: int, device: str, threads: int) -> Generator[int, None, None]:
    import torch

    from trainer.feed.ring import BatchRing

    data = training_data(folder)
    with BatchRing(data, batch, seed=0, device=device, threads=threads) as batches:
        for one in batches:
            if device != "cpu":
                torch.cuda.synchronize()
            yield one.size


def loader(folder: Path, batch: int, device: str, workers: int) -> Generator[int, None, None]:
    import torch

    samples: Any = H5Samples(folder)
    pin = device != "cpu"
    batches = torch.utils.data.DataLoader(
        samples,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
    )
    while True:
        for tensors in batches:
            for tensor in tensors:
                tensor.to(device, non_blocking=True)
            if pin:
                torch.cuda.synchronize()
            yield batch


def augmented(batch: int, device: str) -> Generator[int, None, None]:
    import torch

    from trainer.feed.augment import augment
    from trainer.feed.sampler import Draws

    images = torch.randint(0, 256, (batch, SIDE, SIDE, 3), dtype=torch.uint8, device=device)
    for step in range(1 << 60):
        augment(images, 64, Draws(0, step, batch, slice(batch), device).uniform("crop", 3))
        if device != "cpu":
            torch.cuda.synchronize()
        yield batch


def waiting(folder: Path, batch: int, device: str, threads: int, step_ms: float, seconds: float) -> float:
    """Share of the time spent waiting for data by a loop whose own work takes `step_ms` of a busy Python thread."""
    import torch

    from trainer.feed.ring import BatchRing

    data = training_data(folder)
    small = torch.ones(64, 64, device=device)
    with BatchRing(data, batch, seed=0, device=device, threads=threads) as batches:
        next(batches)
        batches.take_wait()
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            next(batches)
            busy = time.perf_counter()
            while (time.perf_counter() - busy) * 1000 < step_ms:
                small = small * 1.0  # as a training thread does: Python and small calls
        return batches.take_wait() / (time.perf_counter() - began)


def samples_per_second(batches: Iterator[int], seconds: float) -> float:
    began = time.perf_counter()
    count = 0
    while (lasted := time.perf_counter() - began) < seconds or not count:
        count += next(batches)
    return count / lasted


@click.command()
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--seconds", default=45.0, show_default=True, help="Time to measure, over all contestants and rounds.")
@click.option("--rounds", default=11, show_default=True, help="Turns that each contestant gets; the median counts.")
@click.option("--batch", default=384, show_default=True)
@click.option("--images", default=IMAGES, show_default=True, help="Size of the stores that are made (115 kB an image).")
@click.option("--threads", default=2, show_default=True, help="Threads that gather.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make the stores and keep them.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "feed.json")
def main(
    device: str, seconds: float, rounds: int, batch: int, images: int, threads: int, folder: Path | None, out: Path
) -> None:
    """Measure the feed of stage 1; see the module's first lines."""
    import torch

    # Copies gain nothing from more; beside other work the waiting threads of OpenMP would cost the DataLoader dearly.
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatpainter-feed-")))
        make_stores(folder, images)
        contestants: dict[str, Callable[[], Generator[int, None, None]]] = {
            "sequential slices": lambda: sequential(folder, batch),
            "ring, 1 thread": lambda: ring(folder, batch, device, 1),
            f"ring, {threads} threads": lambda: ring(folder, batch, device, threads),
            "DataLoader over h5py, 0 workers": lambda: loader(folder, batch, device, 0),
            "DataLoader over h5py, 2 workers": lambda: loader(folder, batch, device, 2),
            "augment alone": lambda: augmented(batch, device),
        }
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        share = seconds / (rounds * (len(contestants) + 1))
        running = {name: start() for name, start in contestants.items()}
        for _ in range(rounds):
            for name, batches in running.items():
                for _ in range(AHEAD):
                    next(batches)
                speeds[name].append(samples_per_second(batches, share))
        for batches in running.values():
            batches.close()
        waits = {f"{ms} ms": waiting(folder, batch, device, threads, ms, share * rounds / 2) for ms in (50, 100)}

    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max((name for name in medians if name.startswith("ring")), key=medians.__getitem__)
    floor = medians["sequential slices"]
    rival = max(value for name, value in medians.items() if name.startswith("DataLoader"))
    result = {
        "machine": machine.describe(),
        "settings": {"batch": batch, "images": images, "bytes_per_sample": SIDE * SIDE * 3 + 2 * 1024 + 2 * 10 * 4800},
        "samples_per_second": {name: {"median": medians[name], "all": speeds[name]} for name in medians},
        "ring": best,
        "share_of_sequential": medians[best] / floor,
        "times_dataloader": medians[best] / rival,
        "share_waiting_beside_a_step_of": waits,
        "bars": {"share_of_sequential": 0.70, "times_dataloader": 4.0},
    }
    width = max(map(len, medians))
    for name, value in medians.items():
        spread = f"{min(speeds[name]):,.0f}–{max(speeds[name]):,.0f}"
        print(f"{name:{width}}  {value:9,.0f} samples/s  {value / batch:7.1f} batches/s  ({spread})")
    print(f"{best}: {medians[best] / floor:.0%} of sequential slices (bar 70 %)")
    print(f"{best}: {medians[best] / rival:.1f} × the better DataLoader over h5py (bar 4 ×)")
    print("waiting for data:", ", ".join(f"{value:.1%} beside steps of {name}" for name, value in waits.items()))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
