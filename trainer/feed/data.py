"""The images of one split that have every input, aligned over any number of stores by image_id."""

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from store import Store
from store.differences import difference
from store.errors import StoreError
from store.jpeg import JpegStore, open_images
from store.machine import available_memory
from trainer.feed.inputs import CLASSES, LENGTH, Batch, Input
from trainer.feed.sampler import Rows


class _Column(NamedTuple):
    """One input's store, and where each image's lines begin. n: images of the split; m: lines of the store's index."""

    store: Store | JpegStore
    first: np.ndarray  # (n,) the image's first line
    lines: np.ndarray  # (n,) how many lines it has
    row: np.ndarray  # (m,) the store's row that a line begins with
    length: np.ndarray | None  # (m,) rows of a line; None where each stands for one


class TrainingData:
    """What a system reads of one split: the images that have all of `inputs`.

    Args:
        embeddings: the split's folder, with a folder a store (`captions`, `turns`, …).
        images: the same for pictures (`76`, `304`).
        beside: what an image must have, too, but nobody reads here.

    Raises:
        StoreError: a store is missing or damaged, they were made from different corpora, or no image has all inputs.
    """

    def __init__(
        self, inputs: Sequence[Input], embeddings: str | Path, images: str | Path, beside: Sequence[Input] = ()
    ) -> None:
        self.inputs = tuple(inputs)
        wanted = (*inputs, *beside)
        folders = {"embeddings": Path(embeddings), "images": Path(images)}
        opened: dict[tuple[str, str], Store | JpegStore] = {}
        for one in wanted:
            if (one.where, one.store) not in opened:
                path = folders[one.where] / one.store
                opened[one.where, one.store] = open_images(path) if one.where == "images" else Store(path)
        self._stores = {one.name: opened[one.where, one.store] for one in inputs}
        _refuse_mixed(list(opened.values()))

        lines = {one.name: _lines(opened[one.where, one.store], one) for one in wanted}
        having = {one.called: lines[one.name][0] for one in wanted}
        every = functools.reduce(np.union1d, having.values())
        self.image_ids: np.ndarray = functools.reduce(np.intersect1d, having.values())
        self.dropped: dict[str, int] = {f"without {what}": len(every) - len(have) for what, have in having.items()}
        if len(self.image_ids) == 0:
            raise StoreError(
                f"{embeddings} and {images}: no image has every input ({self.report()}); are they one split?"
            )
        self._columns: dict[str, _Column] = {}
        for name, store in self._stores.items():
            ids, first, count, length = lines[name]
            at = np.searchsorted(ids, self.image_ids)
            self._columns[name] = _Column(store, first[at], count[at], store.column("row").astype(np.int64), length)

    def __len__(self) -> int:
        """Images that have every input."""
        return len(self.image_ids)

    def __contains__(self, name: str) -> bool:
        """Whether the input is read."""
        return name in self._columns

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of the input `name`, as stored."""
        return tuple(self._stores[name].shape)

    def dim(self, name: str) -> int:
        """Length of one vector of the input `name`."""
        return int(self.shape(name)[0])

    def vocabulary(self, name: str) -> dict[str, tuple[str, ...]]:
        """The names that stand behind the numbers of the input `name`: of `objects` (kinds), and of `predicates`.

        Raises:
            StoreError: its store states none.
        """
        store = self._stores[name]
        stated = store.manifest.made_from.get("vocabulary")
        if not isinstance(stated, dict) or not all(
            isinstance(words, list) and all(isinstance(word, str) for word in words) for words in stated.values()
        ):
            raise StoreError(f"{store.path}: states no vocabulary; make the images again (chatpainter-prepare images)")
        return {what: tuple(words) for what, words in stated.items()}

    def longest(self, name: str) -> int | None:
        """Rows of the split's longest run of the ragged input `name`; None where an image has one row."""
        column = self._columns[name]
        if column.length is None:
            return None
        begins = np.cumsum(column.lines) - column.lines
        lines = np.repeat(column.first - begins, column.lines) + np.arange(column.lines.sum())
        return int(column.length[lines].max())

    @property
    def identity(self) -> dict[str, Any]:
        """What numbers mean, by store: {"captions": encoder and text switches, "objects": names of their kinds, …}."""
        every = {one.store: self._stores[one.name].identity for one in self.inputs}
        return {one.store: every[one.store] for one in self.inputs if one.where == "embeddings" or every[one.store]}

    @property
    def stores(self) -> dict[str, Store | JpegStore]:
        """What is read, by input."""
        return dict(self._stores)

    @property
    def checksums(self) -> dict[str, str]:
        """Of each store's manifest, which names the checksum of every shard and of the index."""
        return {name: store.manifest.checksum for name, store in self._stores.items()}

    def read_ahead(self) -> bool:
        """Ask the kernel for all files in reading order, if they fit: scattered reads of a cold disk are far slower.

        Does nothing (False) where the kernel cannot be asked, or half of the memory to be had would not hold them.
        """
        folders = {store.path: store.manifest.shards for store in self._stores.values()}
        size = sum(shard.bytes for shards in folders.values() for shard in shards)
        if not hasattr(os, "posix_fadvise") or size > available_memory() / 2:
            return False
        for folder, shards in folders.items():
            for shard in shards:
                # What cannot be read will say so when its rows are wanted.
                with contextlib.suppress(OSError), open(folder / shard.file, "rb", buffering=0) as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        return True

    def report(self) -> str:
        """One line: how many images there are and what was left out for want of what."""
        left_out = ", ".join(f"{count:,} {what}" for what, count in self.dropped.items() if count) or "none left out"
        return f"{len(self.image_ids):,} images with every input ({left_out})"

    def refuse_other_encoders(self, identity: dict[str, Any], whose: str) -> None:
        """Raise StoreError unless numbers mean here what `identity` (of `whose`) says that they mean there."""
        mine = self.identity
        for one in self.inputs:
            if one.store not in mine or identity.get(one.store) == mine[one.store]:
                continue
            path = self._stores[one.name].path
            if one.where == "embeddings":
                changed = difference(identity.get(one.store), mine[one.store])
                raise StoreError(
                    f"{path}: made with other encoders or text switches than {whose} ({changed}); "
                    "embed again with the same ones, or start a new run"
                )
            changed = difference(_by_number(identity.get(one.store)), _by_number(mine[one.store]))
            raise StoreError(
                f"{path}: other names stand behind its numbers than in {whose} ({changed}); "
                "make the images again from the same annotations, or start a new run"
            )

    def new_batch(self, size: int, pinned: bool = False) -> Batch:
        """An empty batch on the CPU for `gather` to fill; `pinned` for fast copies to a CUDA device."""
        tensors = {}
        for name, column in self._columns.items():
            kind = torch.from_numpy(np.empty(0, column.store.dtype)).dtype
            longest = self.longest(name)
            run = () if longest is None else (longest,)
            tensors[name] = torch.empty((size, *run, *column.store.shape), dtype=kind, pin_memory=pinned)
            if longest is not None:
                tensors[name + LENGTH] = torch.empty(size, dtype=torch.int64, pin_memory=pinned)
        tensors["image_id"] = torch.empty(size, dtype=torch.int64, pin_memory=pinned)
        return Batch(tensors)

    def gather(self, rows: Rows, out: Batch | None = None) -> Batch:
        """Read what the sampler drew; into `out` if given."""
        out, mismatched = out or self.new_batch(len(rows.images)), self._mismatched(rows)
        for one in self.inputs:
            column = self._columns[one.name]
            images = mismatched if one.of == "mismatched" else rows.images
            line = column.first[images]
            if one.pick == "drawn":
                line = line + self.chosen(one.name, images, rows.numbers)
            if column.length is None:
                column.store.take(column.row[line], out=out[one.name].numpy())
            else:
                assert isinstance(column.store, Store)
                out[one.name + LENGTH].numpy()[:] = column.length[line]
                column.store.runs(column.row[line], column.length[line], out=out[one.name].numpy())
        out["image_id"].numpy()[:] = self.image_ids[rows.images]
        return out

    def _mismatched(self, rows: Rows) -> np.ndarray:
        """(b,) the other images: where classes are read, one of the image's own class is drawn once more.

        So StackGAN++ does, and the second may be of that class again.
        """
        classes = self._classes
        if classes is None or rows.again is None:
            return rows.mismatched
        return np.where(classes[rows.mismatched] == classes[rows.images], rows.again, rows.mismatched)

    @functools.cached_property
    def _classes(self) -> np.ndarray | None:
        """(n,) every image's class, where classes are read."""
        if CLASSES.name not in self._columns:
            return None
        column = self._columns[CLASSES.name]
        return np.asarray(column.store.take(column.row[column.first])).reshape(len(self))

    def at(self, images: np.ndarray, numbers: np.ndarray | None = None) -> Batch:
        """The inputs of `images` (positions, (b,)), with the caption of each that `numbers` says, or its first."""
        numbers = np.zeros(len(images), np.uint64) if numbers is None else numbers
        return self.gather(Rows(images, numbers, images))

    def chosen(self, name: str, images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(b,) which of its lines of the input `name` each image (positions, (b,)) has for these numbers, from 0 on."""
        return (numbers % self._columns[name].lines[images].astype(np.uint64)).astype(np.int64)

    def words(self, images: np.ndarray, numbers: np.ndarray | None = None) -> list[tuple[str, list[str]]]:
        """What `at` reads, for people: each image's caption, and its rounds or its one collapsed dialogue."""
        numbers = np.zeros(len(images), np.uint64) if numbers is None else numbers
        captions: list[str] = [""] * len(images)
        rounds: list[list[str]] = [[] for _ in images]
        for one in self.inputs:
            column = self._columns[one.name]
            names = column.store.index.column_names
            if one.where != "embeddings" or one.of != "image" or not {"text", "texts"} & set(names):
                continue
            line = column.first[images]
            if one.pick == "drawn":
                line = line + self.chosen(one.name, images, numbers)
            said = column.store.index.column("texts" if "texts" in names else "text").take(line).to_pylist()
            if one.pick == "drawn":
                captions = said
            else:
                rounds = [[one] if isinstance(one, str) else one for one in said]
        return list(zip(captions, rounds, strict=True))


def _by_number(meaning: dict[str, Any] | None) -> dict[str, Any]:
    """A vocabulary with its numbers, so that the first that differs can be named."""
    return {what: dict(enumerate(names)) for what, names in (meaning or {}).get("vocabulary", {}).items()}


def _lines(store: Store | JpegStore, one: Input) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Distinct image ids (sorted), each one's first index line and how many it has; rows of every line if ragged."""
    owner = store.column("image_id")
    ids, first, count = np.unique(owner, return_index=True, return_counts=True)
    if one.pick == "drawn" and len(ids) != 1 + np.count_nonzero(np.diff(owner)):
        raise StoreError(f"{store.path}: the {one.store} of an image do not lie side by side; embed again")
    if not isinstance(store, Store) or store.manifest.lengths is None:
        return ids, first, count, None
    length = store.lengths
    said = length[first] > 0
    return ids[said], first[said], count[said], length


def _refuse_mixed(stores: Sequence[Store | JpegStore]) -> None:
    corpora = {store.path: store.manifest.made_from.get("corpus") for store in stores}
    known = {path: corpus for path, corpus in corpora.items() if corpus is not None}
    if len(set(known.values())) > 1:
        first, *others = known
        other = next(path for path in others if known[path] != known[first])
        raise StoreError(f"{other}: made from another corpus than {first}; run the embedding and image stages again")
