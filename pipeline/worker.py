"""A shard's work: its distinct texts encoded once and written, by this process or by a worker on another machine.

It depends on nothing but the texts and the encoder, so it can be done twice, lost, or continued by another run: what
counts is the shard on disk with the right content key.
"""

import importlib
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.encoders import Encoded, Encoder, EncoderFactory, EncoderSettings, WordEncoder, WordStates
from pipeline.texts import Kind
from store.company import considerate
from store.errors import ChatPainterError, StoreError
from store.manifest import Shard
from store.shards import ShardTask, finished


@dataclass(frozen=True)
class EncoderSource:
    """How a worker comes by its encoder, and which one it must be.

    Attributes:
        factory: who builds it: the name of a module, or any picklable object, with the functions of `EncoderFactory`.
        identity: of the encoder that the command sees; a worker with other weights is refused.
    """

    factory: EncoderFactory | str
    kind: Kind
    settings: EncoderSettings
    identity: dict[str, Any]

    @classmethod
    def of(cls, factory: EncoderFactory | str, kind: Kind, settings: EncoderSettings) -> "EncoderSource":
        """The source of the encoder that this process sees."""
        identity = _imported(factory).identity(kind, settings)
        return cls(factory, kind, settings, json.loads(json.dumps(identity)))

    @property
    def key(self) -> str:
        """What two kinds of text have in common whose encoder is the same."""
        return repr((self.factory, self.settings, json.dumps(self.identity, sort_keys=True)))

    def encoder(self) -> Encoder:
        """The encoder, loaded once a process however many threads ask.

        Raises:
            ChatPainterError: the weights seen here are not those of the command.
        """
        with _loading:
            if self.key not in _loaded:
                encoder = _imported(self.factory).build(self.kind, self.settings)
                if json.loads(json.dumps(encoder.identity)) != self.identity:
                    raise ChatPainterError(
                        f"worker {_here()}: its {self.kind} encoder is not the command's (other weights, code or "
                        "settings); give every worker the same files and the same version of this program"
                    )
                _loaded[self.key] = encoder
            return _loaded[self.key]


def _imported(factory: EncoderFactory | str) -> EncoderFactory:
    """The factory itself.

    Raises:
        ChatPainterError: no such module, or one without the functions of an EncoderFactory.
    """
    if not isinstance(factory, str):
        return factory
    try:
        module: Any = importlib.import_module(factory)
    except (ImportError, ValueError, TypeError) as error:
        raise ChatPainterError(f"--encoders {factory}: cannot be imported ({error}); PYTHONPATH decides") from None
    if not (callable(getattr(module, "build", None)) and callable(getattr(module, "identity", None))):
        raise ChatPainterError(
            f"--encoders {factory}: has no functions build(kind, settings), identity(kind, settings)"
        )
    return module


# A process's encoders outlive its tasks: a worker loads one and encodes shard after shard with it.
_loaded: dict[str, Encoder] = {}
_loading = threading.Lock()


def unload() -> None:
    """Let go of this process's encoders: from here on its workers' do the work."""
    with _loading:
        _loaded.clear()


@dataclass(frozen=True)
class Work:
    """A shard to make. Its texts are the largest thing that travels."""

    task: ShardTask
    source: EncoderSource
    texts: list[str]
    of_words: bool = False  # a row for every word of a text, not one for the text


@dataclass(frozen=True)
class EncodedShard:
    """A shard that is on disk, and what was counted while encoding it."""

    number: int
    shard: Shard
    counts: dict[str, int]


@dataclass(frozen=True)
class Lost:
    """A shard that was not made, for a reason that another try may overcome."""

    number: int
    reason: str


class Runner(Protocol):
    """Where shards are made: in this process, or on a dask cluster."""

    def width(self, source: EncoderSource) -> int:
        """The encoder's `dim`, asked of a process that loads the encoder anyway."""
        ...

    def run(self, work: Iterable[Work]) -> Iterator[EncodedShard | Lost]:
        """Make the shards, in any order. Errors that no second try can cure are raised."""
        ...


class Sync:
    """Shards one after the other in this process: no dask, for tests, small corpora and machines without it."""

    def width(self, source: EncoderSource) -> int:
        return width(source)

    def run(self, work: Iterable[Work]) -> Iterator[EncodedShard | Lost]:
        with considerate():
            yield from map(make, work)


def width(source: EncoderSource) -> int:
    return int(source.encoder().dim)


