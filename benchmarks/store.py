"""How fast random batches come out of a store, beside a raw memmap gather and the usual alternatives.

    python -m benchmarks.store                  # makes its own files, prints a table, writes results/store.json

Captions are rows of 1024 float16, dialogues runs of 10 rows of 4800 float16, in shards of 64 MiB, all read from the
page cache by one thread. "Raw" is the strongest form there is: `numpy.take` with `out=` from one mapped file without
any format. Contestants take turns within one run, each on fresh positions; the table holds medians.
"""

import contextlib
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from store import Store, StoreWriter, machine

ROUNDS, BATCH = 10, 384
SHARD = 64 << 20


def make_store(folder: Path, kind: str, rows: int, dim: int, group: int) -> Store:
    """Random rows through the real writer, and the same rows in one file without a format: `folder`.raw."""
    import pyarrow

    random = np.random.default_rng(0)
    per_shard = SHARD // (2 * dim) // group * group
    plan = [(first, min(per_shard, rows - first), str(first)) for first in range(0, rows, per_shard)]
    writer = StoreWriter(folder, kind=kind, split="bench", shape=(dim,), dtype="float16", made_from={})
    with writer, open(folder.with_suffix(".raw"), "wb") as raw:
        for number in writer.plan(plan):
            vectors = random.standard_normal((plan[number][1], dim), np.float32).astype(np.float16)
            writer.write_shard(number, vectors)
            raw.write(vectors.data)
        first = np.arange(0, rows, group)
        index = {"row": first, "image_id": first // group, "rounds": np.full(len(first), group)}
        writer.commit(pyarrow.table(index), lengths="rounds")
    return Store(folder)


def contestants(folder: Path, store: Store, group: int, parquet_rows: int) -> dict[str, Callable[[np.ndarray], Any]]:
    """Each takes `BATCH` numbers of groups and brings their rows, (BATCH, group, dim)."""
    dim, groups = store.shape[0], len(store) // group
    raw = np.asarray(np.memmap(folder.with_suffix(".raw"), np.float16, "r")).reshape(groups, group * dim)
    out = np.empty((BATCH, group, dim), np.float16)
    flat = out.reshape(BATCH, group * dim)
    lengths = np.full(BATCH, group)
    # Every page is mapped before the clock runs.
    raw.view(np.uint8)[:, :: 4096 // 2].max()
    for shard in store.manifest.shards:
        store.slice(shard.first_row, shard.first_row + shard.rows).view(np.uint8)[:, :: 4096 // 2].max()

    def gather(chosen: np.ndarray) -> None:
        np.take(raw, chosen, axis=0, out=flat, mode="clip")

    def take(chosen: np.ndarray) -> None:
        store.take(chosen, flat)

    def runs(chosen: np.ndarray) -> None:
        store.runs(chosen * group, lengths, out)

    return {
        "raw memmap, take(out=)": gather,
        "Store": take if group == 1 else runs,
        "raw memmap, fancy index": lambda chosen: raw[chosen],
        "Store, new array": (lambda chosen: store.take(chosen))
        if group == 1
        else (lambda chosen: store.runs(chosen * group, lengths)),
        "h5py, sorted fancy index": h5py_reader(store, group),
        "Parquet, fixed-size lists": parquet_reader(folder.with_suffix(".parquet"), store, group, parquet_rows),
        "DataLoader over h5py, 0 workers": loader(store, group, 0),
        "DataLoader over h5py, 2 workers": loader(store, group, 2),
    }


def h5py_reader(store: Store, group: int) -> Callable[[np.ndarray], Any]:
    import h5py

    shards = store.manifest.shards
    files = [h5py.File(store.path / shard.file, "r")["vectors"] for shard in shards]
    starts = np.array([shard.first_row for shard in shards])

    def read(chosen: np.ndarray) -> np.ndarray:
        out = np.empty((len(chosen), group, store.shape[0]), np.float16)
        chosen = np.unique(chosen)  # h5py wants ascending positions without repeats
        where = np.searchsorted(starts, chosen * group, "right") - 1
        done = 0
        for number in np.unique(where):
            rows = ((chosen[where == number] * group)[:, None] + np.arange(group)).reshape(-1) - starts[number]
            part = files[number][rows].reshape(-1, group, store.shape[0])
            out[done : done + len(part)] = part
            done += len(part)
        return out

    return read


def parquet_reader(path: Path, store: Store, group: int, rows: int) -> Callable[[np.ndarray], Any]:
    import pyarrow
    import pyarrow.parquet

    per_group = 1000 // group
    rows = min(rows, len(store)) // (per_group * group) * (per_group * group)
    values = pyarrow.array(store.take(np.arange(rows)).reshape(-1))
    table = pyarrow.table({"vector": pyarrow.FixedSizeListArray.from_arrays(values, store.shape[0] * group)})
    pyarrow.parquet.write_table(table, path, row_group_size=per_group, compression="none")
    file = pyarrow.parquet.ParquetFile(path, memory_map=True)

    def read(chosen: np.ndarray) -> None:
        chosen = chosen[:4] % len(table)  # the clock counts these four as what they are
        for number in chosen.tolist():
            file.read_row_group(number // per_group)["vector"][number % per_group].values.to_numpy(zero_copy_only=False)

    return read


PARQUET_SAMPLES = 4


class H5pyDataset:
    """What people write first: one item an index, files opened in the worker."""

    def __init__(self, store: Store, group: int) -> None:
        self.path, self.group, self.shards = store.path, group, store.manifest.shards
        self.starts = np.array([shard.first_row for shard in self.shards])
        self.length = len(store) // group
        self.files: dict[int, Any] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Any:
        import h5py
        import torch

        row = item * self.group
        number = int(np.searchsorted(self.starts, row, "right") - 1)
        if number not in self.files:
            self.files[number] = h5py.File(self.path / self.shards[number].file, "r")["vectors"]
        first = row - int(self.starts[number])
        return torch.from_numpy(self.files[number][first : first + self.group])


def loader(store: Store, group: int, workers: int) -> Callable[[np.ndarray], Any]:
    import torch

    def batches() -> Any:
        while True:
            yield from torch.utils.data.DataLoader(
                H5pyDataset(store, group),  # type: ignore[arg-type]
                batch_size=BATCH,
                shuffle=True,
                num_workers=workers,
                drop_last=True,
            )

    stream = batches()
    return lambda chosen: next(stream)


def measure(
    folder: Path, store: Store, group: int, repeats: int, slow_repeats: int, parquet_rows: int
) -> dict[str, dict[str, float]]:
    """samples/s of every contestant, and its ratio to raw: medians over turns."""
    random = np.random.default_rng(1)
    groups = len(store) // group
    runners = contestants(folder, store, group, parquet_rows)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(repeats):
        for name, run in runners.items():
            slow = "Parquet" in name or "h5py" in name
            if slow and turn >= slow_repeats:
                continue
            chosen = random.integers(0, groups, BATCH)
            start = time.perf_counter()
            run(chosen)
            seconds[name].append(time.perf_counter() - start)
    result = {}
    raw = statistics.median(seconds["raw memmap, take(out=)"])
    for name, values in seconds.items():
        samples = PARQUET_SAMPLES if "Parquet" in name else BATCH
        middle = statistics.median(values)
        result[name] = {"samples_per_second": samples / middle, "of_raw": raw / middle * samples / BATCH}
    return result


def first_reading(folder: Path) -> dict[str, float]:
    """Seconds a gigabyte, from the page cache, to read every row of a store that was just opened: with its blocks'
    checksums, which are compared then and never again, and without; medians of five."""
    rates: dict[str, list[float]] = {"compared": [], "not compared": []}
    for _ in range(5):
        for name, values in rates.items():
            store = Store(folder)
            if name == "not compared":
                store.manifest = dataclasses.replace(store.manifest, checksums=None)
            store.take([0])  # opens
            start = time.perf_counter()
            for shard in store.manifest.shards:
                store.slice(shard.first_row, shard.first_row + shard.rows).view(np.uint8)[:, :: 4096 // 2].max()
            size = len(store) * store.manifest.row_bytes
            values.append((time.perf_counter() - start) / size * 1e9)
    return {name: statistics.median(values) for name, values in rates.items()}


@click.command(context_settings={"show_default": True})
@click.option("--captions", default=200_000, help="Rows of 1024 (410 MB).")
@click.option("--dialogues", default=10_000, help="Runs of 10 rows of 4800 (960 MB).")
@click.option("--repeats", default=400, help="Batches a contestant.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to put the files.  [default: temporary]")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "store.json")
def main(captions: int, dialogues: int, repeats: int, folder: Path | None, out: Path) -> None:
    """Measure random reading; see the module's first lines."""
    results: dict[str, Any] = {}
    first: dict[str, dict[str, float]] = {}
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatpainter-store-")))
        for name, rows, dim, group in (
            ("captions", captions, 1024, 1),
            ("dialogues", dialogues * ROUNDS, 4800, ROUNDS),
        ):
            store = make_store(folder / name, name, rows, dim, group)
            results[name] = measure(folder / name, store, group, repeats, max(10, repeats // 20), 20_000)
            print(f"{name}: {len(store):,} rows of {dim} float16 in {len(store.manifest.shards)} shards, "
                  f"batches of {BATCH}")  # fmt: skip
            for contestant, values in results[name].items():
                print(
                    f"  {contestant:34}{values['samples_per_second']:12,.0f} samples/s {values['of_raw']:8.1%} of raw"
                )
            first[name] = first_reading(folder / name)
            seconds = ", ".join(f"{kind} {value:.2f} s/GB" for kind, value in first[name].items())
            print(f"  first reading, checksums {seconds}")
    record = {
        "machine": machine.describe(),
        "settings": {"batch": BATCH, "captions": captions, "dialogues": dialogues, "shard_mib": SHARD >> 20},
        "results": results,
        "first_reading_s_per_gb": first,
        "bars": {"Store of raw": 0.90},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"Store: {results['captions']['Store']['of_raw']:.0%} of raw for captions, "
          f"{results['dialogues']['Store']['of_raw']:.0%} for dialogues (bar 90 %): {out}")  # fmt: skip


if __name__ == "__main__":
    main()
