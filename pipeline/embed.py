"""Texts to shards: cut the corpus, encode each distinct text of a shard once, write it, in any order on any machine.

The work of a shard depends on nothing but its texts and the encoder, so it can be done twice, lost, or continued by
another run: what counts is the shard on disk with the right content key.
"""

import importlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from store.errors import ChatPainterError, StoreError
from store.files import sha256_file
from store.manifest import Manifest, Shard, content_key
from store.shards import ShardTask, finished, read_header
from store.writer import StoreWriter, remove_store

ROUNDS = 3


@dataclass(frozen=True)
class EmbedSettings:
    """Section `embed` of params.yaml."""

    dtype: Literal["float16", "float32"] = "float16"
    shard_mib: int = 64  # of vectors a shard; a worker's memory is a few times this, whatever the corpus
    workers: int = 2

    def __post_init__(self) -> None:
        if self.shard_mib < 1 or self.workers < 1:
            raise ValueError("shard_mib and workers must be at least 1")


@dataclass(frozen=True)
class Source:
    """How a worker comes by its encoder, and which one it must be.

    Attributes:
        encoders: a module name, or any picklable object, with `build(kind, settings)` and `identity(kind, settings)`.
        identity: of the encoder that the command sees; a worker with other weights is refused.
    """

    encoders: Any
    kind: str
    settings: Any
    identity: dict[str, Any]

    @property
    def factory(self) -> Any:
        return importlib.import_module(self.encoders) if isinstance(self.encoders, str) else self.encoders

    def encoder(self) -> Any:
        """The encoder, loaded once a process however many threads ask.

        Raises:
            ChatPainterError: the weights seen here are not those of the command.
        """
        key = (repr(self.encoders), repr(self.settings), json.dumps(self.identity, sort_keys=True))
        with _loading:
            if key not in _loaded:
                encoder = self.factory.build(self.kind, self.settings)
                if json.loads(json.dumps(encoder.identity)) != self.identity:
                    raise ChatPainterError(
                        f"worker {_here()}: its {self.kind} encoder is not the command's (other weights, code or "
                        "settings); give every worker the same files and the same version of this program"
                    )
                _loaded[key] = encoder
            return _loaded[key]


_loaded: dict[Any, Any] = {}
_loading = threading.Lock()


def unload() -> None:
    """Let go of this process's encoders: from here on its workers' do the work."""
    with _loading:
        _loaded.clear()


@dataclass(frozen=True)
class Work:
    """A shard to make. Its texts are the largest thing that travels."""

    task: ShardTask
    source: Source
    texts: list[str]


@dataclass(frozen=True)
class Made:
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

    def width(self, source: Source) -> int:
        """The encoder's `dim`, asked of a process that loads the encoder anyway."""
        ...

    def run(self, work: Iterable[Work]) -> Iterator[Made | Lost]:
        """Make the shards, in any order. Errors that no second try can cure are raised."""
        ...


class Sync:
    """Shards one after the other in this process: no dask, for tests, small corpora and machines without it."""

    def width(self, source: Source) -> int:
        return width(source)

    def run(self, work: Iterable[Work]) -> Iterator[Made | Lost]:
        return map(make, work)


def width(source: Source) -> int:
    return int(source.encoder().dim)


def make(work: Work) -> Made:
    """Encode the texts of one shard and write it; a shard that is already there is left as it is.

    Raises:
        StoreError: the shard cannot be written, or vectors do not fit its dtype.
    """
    work.task.check_folder()
    if (there := finished(work.task)) is not None:
        return Made(work.task.number, *there)
    encoder = work.source.encoder()
    distinct = list(dict.fromkeys(work.texts))
    places = {text: place for place, text in enumerate(distinct)}
    row_of = np.fromiter((places[text] for text in work.texts), np.int64, len(work.texts))
    encoded = encoder.encode(distinct)
    stored = _as_dtype(encoded.vectors, work, distinct)
    counts = {
        "texts": len(work.texts),
        "distinct": len(distinct),
        "tokens": int(encoded.tokens[row_of].sum(dtype=np.int64)),
        "unknown": int(encoded.unknown[row_of].sum(dtype=np.int64)),
        "empty": int((encoded.tokens[row_of] == 0).sum()),
        "truncated": int(encoded.truncated[row_of].sum()),
    }
    rows = stored if len(distinct) == len(row_of) else stored[row_of]
    return Made(work.task.number, work.task.write(rows, counts), counts)


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


class Progress(Protocol):
    """Who is told how a run goes."""

    def planned(self, kind: str, writer: StoreWriter, rows: int) -> None: ...
    def made(self, kind: str, made: Made) -> None: ...
    def lost(self, kind: str, lost: Lost) -> None: ...
    def finished(self, kind: str, manifest: Manifest) -> None: ...