def make(work: Work) -> EncodedShard:
    """Encode the texts of one shard and write it; a shard that is already there is left as it is.

    Raises:
        StoreError: the shard cannot be written, or vectors do not fit its dtype.
    """
    work.task.check_folder()
    if (there := finished(work.task)) is not None:
        return EncodedShard(work.task.number, *there)
    encoder = work.source.encoder()
    distinct = list(dict.fromkeys(work.texts))
    places = {text: place for place, text in enumerate(distinct)}
    row_of = np.fromiter((places[text] for text in work.texts), np.int64, len(work.texts))
    rows, counts = (_words if work.of_words else _vectors)(work, encoder, distinct, row_of)
    return EncodedShard(work.task.number, work.task.write(rows, counts), counts)


def _vectors(
    work: Work, encoder: Encoder, distinct: list[str], row_of: np.ndarray
) -> tuple[np.ndarray, dict[str, int]]:
    """The shard's rows, one a text, and its counts."""
    encoded = encoder.encode(distinct)
    if encoded.vectors.shape != (len(distinct), encoder.dim) or encoded.vectors.dtype != np.float32:
        raise ChatPainterError(
            f"the encoder {encoder.identity.get('name')} gave {encoded.vectors.dtype} of shape {encoded.vectors.shape} "
            f"for {len(distinct)} texts; expected float32 of {(len(distinct), encoder.dim)}"
        )
    stored = _as_dtype(encoded.vectors, work, distinct)
    rows = stored if len(distinct) == len(row_of) else stored[row_of]
    return rows, {**_counts(encoded, row_of), "shared": _shared(stored)}


def _words(work: Work, encoder: Encoder, distinct: list[str], row_of: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """The shard's rows, one a word of every text, and its counts."""
    found = word_encoder(encoder).words(distinct)
    starts = np.cumsum(found.lengths) - found.lengths
    lengths = found.lengths[row_of]
    stored = _as_dtype(found.vectors, work, [text for text, n in zip(distinct, found.lengths) for _ in range(n)])
    rows = np.repeat(starts[row_of] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    return stored[rows], _counts(found, row_of)


def _counts(read: Encoded | WordStates, row_of: np.ndarray) -> dict[str, int]:
    """What was read of the shard's texts; row_of (texts,) says which of the distinct ones each is."""
    return {
        "texts": len(row_of),
        "distinct": len(read.tokens),
        "tokens": int(read.tokens[row_of].sum(dtype=np.int64)),
        "unknown": int(read.unknown[row_of].sum(dtype=np.int64)),
        "empty": int((read.tokens[row_of] == 0).sum()),
        "truncated": int(read.truncated[row_of].sum()),
    }


def word_encoder(encoder: Encoder) -> WordEncoder:
    """`encoder`, once it is known to have vectors of words.

    Raises:
        ChatPainterError: it has none.
    """
    if not isinstance(encoder, WordEncoder):
        raise ChatPainterError(
            "params.yaml: embed.words needs an encoder of captions that has a vector for every word (minilm, "
            f"damsm:RUN, sentence-transformers:FOLDER, transformers:FOLDER); {encoder.identity.get('name')} has none"
        )
    return encoder


def _shared(vectors: np.ndarray) -> int:
    """How many vectors, of distinct texts, are also those of another text: for what reads them these are one."""
    counts = Counter(hash(vector.tobytes()) for vector in vectors)  # 1 s a gigabyte
    return sum(count for count in counts.values() if count > 1)


def _as_dtype(vectors: np.ndarray, work: Work, texts: Sequence[str]) -> np.ndarray:
    import torch

    values = torch.from_numpy(vectors)
    limit = float(np.finfo(work.task.dtype).max)
    least, most = torch.aminmax(values)
    if not (-limit <= least.item() and most.item() <= limit):  # false for NaN too
        text = texts[int(np.flatnonzero(~(np.abs(vectors).max(axis=1) <= limit))[0])]
        remedy = "set embed.dtype: float32" if np.isfinite(vectors).all() else "check the encoder's weights"
        raise StoreError(
            f"{work.task.path}: the vector of {text[:60]!r} has a value that {work.task.dtype} cannot hold; {remedy}"
        )
    if vectors.dtype == work.task.dtype:
        return vectors
    stored = np.empty(vectors.shape, work.task.dtype)
    torch.from_numpy(stored).copy_(values)  # numpy's own cast to float16 takes seven times as long
    return stored


def _here() -> str:
    return f"{socket.gethostname()} (process {os.getpid()})"
