"""Collapsed dialogues, which are long and share little: our prefix tree beside length-bucketed, packed batches.

    python -m benchmarks.encode_long VISDIAL_TEXT         # prints, writes results/encode-long-cpu.json

VISDIAL_TEXT is a VisDial file as text: [{"dialog": [caption, "question? answer", …]}, …]. Skip-Thought at its published
dimensions with random weights, the same in both; the peer is torch.nn.GRU over batches of neighbours in length, packed,
so that it multiplies no padding either.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from benchmarks.encode import BI, UNI, Clock, PlainGru, networks, ours
from pipeline import tokens
from store import machine


class PackedGru(PlainGru):
    """torch.nn.GRU over packed batches of texts of about one length."""

    def encode(self, sequences: list[list[int]], batch: int) -> np.ndarray:
        out = np.empty((len(sequences), UNI + 2 * BI), np.float32)
        order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            lengths = torch.tensor([len(sequences[row]) for row in rows])
            ids = pad_sequence([torch.tensor(sequences[row]) for row in rows], batch_first=True)
            halves = []
            for name, network in self.networks.items():
                packed = pack_padded_sequence(self.vectors[name][ids], lengths, batch_first=True)
                _, last = network(packed)
                halves.append(F.normalize(last.transpose(0, 1).reshape(len(rows), -1)))
            out[rows] = torch.cat(halves, 1).numpy()
        return out


@click.command(context_settings={"show_default": True})
@click.argument("texts", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=256, help="Dialogues.")
@click.option("--batch", default=64, help="Of the peer.")
@click.option("--runs", default=3)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "encode-long-cpu.json"
)
def main(texts: Path, count: int, batch: int, runs: int, out: Path) -> None:
    """Time both and write JSON."""
    dialogues = [" ".join(entry["dialog"][1:]) for entry in json.loads(texts.read_text(encoding="utf-8"))[:count]]
    split = list(map(tokens.tokenizer("treebank-3.2.5"), dialogues))
    number = {word: i for i, word in enumerate(sorted({word for words in split for word in words}))}
    sequences = [[number[word] for word in words] for words in split]
    device = torch.device("cpu")
    grus, vectors, directions = networks(len(number), device)
    peer = PackedGru(grus, vectors, device)
    clock = Clock(device)
    with torch.inference_mode():
        for _ in range(runs):
            mine = clock.time("chatpainter", lambda: ours(directions, sequences))
            theirs = clock.time("torch.nn.GRU, packed", lambda: peer.encode(sequences, batch))
    rows = [clock.row(name, count) for name in clock.wall]
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "dialogues": count,
        "tokens_each": round(sum(map(len, sequences)) / count, 1),
        "rows": rows,
        "times_slower": round(rows[1]["seconds"] / rows[0]["seconds"], 2),
        "largest_difference": float(np.abs(mine - theirs).max()),
    }
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    print(f"{result['tokens_each']} tokens each; the packed GRU takes {result['times_slower']} times as long")
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