def embed(
    corpus: Path,
    out: Path,
    split: str,
    *,
    text: Any,
    encoders: Any,
    settings: EmbedSettings,
    runner: Runner,
    progress: Progress,
    kinds: Sequence[str] | None = None,
    factory: Any = "pipeline.encoders",
) -> dict[str, Manifest]:
    """Make the stores `out`/{captions,turns,dialogues} of one split.

    Args:
        corpus: the Parquet file of the split.
        text, encoders: TextSettings and EncoderSettings.
        kinds: the stores wanted; all that the corpus has texts for where None.
        factory: see `Source.encoders`.

    Raises:
        ChatPainterError: bad input; a kind was asked for that the corpus has no texts of; shards could not be made.
    """
    from pipeline import texts_of_rows
    from pipeline.corpora import corpus as corpora
    from pipeline.texts import KINDS

    table = corpora.read(corpus)
    checksum = sha256_file(corpus)
    manifests: dict[str, Manifest] = {}
    widths: dict[str, int] = {}
    with ThreadPoolExecutor(1) as ahead:
        # The texts of the next kind are read while the shards of this one are made.
        reading = {
            kind: ahead.submit(texts_of_rows.read, kind, table, text)
            for kind in KINDS
            if kinds is None or kind in kinds
        }
        for kind in list(reading):
            rows = reading.pop(kind).result()
            if not len(rows):
                if kinds is not None:
                    raise ChatPainterError(f"{corpus}: has no {kind}; leave out --kind {kind} or make the corpus again")
                remove_store(out / kind)
                continue
            source = _source(kind, encoders, factory)
            made_from = {"corpus": checksum, "encoder": source.identity, "text": texts_of_rows.switches(kind, text)}
            encoder = json.dumps(source.identity, sort_keys=True)
            if encoder not in widths:
                widths[encoder] = _known_width(out / kind, source) or runner.width(source)
            manifests[kind] = _embed_kind(
                kind, rows, out / kind, split, made_from, widths[encoder], source, settings, runner, progress
            )
    return manifests


def _source(kind: str, encoders: Any, factory: Any) -> Source:
    source = Source(factory, kind, encoders, {})
    return replace(source, identity=json.loads(json.dumps(source.factory.identity(kind, encoders))))


def _embed_kind(
    kind: str,
    rows: Any,
    folder: Path,
    split: str,
    made_from: dict[str, Any],
    size: int,
    source: Source,
    settings: EmbedSettings,
    runner: Runner,
    progress: Progress,
) -> Manifest:
    limit = max(1, settings.shard_mib * 2**20 // (size * np.dtype(settings.dtype).itemsize))
    parts = rows.cut(limit)
    with StoreWriter(
        folder, kind=kind, split=split, shape=(size,), dtype=settings.dtype, made_from=made_from
    ) as writer:
        missing = writer.plan(
            [
                (first, count, content_key(made_from, settings.dtype, (size,), first, rows.of(first, count)))
                for first, count in parts
            ]
        )
        progress.planned(kind, writer, len(rows))
        reasons: dict[int, str] = {}
        for _ in range(ROUNDS):
            if not missing:
                break
            work = (Work(writer.tasks[number], source, rows.of(*parts[number])) for number in missing)
            for result in runner.run(work):
                if isinstance(result, Made):
                    writer.accept(result.number, result.shard)
                    progress.made(kind, result)
                else:
                    reasons[result.number] = result.reason
                    progress.lost(kind, result)
            # What dask says is finished or lost is hearsay; the folder is the truth.
            missing = writer.reconcile()
        if missing:
            names = ", ".join(writer.tasks[number].path.name for number in missing[:8])
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            why = reasons.get(missing[0], "their tasks vanished")
            raise StoreError(
                f"{folder}: {len(missing)} of {len(parts)} shards could not be made in {ROUNDS} rounds: {names}{more} "
                f"({why}); run the same command again, finished shards are kept"
            )
        manifest = writer.commit(rows.index, lengths="rounds" if kind == "turns" else None)
        progress.finished(kind, manifest)
        return manifest


def _known_width(folder: Path, source: Source) -> int | None:
    """The encoder's width by the shards that it made already, so that a run with nothing to do loads no encoder."""
    for path in sorted(folder.glob("vectors-*.h5")):
        try:
            header = read_header(path, "vectors")
        except StoreError:
            continue
        if header.origin.get("encoder") == source.identity:
            return header.shape[0]
    return None


def _here() -> str:
    import os
    import socket

    return f"{socket.gethostname()} (process {os.getpid()})"
