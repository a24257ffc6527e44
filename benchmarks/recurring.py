"""Texts that recur over shards: what encoding each of them once, instead of once a shard, would save.

    python -m benchmarks.recurring --turns TURNS --captions CAPTIONS   # prints, writes results/recurring.json

TURNS: as of benchmarks.encode; CAPTIONS: official files of COCO, an image that several have counting once; both
repeatable. Nothing is encoded: Skip-Thought's work is counted in multiplications of its recurrences over the prefix
trees (docs/encoders.md), that of captions in texts.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.encode import BI, UNI, read_turns
from pipeline import tokens
from pipeline.encoders import prefix_tree
from store import machine

SHARD = 64 * 2**20  # bytes, as params.yaml has it
FLOAT16 = 2


@dataclass(frozen=True)
class Counts:
    """What is encoded, and the multiplications of its recurrences where they are counted."""

    texts: int = 0
    products: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.texts + other.texts, self.products + other.products)


def products(sequences: Sequence[tuple[int, ...]]) -> int:
    """Multiplications of the recurrent halves of both of Skip-Thought's networks over these distinct sequences."""
    tree = prefix_tree.Sequences(sequences)
    ahead, back = (sum(3 * len(level.inner) for level in tree.levels(reverse)) for reverse in (False, True))
    return ahead * (UNI**2 + BI**2) + back * BI**2


def compared(texts: Sequence[Any], rows: int, count: Callable[[set[Any]], Counts]) -> dict[str, Any]:
    """Each text once a shard, as it is done, beside each text once: in the shard where it is met first."""
    now = once = Counts()
    met: set[Any] = set()
    for start in range(0, len(texts), rows):
        here = set(texts[start : start + rows])
        now += count(here)
        once += count(here - met)
        met |= here
    halves = [len(texts) // 2**n for n in range(4, -1, -1)]
    return {
        "texts": len(texts),
        "rows_a_shard": rows,
        "encoded_once_a_shard": now.texts,
        "distinct": once.texts,
        "texts_saved": round(1 - once.texts / now.texts, 4),
        "products_saved": round(1 - once.products / now.products, 4) if now.products else None,
        "distinct_share_of_the_first": {str(n): round(len(set(texts[:n])) / n, 4) for n in halves},
    }


def of_turns(texts: list[str]) -> dict[str, Any]:
    tokenize = tokens.tokenizer("treebank-3.2.5")
    numbers: dict[str, int] = {}
    read = {text: tuple(numbers.setdefault(word, len(numbers)) for word in tokenize(text)) for text in set(texts)}

    def count(sequences: set[tuple[int, ...]]) -> Counts:
        return Counts(len(sequences), products(sorted(sequences)))

    return compared([read[text] for text in texts if read[text]], SHARD // (FLOAT16 * (UNI + 2 * BI)), count)


def of_captions(texts: list[str]) -> dict[str, Any]:
    return compared(texts, SHARD // (FLOAT16 * 1024), lambda texts: Counts(len(texts)))


def read_captions(paths: Sequence[Path]) -> list[str]:
    """Captions of several files, each image's from the first that has it."""
    texts: list[str] = []
    met: set[int] = set()
    for path in paths:
        found = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        texts += [one["caption"].strip() for one in found if one["image_id"] not in met]
        met |= {one["image_id"] for one in found}
    return texts


@click.command(context_settings={"show_default": True})
@click.option("--turns", type=click.Path(exists=True, path_type=Path), multiple=True, required=True)
@click.option("--captions", type=click.Path(exists=True, path_type=Path), multiple=True, required=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "recurring.json")
def main(turns: tuple[Path, ...], captions: tuple[Path, ...], out: Path) -> None:
    """Count both and write JSON."""
    result = {
        "machine": machine.describe(),
        "turns": of_turns([text for path in turns for text in read_turns(path)]),
        "captions": of_captions(read_captions(captions)),
    }
    click.echo(json.dumps(result, indent=1))
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
