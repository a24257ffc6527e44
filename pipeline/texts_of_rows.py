"""The texts of a corpus' rows: one text a row of a store, in reading order, cut into shards."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import texts
from pipeline.texts import Kind, TextSettings

_PART = 1 << 17


@dataclass(frozen=True)
class TextRows:
    """The rows of one store before they are vectors.

    Attributes:
        index: what will be index.parquet.
        texts: string array, one a row; of words one a group.
        groups: (groups + 1,) int64; rows groups[i] to groups[i + 1] belong together and stay in one shard.
        of_words: the rows of a group are the words of one text.
    """

    index: pa.Table
    texts: pa.ChunkedArray
    groups: np.ndarray
    of_words: bool = False

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
        if self.of_words:
            first_row, stop = np.searchsorted(self.groups, (first_row, first_row + rows)).tolist()
            rows = stop - first_row
        return self.texts.slice(first_row, rows).to_pylist()


def read(kind: Kind, corpus: pa.Table, settings: TextSettings) -> TextRows:
    """The rows of one kind. Images without a caption, or without a round, have none."""
    return {"captions": _captions, "turns": _turns, "dialogues": _dialogues}[kind](corpus, settings)


def words(captions: TextRows, counts: np.ndarray) -> TextRows:
    """The rows of a store of words: those of the captions, each as many as its text has words, side by side.

    Args:
        counts: (captions,) words of each.
    """
    index = captions.index.set_column(0, "row", pa.array(np.cumsum(counts) - counts))
    index = index.append_column("words", pa.array(counts, pa.int32()))
    return TextRows(index, captions.texts, _starts(counts), of_words=True)


def switches(kind: Kind, settings: TextSettings) -> dict[str, Any]:
    """The switches of TextSettings that the texts of this kind depend on."""
    if kind == "captions":
        return {}
    values = asdict(settings)
    if kind == "turns":
        del values["caption_in_dialogue"]
    return values


def _captions(corpus: pa.Table, settings: TextSettings) -> TextRows:
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
    return TextRows(index, pa.chunked_array([strings]), _starts(counts[counts > 0]))


def _turns(corpus: pa.Table, settings: TextSettings) -> TextRows:
    lists = pa.chunked_array([_turn_lists(part, settings) for part in _parts(corpus)], pa.list_(pa.string()))
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
    return TextRows(index, pa.chunked_array([c.flatten() for c in lists.chunks], pa.string()), starts)


def _dialogues(corpus: pa.Table, settings: TextSettings) -> TextRows:
    there = pc.greater(pc.fill_null(pc.list_value_length(corpus["rounds"]), 0), 0)
    corpus = corpus.filter(there)
    strings = pa.chunked_array([_collapsed(part, settings) for part in _parts(corpus)], pa.string())
    index = pa.table({"row": np.arange(len(corpus)), "image_id": corpus["image_id"], "text": strings})
    return TextRows(index, strings, np.arange(len(corpus) + 1))


def _parts(corpus: pa.Table) -> Iterator[pa.Table]:
    """Neighbouring rows with one chunk a column; Arrow's strings reach to 2 GB a chunk, so not all rows at once."""
    for first in range(0, len(corpus), _PART):
        yield corpus.slice(first, _PART).select(["rounds", "visdial_caption"]).combine_chunks()


def _turn_lists(part: pa.Table, settings: TextSettings) -> pa.ListArray:
    """The turns of each image, as `texts.turn` makes them; images without a round have an empty list."""
    rounds = part["rounds"].combine_chunks()
    counts = pc.fill_null(pc.list_value_length(rounds), 0).to_numpy()
    said = rounds.flatten()
    # A turn is its question and its answer joined, each changed by itself; people ask the same things, so far fewer
    # are distinct.
    questions = _each(said.field("question"), lambda question: texts.turn(question, "", settings))
    answers = _each(said.field("answer"), lambda answer: texts.turn("", answer, settings))
    return pa.ListArray.from_arrays(pa.array(_starts(counts), pa.int32()), _joined(questions, answers))


def _collapsed(part: pa.Table, settings: TextSettings) -> pa.StringArray:
    """The dialogue of each image as one string, as `texts.collapse` makes it."""
    turns = _turn_lists(part, settings)
    captions = _each(part["visdial_caption"].combine_chunks(), lambda text: texts.collapse([], text, settings))
    said = pc.not_equal(turns.values, "")
    before = _starts(said.to_numpy(zero_copy_only=False).astype(np.int64))  # turns that say something, before each
    offsets = pa.array(before[turns.offsets.to_numpy()], pa.int32())
    filled = pa.ListArray.from_arrays(offsets, turns.values.filter(said))
    return _joined(captions, pc.binary_join(filled, " "))


def _each(strings: pa.StringArray, change: Callable[[str], str]) -> pa.StringArray:
    """Every string changed, equal ones once."""
    encoded = strings.fill_null("").dictionary_encode()
    return pa.array(map(change, encoded.dictionary.to_pylist()), pa.string()).take(encoded.indices)


def _joined(first: pa.StringArray, second: pa.StringArray) -> pa.StringArray:
    """Two strings with a space between them where both say something."""
    space = pc.if_else(pc.and_(pc.not_equal(first, ""), pc.not_equal(second, "")), " ", "")
    return pc.binary_join_element_wise(first, space, second, "")


def _starts(counts: np.ndarray) -> np.ndarray:
    """(groups,) → (groups + 1,) int64: where each group starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
