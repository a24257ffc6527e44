"""A corpus as rows of text: in reading order, with what identifies them, cut into shards."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import texts
from pipeline.texts import TextSettings

Kind = Literal["captions", "turns", "dialogues"]
KINDS: tuple[Kind, ...] = ("captions", "turns", "dialogues")
COLUMNS = ["image_id", "captions", "rounds", "visdial_caption"]
_BATCH = 4096


@dataclass(frozen=True)
class Rows:
    """The rows of one store before they are vectors.

    Attributes:
        index: what will be index.parquet.
        texts: string array, one a row.
        groups: (groups + 1,) int64; rows groups[i] to groups[i + 1] belong together and stay in one shard.
    """

    index: pa.Table
    texts: pa.ChunkedArray
    groups: np.ndarray

    def __len__(self) -> int:
        return int(self.groups[-1])

    def cut(self, limit: int) -> list[tuple[int, int]]:
        """(first row, rows) of shards of at most `limit` rows; a longer group fills one of its own."""
        parts, start, end = [], 0, len(self.groups) - 1
        while start < end:
            stop = int(np.searchsorted(self.groups, self.groups[start] + limit, side="right")) - 1
            stop = min(max(stop, start + 1), end)
            parts.append((int(self.groups[start]), int(self.groups[stop] - self.groups[start])))
            start = stop
        return parts

    def of(self, first_row: int, rows: int) -> list[str]:
        """The texts of a shard."""
        return self.texts.slice(first_row, rows).to_pylist()


def read(kind: Kind, corpus: pa.Table, settings: TextSettings) -> Rows:
    """The rows of one kind. Images without a caption, or without a round, have none."""
    return {"captions": _captions, "turns": _turns, "dialogues": _dialogues}[kind](corpus, settings)


def switches(kind: Kind, settings: TextSettings) -> dict[str, Any]:
    """The switches of TextSettings that the texts of this kind depend on."""
    if kind == "captions":
        return {}
    values = asdict(settings)
    if kind == "turns":
        del values["caption_in_dialogue"]
    return values


def _captions(corpus: pa.Table, settings: TextSettings) -> Rows:
    lists = corpus["captions"].combine_chunks()
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    flat = lists.flatten()
    strings = flat.field("text")
    index = pa.table(
        {
            "row": np.arange(len(flat)),
            "image_id": np.repeat(corpus["image_id"].to_numpy(), counts),
            "caption_id": flat.field("caption_id"),
            "text": strings,
        }
    )
    return Rows(index, pa.chunked_array([strings]), _starts(counts[counts > 0]))


def _turns(corpus: pa.Table, settings: TextSettings) -> Rows:
    chunks = []
    for batch in _batches(corpus):
        chunks.append(
            pa.array(
                [[texts.turn(r["question"], r["answer"], settings) for r in row["rounds"]] for row in batch],
                pa.list_(pa.string()),
            )
        )
    lists = pa.chunked_array(chunks, pa.list_(pa.string()))
    lengths = pc.list_value_length(lists).to_numpy()
    there = lengths > 0
    starts = _starts(lengths[there])
    index = pa.table(
        {
            "row": starts[:-1],
            "image_id": corpus["image_id"].filter(pa.array(there)),
            "rounds": lengths[there].astype(np.int32),
            "texts": lists.filter(pa.array(there)),
        }
    )
    return Rows(index, pa.chunked_array([c.flatten() for c in lists.chunks], pa.string()), starts)


def _dialogues(corpus: pa.Table, settings: TextSettings) -> Rows:
    there = pc.greater(pc.fill_null(pc.list_value_length(corpus["rounds"]), 0), 0)
    corpus = corpus.filter(there)
    collapse: Callable[[dict[str, Any]], str] = lambda row: texts.collapse(  # noqa: E731
        ((r["question"], r["answer"]) for r in row["rounds"]), row["visdial_caption"] or "", settings
    )
    strings = pa.chunked_array([pa.array(map(collapse, batch), pa.string()) for batch in _batches(corpus)], pa.string())
    index = pa.table({"row": np.arange(len(corpus)), "image_id": corpus["image_id"], "text": strings})
    return Rows(index, strings, np.arange(len(corpus) + 1))


def _batches(corpus: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Rows as Python values, some thousands at a time: a whole corpus of them would fill the memory."""
    for batch in corpus.select(["rounds", "visdial_caption"]).to_batches(max_chunksize=_BATCH):
        rows = batch.to_pylist()
        for row in rows:
            row["rounds"] = row["rounds"] or []
        yield rows


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.fromiter(itertools.accumulate(counts.tolist(), initial=0), np.int64, len(counts) + 1)
