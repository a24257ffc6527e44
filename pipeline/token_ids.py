"""Captions as numbers of words: the stores `tokens`, which AttnGAN's text encoder is trained on (words/)."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.corpora import corpus as corpora
from pipeline.texts import TextSettings
from pipeline.texts_of_rows import TextRows, read
from store.errors import ChatPainterError
from store.files import sha256_file
from store.manifest import Manifest, content_key
from store.writer import StoreWriter
from words.vocabulary import Vocabulary

VERSION = 1
SHARD_ROWS = 1 << 22
DTYPE = "uint16"


def vocabulary_of(corpus: Path, splits: Sequence[str]) -> Vocabulary:
    """Every word of the captions of all splits, as AttnGAN takes them.

    Raises:
        ChatPainterError: a corpus is missing or damaged, or there are more words than numbers.
    """
    captions = (text for split in splits for text in _captions(corpus / f"{split}.parquet").texts.to_pylist())
    found = Vocabulary.of(captions)
    if len(found) > np.iinfo(DTYPE).max:
        raise ChatPainterError(f"{corpus}: {len(found):,} words are more than {DTYPE} can number")
    return found


def make(corpus: Path, split: str, vocabulary: Vocabulary, out: Path) -> Manifest:
    """Write `out`/SPLIT/tokens from `corpus`/SPLIT.parquet: a line a caption, a number a word.

    The manifest says which word a number stands for.

    Raises:
        ChatPainterError: the corpus is missing, damaged or has no captions; the store cannot be written.
    """
    path = corpus / f"{split}.parquet"
    rows = _captions(path)
    numbered = [vocabulary.number(text) for text in rows.texts.to_pylist()]
    lengths = np.array([len(one.ids) for one in numbered], np.int32)
    flat = np.concatenate([np.array(one.ids, DTYPE) for one in numbered])[:, None]
    encoder = {"name": "vocabulary", "version": VERSION, "trained": True, "words": vocabulary.sha256}
    stated = {"words": list(vocabulary.words)}
    made_from = {"corpus": sha256_file(path), "encoder": encoder, "text": {}, "vocabulary": stated}
    first = np.cumsum(lengths, dtype=np.int64) - lengths
    # Captions of one image stay side by side, and no caption is cut.
    cuts = [0]
    while cuts[-1] < len(lengths):
        cuts.append(max(cuts[-1] + 1, int(np.searchsorted(first, first[cuts[-1]] + SHARD_ROWS))))
    bounds = [int(first[cut]) if cut < len(first) else len(flat) for cut in cuts]
    plan = []
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        texts = rows.of(cuts[number], cuts[number + 1] - cuts[number])
        plan.append((begin, end - begin, content_key(made_from, DTYPE, (1,), begin, texts)))
    with StoreWriter(
        out / split / "tokens", kind="tokens", split=split, shape=(1,), dtype=DTYPE, made_from=made_from
    ) as writer:
        for number in writer.plan(plan):
            lines = numbered[cuts[number] : cuts[number + 1]]
            counts = {
                "texts": len(lines),
                "tokens": sum(one.words for one in lines),
                "unknown": sum(one.unknown for one in lines),
                "empty": sum(one.words == one.unknown for one in lines),
            }
            begin, rows_here, key = plan[number]
            writer.write_shard(number, flat[begin : begin + rows_here], key, counts)
        index = rows.index.set_column(0, "row", pa.array(first)).append_column("length", pa.array(lengths))
        return writer.commit(index, lengths="length")


def _captions(path: Path) -> TextRows:
    """The captions of a corpus, a line each."""
    rows = read("captions", corpora.read(path), TextSettings())
    if not len(rows):
        raise ChatPainterError(f"{path}: has no captions; make the corpus again")
    return rows
