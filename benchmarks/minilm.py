"""MiniLM over real turns of mixed length: our batches beside sentence-transformers' own `encode`.

    python -m benchmarks.minilm TURNS              # prints, writes results/minilm-cpu.json
    python -m benchmarks.minilm TURNS --smoke      # a few texts, no file: does it run?

TURNS: as of benchmarks.encode. Both have the same weights and threads, are given the same texts, of which some occur
twice, and take turns. Ours encodes each distinct text once, as a shard's work does, in batches of one length; the peer
is loaded by itself and has its default batch of 32. Other batches of the peer's are timed on a sample. No round begins
that would end after `--minutes`; the JSON says how many there were.
"""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.encode import Clock, read_turns
from pipeline.encoders import EncoderSettings, build, modern
from store import machine

DEFAULT = 32
BATCHES = (64, 128, 256)
SAMPLE, SMOKE = 2_000, 200
EQUAL = 1e-5


@click.command(context_settings={"show_default": True})
@click.argument("turns", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=20_000, help="Turns.")
@click.option("--runs", default=3)
@click.option("--minutes", default=4.0, help="Of all; at least one round is timed.")
@click.option("--smoke", is_flag=True, help=f"{SMOKE} turns once, and no file: that it runs, not how fast.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "minilm-cpu.json")
def main(turns: Path, count: int, runs: int, minutes: float, smoke: bool, out: Path) -> None:
    """Time both and write JSON."""
    began = time.perf_counter()
    count, runs = (SMOKE, 1) if smoke else (count, runs)
    texts = read_turns(turns)[:count]
    encoder = build("turns", EncoderSettings(dialogue=modern.MINILM))
    assert isinstance(encoder, modern.Modern)
    peer = SentenceTransformer(str(modern.folder(modern.MINILM)), device="cpu", local_files_only=True)
    clock = Clock(torch.device("cpu"))

    def ours(texts: list[str]) -> np.ndarray:
        distinct = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(distinct)}
        return encoder.encode(distinct).vectors[[place[text] for text in texts]]

    def theirs(texts: list[str], batch: int) -> np.ndarray:
        return np.asarray(peer.encode(texts, batch_size=batch, show_progress_bar=False, convert_to_numpy=True))

    sample = texts[:: max(1, len(texts) // SAMPLE)]
    ours(sample[:DEFAULT]), theirs(sample[:DEFAULT], DEFAULT)  # neither pays for what is done once
    rounds: list[float] = []
    for _ in range(runs):
        since = time.perf_counter()
        if rounds and since - began + max(rounds) > 60 * minutes:
            break
        mine = clock.time("chatpainter", partial(ours, texts))
        found = clock.time(f"sentence-transformers, batches of {DEFAULT}", partial(theirs, texts, DEFAULT))
        rounds.append(time.perf_counter() - since)
    rows = [clock.row(name, len(texts)) for name in clock.wall]
    tried = Clock(torch.device("cpu"))
    for batch in (DEFAULT, *BATCHES):
        if len(tried.wall) > 1 and time.perf_counter() - began > 60 * minutes:
            break
        tried.time(f"sentence-transformers, batches of {batch}", partial(theirs, sample, batch))
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "threads": torch.get_num_threads(),
        "turns": len(texts),
        "distinct": len(set(texts)),
        "rows": rows,
        "times_slower": round(rows[1]["seconds"] / rows[0]["seconds"], 2),
        "times_slower_by_cpu": round(rows[1]["cpu_seconds"] / rows[0]["cpu_seconds"], 2),
        "on_a_sample": [tried.row(name, len(sample)) for name in tried.wall],
        "largest_difference": float(np.abs(mine - found).max()),
    }
    for row in (*rows, *result["on_a_sample"]):
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    print(
        f"the peer takes {result['times_slower']} times as long; largest difference {result['largest_difference']:.1e}"
    )
    assert result["largest_difference"] <= EQUAL
    if not smoke:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
