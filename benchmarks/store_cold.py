"""How fast random batches come out of a store that memory cannot hold, beside the same rows mapped without advice.

    sudo python -m benchmarks.store_cold      # makes 14 GB of files, prints a table, writes results/store_cold.json

Captions are rows of 1024 float16, dialogues runs of 10 rows of 4800. Every reader is a process of its own within a
control group of `--memory` MiB, which the page cache counts in, and begins with nothing cached: hence root, on Linux.
The floor is the disk read from end to end by `read()`, 8 MiB at a time. "First" and "later": whether a store's blocks
are still to be compared with their checksums, which takes all of a block (64 KiB) for one row of it.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.store import BATCH, ROUNDS, h5py_reader, make_store
from store import Store, machine
from store.errors import ChatPainterError

Reader = Callable[[np.ndarray], Any]
CASES = {"captions": (1024, 1), "dialogues": (4800, ROUNDS)}
CHUNK = 8 << 20


def store_reader(folder: Path, group: int, compared: bool) -> Reader:
    store = Store(folder)
    if not compared:
        store.manifest = dataclasses.replace(store.manifest, checksums=None)
    out, lengths = np.empty((BATCH, group, *store.shape), store.dtype), np.full(BATCH, group)
    return lambda chosen: store.runs(chosen * group, lengths, out)


def mapped(folder: Path, group: int) -> Reader:
    dim = Store(folder).shape[0] * group
    raw = np.memmap(folder.with_suffix(".raw"), np.float16, "r").reshape(-1, dim)
    out = np.empty((BATCH, dim), np.float16)
    return lambda chosen: np.take(raw, chosen, axis=0, out=out, mode="clip")


def positioned(folder: Path, group: int) -> Reader:
    size = Store(folder).shape[0] * group * 2
    file, out = os.open(folder.with_suffix(".raw"), os.O_RDONLY), bytearray(size)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    return lambda chosen: [os.preadv(file, [out], place) for place in (chosen * size).tolist()]


READERS: dict[str, Callable[[Path, int], Reader]] = {
    "Store, first": lambda folder, group: store_reader(folder, group, True),
    "Store, later": lambda folder, group: store_reader(folder, group, False),
    "memmap, take(out=)": mapped,
    "preadv, one after the other": positioned,
    "h5py, sorted fancy index": lambda folder, group: h5py_reader(Store(folder), group),
}


def from_disk() -> int:
    """Bytes that this process had read from disks so far."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["read_bytes"])


def measure(name: str, folder: Path, group: int, seconds: float, seed: int, confined: Path) -> tuple[float, float]:
    """Groups of rows a second, and bytes read from the disk for each byte wanted; in a fresh process."""
    (confined / "cgroup.procs").write_text(str(os.getpid()))
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")
    read, random = READERS[name](folder, group), np.random.default_rng(seed)
    store = Store(folder)
    groups, wanted = len(store) // group, store.manifest.row_bytes * group
    before, begun, done = from_disk(), time.perf_counter(), 0
    while (taken := time.perf_counter() - begun) < seconds:
        read(random.integers(0, groups, BATCH))
        done += BATCH
    return done / taken, (from_disk() - before) / (done * wanted)


def disk(folder: Path, seconds: float, confined: Path) -> float:
    """Bytes a second of a file read from end to end."""
    (confined / "cgroup.procs").write_text(str(os.getpid()))
    Path("/proc/sys/vm/drop_caches").write_text("1")
    buffer, done, begun = bytearray(CHUNK), 0, time.perf_counter()
    with open(folder.with_suffix(".raw"), "rb", buffering=0) as file:
        while time.perf_counter() - begun < seconds and (read := file.readinto(buffer)):
            done += read
    return done / (time.perf_counter() - begun)


@contextlib.contextmanager
def control_group(memory: int) -> Iterator[Path]:
    """A control group of so many bytes of memory, of version 1 or 2."""
    root = Path("/sys/fs/cgroup")
    old = (root / "memory").is_dir()
    folder = (root / "memory" if old else root) / f"chatpainter-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(memory))
    except OSError as error:
        raise ChatPainterError(f"{folder}: no control group to be had ({error.strerror}); run it as root") from None
    try:
        yield folder
    finally:
        folder.rmdir()


@click.command(context_settings={"show_default": True})
@click.option("--gigabytes", default=3.5, help="Of each store, and again of its raw file.")
@click.option("--memory", default=1024, help="MiB that a reader may have, the page cache included.")
@click.option("--seconds", default=6.0, help="Time of a reader in one round.")
@click.option("--rounds", default=3, help="Of all readers in turn; the median counts.")
@click.option("--folder", type=click.Path(path_type=Path), help="On the disk to measure.  [default: temporary]")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "store_cold.json")
def main(gigabytes: float, memory: int, seconds: float, rounds: int, folder: Path | None, out: Path) -> None:
    """Measure cold reading; see the module's first lines."""
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatpainter-cold-")))
        confined = stack.enter_context(control_group(memory << 20))
        fresh = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1))
        for case, (dim, group) in CASES.items():
            rows = int(gigabytes * 1e9) // (2 * dim) // group * group
            make_store(folder / case, case, rows, dim, group)
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
            rates = []
            for turn in range(rounds):
                rates.append(fresh.submit(disk, folder / case, seconds, confined).result())
                for name, values in found.items():
                    values.append(fresh.submit(measure, name, folder / case, group, seconds, turn, confined).result())
            rate = statistics.median(rates)
            results[case] = {"disk_mb_per_s": rate / 1e6, "readers": {}}
            click.echo(f"{case}: {rows:,} rows of {dim}, {memory} MiB of memory; the disk gives {rate / 1e6:,.0f} MB/s")
            plain = statistics.median(speed for speed, _ in found["memmap, take(out=)"])
            for name, values in found.items():
                speed, read = (statistics.median(column) for column in zip(*values))
                of_disk = speed * 2 * dim * group / rate
                results[case]["readers"][name] = {
                    "samples_per_second": speed, "of_memmap": speed / plain, "of_disk": of_disk, "read_for_one": read,
                }  # fmt: skip
                click.echo(
                    f"  {name:30}{speed:10,.0f} samples/s {speed / plain:8.1f} of memmap {of_disk:7.1%} of the disk "
                    f"{read:9,.1f} bytes read for one"
                )
    settings = {"gigabytes": gigabytes, "memory_mib": memory, "batch": BATCH, "seconds": seconds, "rounds": rounds}
    out.write_text(
        json.dumps({"machine": machine.describe(), "settings": settings, "results": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
