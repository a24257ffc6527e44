"""Everything but the encoding, at full scale: VisDial's 1.23 M turns and COCO's 617 k captions into stores.

    python -m benchmarks.pipeline POOLS         # prints tables, writes results/pipeline.json; needs 20 GB of disk
    python -m benchmarks.pipeline POOLS --scaling-params params.yaml    # also 1, 2 and 4 workers of the real encoder

POOLS is a folder with VisDial v1.0 JSON files: their pools of real questions, answers and captions are drawn from. The
encoder is a stand-in that costs nothing (benchmarks/standin.py), so what is measured is reading, cutting, hashing,
carrying, converting, writing and checking. The disk's own rate is one plain sequential write of as many bytes, synced,
before, between and after the runs.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import standin
from store import machine

ROOT = Path(__file__).parents[1]
IMAGES, CAPTIONS, ROUNDS = 123_287, 616_767, 10


def read_pools(folder: Path) -> dict[str, list[str]]:
    """Distinct real questions, answers and captions of the VisDial files in a folder."""
    pools: dict[str, dict[str, None]] = {"questions": {}, "answers": {}, "captions": {}}
    for path in sorted(folder.glob("*.json")):
        values = json.loads(path.read_text())
        data = values.get("data") if isinstance(values, dict) else None
        if not isinstance(data, dict):
            continue
        pools["questions"].update(dict.fromkeys(data["questions"]))
        pools["answers"].update(dict.fromkeys(data["answers"]))
        pools["captions"].update(dict.fromkeys(dialogue["caption"] for dialogue in data["dialogs"]))
    if not pools["questions"]:
        raise click.ClickException(f"{folder}: no VisDial JSON with pools of questions and answers")
    return {name: list(pool) for name, pool in pools.items()}


def make_corpus(pools: dict[str, list[str]], images: int, captions: int, path: Path) -> None:
    """A corpus of `images` dialogues of 10 rounds and, evenly over them, `captions` captions, drawn from the pools."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)

    def draw(name: str, count: int) -> Any:
        return pa.array(pools[name]).take(pa.array(random.integers(0, len(pools[name]), count)))

    per_image = np.full(images, captions // images)
    per_image[: captions % images] += 1
    # There are fewer real captions than are needed: a question behind each makes them as distinct as COCO's.
    texts = pc.binary_join_element_wise(draw("captions", captions), draw("questions", captions), " ")
    table = pa.table(
        {
            "image_id": np.arange(images, dtype=np.int64),
            "file_name": pa.array([""]).take(np.zeros(images, np.int8)),
            "width": pa.nulls(images, pa.int32()),
            "height": pa.nulls(images, pa.int32()),
            "captions": pa.ListArray.from_arrays(
                np.concatenate([[0], np.cumsum(per_image)]).astype(np.int32),
                pa.StructArray.from_arrays([np.arange(captions), texts], ["caption_id", "text"]),
            ),
            "rounds": pa.ListArray.from_arrays(
                np.arange(0, images * ROUNDS + 1, ROUNDS, dtype=np.int32),
                pa.StructArray.from_arrays(
                    [draw("questions", images * ROUNDS), draw("answers", images * ROUNDS)], ["question", "answer"]
                ),
            ),
            "visdial_caption": draw("captions", images),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_rate(folder: Path, size: int) -> float:
    """Bytes/s of one plain sequential write of `size` bytes, synced."""
    block = np.random.default_rng(0).bytes(64 << 20)
    path = folder / "rate"
    start = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for position in range(0, size, len(block)):
            file.write(block[: size - position])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return size / seconds


@contextlib.contextmanager
def peak_memory(process: int) -> Iterator[dict[str, float]]:
    """MiB at most, sampled: of the command, of its largest worker, of all together."""
    import psutil

    peaks = {"command": 0.0, "worker": 0.0, "together": 0.0}
    end = threading.Event()

    def sample() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            command = psutil.Process(process)
            while not end.wait(0.25):
                sizes = [command.memory_info().rss]
                for child in command.children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        sizes.append(child.memory_info().rss)
                mib = [size / 2**20 for size in sizes]
                peaks["command"] = max(peaks["command"], mib[0])
                peaks["worker"] = max(peaks["worker"], *mib[1:], 0.0)
                peaks["together"] = max(peaks["together"], sum(mib))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peaks
    finally:
        end.set()
        thread.join()


def run(
    folder: Path, *options: str, encoders: str = "benchmarks.standin", cores: int | None = None, **environ: str
) -> dict[str, Any]:
    """chatpainter-embed as people run it, on so many cores where given: seconds and peak memory."""
    command = [sys.executable, "-m", "pipeline.embed_cli", "--encoders", encoders, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if cores is not None:
        os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:cores])
    with peak_memory(process.pid) as peaks:
        output, _ = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with status {process.returncode}")
    print(output, end="")
    return {"seconds": seconds, "peak_mib": peaks}


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def full_scale(
    pools: dict[str, list[str]], folder: Path, images: int, captions: int, workers: int, rounds: int
) -> dict[str, Any]:
    make_corpus(pools, images, captions, folder / "data/corpus/full.parquet")
    (folder / "params.yaml").write_text("embed: {dtype: float16, shard_mib: 64}\n")
    vectors = 2 * (captions * standin.DIM["captions"] + images * (ROUNDS + 1) * standin.DIM["turns"])
    disk = [write_rate(folder, vectors)]
    made, nothing, size = [], [], 0
    for _ in range(rounds):
        made.append(run(folder, "--split", "full", "--workers", str(workers), "--out", "out"))
        size = stored_bytes(folder / "out")
        nothing.append(run(folder, "--split", "full", "--workers", str(workers), "--out", "out")["seconds"])
        subprocess.run(["rm", "-r", str(folder / "out")], check=True)
        disk.append(write_rate(folder, vectors))
    seconds, rate = statistics.median(each["seconds"] for each in made), statistics.median(disk)
    return {
        "turns": images * ROUNDS,
        "captions": captions,
        "bytes": size,
        "seconds": seconds,
        "seconds_of_rounds": [each["seconds"] for each in made],
        "peak_mib": {who: max(each["peak_mib"][who] for each in made) for who in made[0]["peak_mib"]},
        "bytes_per_second": size / seconds,
        "disk_bytes_per_second": rate,
        "disk_bytes_per_second_of_rounds": disk,
        "of_disk": size / seconds / rate,
        "seconds_with_nothing_to_do": statistics.median(nothing),
    }


def cost_per_text(pools: dict[str, list[str]], folder: Path, sizes: list[int]) -> dict[str, float]:
    """Seconds a text, turns only, in one process, without the time Python takes to start."""
    from pipeline.embed import EmbedRun
    from pipeline.worker import Sync

    class Silent:
        def planned(self, *about: Any) -> None: ...
        def made(self, *about: Any) -> None: ...
        def lost(self, *about: Any) -> None: ...
        def finished(self, *about: Any) -> None: ...
        def parted(self, *about: Any) -> None: ...
        def removed(self, *about: Any) -> None: ...

    costs = {}
    for turns in [1000, *sizes]:  # the first loads the encoder and is not kept
        corpus = folder / "cost" / "corpus.parquet"
        make_corpus(pools, turns // ROUNDS, turns // ROUNDS, corpus)
        start = time.perf_counter()
        EmbedRun(folder / "cost", "cost", Sync(), Silent(), factory=standin).embed(corpus, ["turns"])
        costs[str(turns)] = (time.perf_counter() - start) / turns
        subprocess.run(["rm", "-r", str(folder / "cost")], check=True)
    del costs["1000"]
    return costs


def scaling(pools: dict[str, list[str]], folder: Path, params: Path, turns: int, most: int) -> dict[str, Any]:
    """The real encoder on 1, 2 and 4 workers, a core and a thread each, as far as the cores go; dask's own share."""
    import yaml

    values = yaml.safe_load(params.read_text())
    for name in ("weights", "untrained", "converted"):
        if isinstance(where := values.get("encoders", {}).get(name), str):
            values["encoders"][name] = str((params.parent / where).absolute())
    values["embed"] = {"shard_mib": 16}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    for split, size in {"warm": 2000, "scaling": turns}.items():
        make_corpus(pools, size // ROUNDS, size // ROUNDS, folder / f"data/corpus/{split}.parquet")

    def encode(split: str, out: str, cores: int, *more: str) -> float:
        options = ["--split", split, "--kind", "turns", "--out", out, *more]
        return run(folder, *options, encoders="pipeline.encoders", cores=cores, OMP_NUM_THREADS="1")["seconds"]

    encode("warm", "warm", 1, "--scheduler", "sync")
    alone = encode("scaling", "o0", 1, "--scheduler", "sync")
    numbers = [number for number in (1, 2, 4) if number <= min(most, machine.cores())]
    seconds = {number: encode("scaling", f"o{number}", number, "--workers", str(number)) for number in numbers}
    return {
        "turns": turns,
        "sync_seconds": alone,
        "seconds_by_workers": seconds,
        "dask_share": 1 - alone / seconds[1],
        "speedup": {workers: seconds[1] / value for workers, value in seconds.items()},
    }


@click.command(context_settings={"show_default": True})
@click.argument("pools", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--images", default=IMAGES)
@click.option("--captions", default=CAPTIONS)
@click.option("--workers", default=2)
@click.option("--rounds", default=3, help="Of the run at full scale; medians are kept.")
@click.option("--cost", "cost_sizes", default="10000,100000,1200000", help="Turns whose cost is compared.")
@click.option(
    "--scaling-params", type=click.Path(path_type=Path), help="params.yaml of a project with encoder weights."
)
@click.option("--scaling-turns", default=28_000)
@click.option("--folder", type=click.Path(path_type=Path), help="Where 20 GB are free.  [default: temporary]")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "pipeline.json")
def main(
    pools: Path,
    images: int,
    captions: int,
    workers: int,
    rounds: int,
    cost_sizes: str,
    scaling_params: Path | None,
    scaling_turns: int,
    folder: Path | None,
    out: Path,
) -> None:
    """Measure the pipeline without its encoders; see the module's first lines."""
    texts = read_pools(pools)
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "bars": {"seconds": 600, "of_disk": 0.5},
    }
    with tempfile.TemporaryDirectory(prefix="chatpainter-pipeline-", dir=folder) as place:
        here = Path(place)
        full = result["full_scale"] = full_scale(texts, here, images, captions, workers, rounds)
        print(f"{full['turns']:,} turns, {captions:,} captions, {images:,} dialogues: {full['bytes'] / 1e9:.1f} GB in "
              f"{full['seconds']:.0f} s (bar 600 s)")  # fmt: skip
        print(f"{full['bytes_per_second'] / 1e6:.0f} MB/s, {full['of_disk']:.0%} of the disk's own "
              f"{full['disk_bytes_per_second'] / 1e6:.0f} MB/s (bar 50 %)")  # fmt: skip
        peaks = full["peak_mib"]
        print(f"peak memory: command {peaks['command']:.0f} MiB, worker {peaks['worker']:.0f} MiB, "
              f"together {peaks['together']:.0f} MiB")  # fmt: skip
        print(f"again, with nothing to do: {full['seconds_with_nothing_to_do']:.0f} s")
        if cost_sizes:
            result["seconds_per_text"] = cost_per_text(texts, here, [int(size) for size in cost_sizes.split(",")])
            for size, cost in result["seconds_per_text"].items():
                print(f"{int(size):12,} turns: {cost * 1e6:6.1f} µs a turn")
        if scaling_params:
            rows = result["scaling"] = scaling(texts, here, scaling_params, scaling_turns, 4)
            for number, speedup in rows["speedup"].items():
                print(f"{number} workers: {rows['seconds_by_workers'][number]:.0f} s, {speedup:.2f} x one worker")
            print(f"dask's share: {rows['dask_share']:.1%} of one worker's time")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main()
