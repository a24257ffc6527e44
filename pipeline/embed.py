"""Texts to stores: cut the corpus into shards, have the missing ones made, in any order on any machine, and commit.

What dask or anyone says of a shard is hearsay: after each attempt the folder is compared with the plan.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from pipeline.encoders import EncoderFactory, EncoderSettings
from pipeline.texts import TextSettings
from pipeline.worker import EncodedShard, EncoderSource, Lost, Runner, Work, unload, word_encoder
from store.errors import ChatPainterError, StoreError
from store.files import sha256_file
from store.manifest import MANIFEST, Manifest, content_key
from store.parts import Part, made_elsewhere, parts_of, taken_over
from store.shards import read_header
from store.writer import StoreWriter, remove_store

if TYPE_CHECKING:
    from pipeline.texts_of_rows import TextRows

ATTEMPTS = 3
# A worker's memory is five times a shard, so beyond this a typing error.
MOST_MIB = 16_384
MOST_WORKERS = 1024


@dataclass(frozen=True)
class EmbedSettings:
    """Section `embed` of params.yaml."""

    dtype: Literal["float16", "float32"] = "float16"
    shard_mib: int = 64  # of vectors a shard; a worker's memory is a few times this, whatever the corpus
    workers: int = 2
    words: bool = False  # beside `captions` a store of every word's vector

    def __post_init__(self) -> None:
        if self.shard_mib < 1 or self.workers < 1:
            raise ValueError("shard_mib and workers must be at least 1")
        if self.shard_mib > MOST_MIB or self.workers > MOST_WORKERS:
            raise ValueError(f"shard_mib must be at most {MOST_MIB:,}, workers at most {MOST_WORKERS:,}")


class EmbedProgress(Protocol):
    """Who is told how a run goes."""

    def planned(self, kind: str, writer: StoreWriter, rows: int) -> None: ...
    def made(self, kind: str, made: EncodedShard) -> None: ...
    def lost(self, kind: str, lost: Lost) -> None: ...
    def finished(self, kind: str, manifest: Manifest) -> None: ...
    def parted(self, kind: str, part: Part, shards: int) -> None: ...
    def removed(self, kind: str, folder: Path) -> None: ...


@dataclass(frozen=True)
class EmbedRun:
    """One run of chatpainter-embed: which encoders, where to, and who does the work.

    Attributes:
        out: folder of the split's stores.
        factory: who builds the encoders: the name of a module, or any picklable object, with the functions of
            `EncoderFactory`.
        part: make these shards alone, beside the stores, and commit nothing.
        finish: encode nothing; commit what parts made.
    """

    out: Path
    split: str
    runner: Runner
    progress: EmbedProgress
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    text: TextSettings = field(default_factory=TextSettings)
    encoders: EncoderSettings = field(default_factory=EncoderSettings)
    factory: EncoderFactory | str = "pipeline.encoders"
    part: Part | None = None
    finish: bool = False

    def embed(self, corpus: Path, kinds: Collection[str] | None = None) -> dict[str, Manifest | None]:
        """Make the stores `out`/{captions,turns,dialogues}, and `words` where asked for, from the split's Parquet file.

        Args:
            kinds: the stores wanted; all that the corpus has texts for where None.

        Returns:
            The manifests by kind; None where only a part was made.

        Raises:
            ChatPainterError: bad input; the corpus has no texts, or none of a kind that was asked for; shards could not
                be made.
        """
        from pipeline import texts_of_rows
        from pipeline.corpora import corpus as corpora
        from pipeline.texts import KINDS

        table = corpora.read(corpus)
        checksum = sha256_file(corpus)
        wanted = [kind for kind in KINDS if kinds is None or kind in kinds]
        manifests: dict[str, Manifest | None] = {}
        widths: dict[str, int] = {}
        with ThreadPoolExecutor(1) as ahead:
            # The texts of the next kind are read while the shards of this one are made.
            reading = {kind: ahead.submit(texts_of_rows.read, kind, table, self.text) for kind in wanted}
            for kind in wanted:
                rows = reading.pop(kind).result()
                if not len(rows) and kinds is not None:
                    raise ChatPainterError(f"{corpus}: has no {kind}; leave out --kind {kind} or make the corpus again")
                if not len(rows):
                    continue
                source = EncoderSource.of(self.factory, kind, self.encoders)
                if source.key not in widths:  # turns and dialogues have one encoder
                    widths[source.key] = self._known_width(kind, source) or self.runner.width(source)
                switches = texts_of_rows.switches(kind, self.text)
                made_from = {"corpus": checksum, "encoder": source.identity, "text": switches}
                manifests[kind] = self._store(kind, rows, source, widths[source.key], made_from)
                if kind == "captions" and self.settings.words:
                    manifests["words"] = self._words(rows, source, made_from)
        if not manifests:
            raise ChatPainterError(
                f"{corpus}: has no caption and no round, so there is nothing to encode; make the corpus again"
            )
        for kind in wanted:
            if kind not in manifests and self.part is None:
                finished = (self.out / kind / MANIFEST).is_file()
                remove_store(self.out / kind)
                if finished:
                    self.progress.removed(kind, self.out / kind)
        return manifests

    def _words(self, captions: "TextRows", source: EncoderSource, made_from: dict[str, Any]) -> Manifest | None:
        """The store of every caption's words, a run of rows each; how many there are this process counts."""
        from pipeline import texts_of_rows

        encoder = word_encoder(source.encoder())
        texts = captions.of(0, len(captions))
        distinct = list(dict.fromkeys(texts))
        counted = dict(zip(distinct, encoder.word_counts(distinct).tolist()))
        width = encoder.words(["a"]).vectors.shape[1]
        unload()
        rows = texts_of_rows.words(captions, np.array([counted[text] for text in texts], np.int64))
        made_from = {**made_from, "encoder": {**made_from["encoder"], "output": "words"}}
        return self._store("words", rows, source, width, made_from)

    def _store(
        self, kind: str, rows: "TextRows", source: EncoderSource, width: int, made_from: dict[str, Any]
    ) -> Manifest | None:
        """Make one store, what is missing of it, and the manifest last; or a part of it."""
        dtype, shape = self.settings.dtype, (width,)
        parts = rows.cut(max(1, self.settings.shard_mib * 2**20 // (width * np.dtype(dtype).itemsize)))
        planned = [
            (first, count, content_key(made_from, dtype, shape, first, rows.of(first, count))) for first, count in parts
        ]
        store = self.out / kind
        folder = self.part.folder(store) if self.part else store
        with StoreWriter(folder, kind=kind, split=self.split, shape=shape, dtype=dtype, made_from=made_from) as writer:
            writer.plan(planned)
            if self.part is not None:
                self._make_part(self.part, store, kind, writer, rows, source)
                return None
            with taken_over(writer, all_or_none=self.finish):
                self.progress.planned(kind, writer, len(rows))
                self._make(kind, writer, rows, source, set(range(len(parts))))
                manifest = writer.commit(rows.index, lengths={"turns": "rounds", "words": "words"}.get(kind))
            self.progress.finished(kind, manifest)
            return manifest

    def _make_part(
        self, part: Part, store: Path, kind: str, writer: StoreWriter, rows: "TextRows", source: EncoderSource
    ) -> None:
        """Make the shards of one part that nobody has made."""
        mine = [number for number in range(len(writer.tasks)) if part.has(number)]
        missing = [writer.tasks[number] for number in writer.missing() if part.has(number)]
        others = [store, *(folder for other, folder in parts_of(store).items() if other != part)]
        there = made_elsewhere(missing, others)
        writer.kept = [number for number in mine if number in writer.kept or number in there]
        self.progress.planned(kind, writer, sum(writer.tasks[number].rows for number in mine))
        self._make(kind, writer, rows, source, set(mine) - there)
        self.progress.parted(kind, part, len(mine))

    def _make(self, kind: str, writer: StoreWriter, rows: "TextRows", source: EncoderSource, wanted: set[int]) -> None:
        """Make those of the shards `wanted` that are missing, in a few attempts."""

        def left() -> list[int]:
            return [number for number in writer.missing() if number in wanted]

        reasons: dict[int, str] = {}
        for _ in range(ATTEMPTS):
            if not left():
                return
            tasks = [writer.tasks[number] for number in left()]
            work = (Work(task, source, rows.of(task.first_row, task.rows), rows.of_words) for task in tasks)
            for result in self.runner.run(work):
                if isinstance(result, EncodedShard):
                    writer.accept(result.number, result.shard)
                    self.progress.made(kind, result)
                else:
                    reasons[result.number] = result.reason
                    self.progress.lost(kind, result)
            writer.reconcile()
        if missing := left():
            names = ", ".join(writer.tasks[number].path.name for number in missing[:8])
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            why = reasons.get(missing[0], "their tasks vanished")
            raise StoreError(
                f"{writer.path}: {len(missing)} of {len(writer.tasks)} shards could not be made in {ATTEMPTS} "
                f"attempts: {names}{more} ({why}); run the same command again, finished shards are kept"
            )

    def _known_width(self, kind: str, source: EncoderSource) -> int | None:
        """The encoder's width by the shards that it made, so that a run with nothing to do loads no encoder."""
        store = self.out / kind
        found = (path for folder in (store, *parts_of(store).values()) for path in sorted(folder.glob("vectors-*.h5")))
        for path in found:
            try:
                header = read_header(path, "vectors")
            except StoreError:
                continue
            if isinstance(header.origin, dict) and header.origin.get("encoder") == source.identity and header.shape:
                return header.shape[0]
        return None
