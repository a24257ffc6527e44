"""MiniLM over real turns of mixed length: our batches beside sentence-transformers' own `encode`.

    python -m benchmarks.minilm VISDIAL_TEXT              # prints, writes results/minilm-cpu.json
    python -m benchmarks.minilm VISDIAL_TEXT --smoke      # a few texts, no file: does it run?

VISDIAL_TEXT is a VisDial file as text: [{"dialog": [caption, "question? answer", …]}, …]. Both have the same weights
and threads and are given the same texts, of which some occur twice. Ours encodes each distinct text once, as a shard's
work does, in batches of one length; the peer gets its default batch of 32, and several others.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.encode import Clock
from pipeline.encoders import EncoderSettings, build, modern
from store import machine

BATCHES = (32, 64, 128, 256)
SMOKE = 200


@click.command(context_settings={"show_default": True})
@click.argument("texts", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=20_000, help="Turns.")
@click.option("--runs", default=3)
@click.option("--smoke", is_flag=True, help=f"{SMOKE} turns once, and no file: that it runs, not how fast.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "minilm-cpu.json")
def main(texts: Path, count: int, runs: int, smoke: bool, out: Path) -> None:
    """Time both and write JSON."""
    count, runs = (SMOKE, 1) if smoke else (count, runs)
    entries = json.loads(texts.read_text(encoding="utf-8"))
    turns = [turn for entry in entries for turn in entry["dialog"][1:]][:count]
    encoder = build("turns", EncoderSettings(dialogue=modern.MINILM))
    assert isinstance(encoder, modern.Modern)
    peer = encoder.sentences
    clock = Clock(torch.device("cpu"))

    def ours() -> np.ndarray:
        distinct = list(dict.fromkeys(turns))
        place = {text: row for row, text in enumerate(distinct)}
        return encoder.encode(distinct).vectors[[place[turn] for turn in turns]]

    def theirs(batch: int) -> np.ndarray:
        return np.asarray(peer.encode(turns, batch_size=batch, show_progress_bar=False, convert_to_numpy=True))

    batches = BATCHES[:1] if smoke else BATCHES
    for _ in range(runs):
        mine = clock.time("chatpainter", ours)
        for batch in batches:
            found = clock.time(f"sentence-transformers, batches of {batch}", partial(theirs, batch))
    rows = [clock.row(name, len(turns)) for name in clock.wall]
    best = min(row["seconds"] for row in rows[1:])
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "threads": torch.get_num_threads(),
        "turns": len(turns),
        "distinct": len(set(turns)),
        "rows": rows,
        "times_slower": round(rows[1]["seconds"] / rows[0]["seconds"], 2),  # with its default batch
        "times_slower_at_best": round(best / rows[0]["seconds"], 2),
        "largest_difference": float(np.abs(mine - found).max()),
    }
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    print(f"largest difference {result['largest_difference']:.1e}")
    if not smoke:
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
