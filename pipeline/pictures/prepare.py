"""The pictures of a corpus, every one decoded once and kept at each size in a store of its own.

Shards hold the same images at every size and follow the order of the corpus. A shard's key is made from the bytes of
its files, so that a run that was cut short, or whose files changed in part, does only what is left to do.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.graphs.annotations import GraphSettings
from pipeline.pictures.listing import Listed, list_images, read_files, same_bytes
from pipeline.pictures.pool import Failed, Recipe, Result, decode_all, processes, starting
from pipeline.pictures.stores import size_writer
from store.errors import ChatPainterError
from store.files import in_words, replacing, sha256_file
from store.writer import remove_store

# Below this side a JPEG saves little and smears much.
SMALLEST_JPEG = 128
UNREADABLE = "unreadable.json"


@dataclass(frozen=True)
class ImagesSettings:
    """`images:` of params.yaml.

    Args:
        sizes: sides in pixels; StackGAN crops 64 and 256 out of 76 and 304.
        encoding: `jpeg` compresses sizes of 128 and above (304: 6.5 GB instead of 34 GB for all of COCO 2014).
        unreadable: what a truncated or foreign file does: stop the run, or be skipped and reported.
        shard_mib: decoded size of a shard of the largest size.
        turn_size: side of the pictures after every turn, for datasets that have them; none are made where null.
        graphs: how COCO's instances and stuff become scene graphs; none are made where null.
    """

    sizes: tuple[int, ...] = (76, 304)
    encoding: Literal["raw", "jpeg"] = "raw"
    jpeg_quality: int = 95
    unreadable: Literal["stop", "skip"] = "stop"
    shard_mib: int = 128
    turn_size: int | None = None
    graphs: GraphSettings | None = None

    def __post_init__(self) -> None:
        if not self.sizes or len(set(self.sizes)) < len(self.sizes) or min(self.sizes) < 8 or max(self.sizes) > 4096:
            raise ValueError(f"sizes must be different and between 8 and 4096, found {list(self.sizes)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be between 1 and 100, found {self.jpeg_quality}")
        if self.shard_mib < 1:
            raise ValueError(f"shard_mib must be at least 1, found {self.shard_mib}")
        if self.turn_size is not None and not 8 <= self.turn_size <= 4096:
            raise ValueError(f"turn_size must be between 8 and 4096, found {self.turn_size}")

    @property
    def shard_images(self) -> int:
        return max(1, self.shard_mib * 2**20 // (3 * max(self.sizes) ** 2))

    def quality(self, size: int) -> int | None:
        """The quality of a size's JPEGs; None where it is kept raw."""
        return self.jpeg_quality if self.encoding == "jpeg" and size >= SMALLEST_JPEG else None


@dataclass(frozen=True)
class Prepared:
    """What became of a split.

    Attributes:
        images: kept.
        shards, decoded: of the largest size, and those of them that were decoded now.
        without_file: ids of images left out because the corpus has no file of theirs.
        unreadable: (file, why) of those left out because no decoder could read them, by image id.
        repeated: names of files that have the same bytes, group by group.
        other_size: ids of images whose file is not as wide and high as the captions file says.
    """

    images: int
    shards: int
    decoded: int
    without_file: list[int]
    unreadable: dict[int, tuple[str, str]]
    repeated: list[list[str]]
    other_size: list[int]


def prepare(
    corpus: Path,
    raw: Path,
    split: str,
    out: Path,
    settings: ImagesSettings,
    *,
    without_image: Literal["drop", "keep"] = "drop",
    retry_unreadable: bool = False,
    workers: int = 1,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[int], object] = lambda n: None,
) -> Prepared:
    """Write the stores `{out}/{size}` of a split from its corpus; keep finished shards of an earlier run.

    Args:
        without_image: `keep`: the corpus may hold images without a file, which get no row.
        retry_unreadable: try files again that an earlier run noted as unreadable, though their bytes are the same.
        started: called with the number of images that are to be decoded, whenever that becomes known.
        done: called with the number of images decoded since the last call.

    Raises:
        ChatPainterError: a file that cannot be read (unless skipped), is missing, or no image is left.
    """
    listed, without_file = list_images(corpus, raw, split, without_image)
    with starting():
        checksums, other_size = read_files(listed, workers)
    known = _Unreadable(out, listed, checksums, settings.unreadable)
    recipe = Recipe(settings.sizes, tuple(map(settings.quality, settings.sizes)))
    decoded = 0
    with contextlib.ExitStack() as stack:
        stores = [
            size_writer(out / str(size), split, size, quality, sha256_file(corpus))
            for size, quality in zip(recipe.sizes, recipe.qualities)
        ]
        for store in stores:
            stack.enter_context(store.writer)
        stack.enter_context(starting())
        pool = stack.enter_context(processes(workers))
        if retry_unreadable:
            known.retry(lambda paths: decode_all(pool, workers, paths, recipe))
        finished = False
        while not finished:
            shards = known.without(_parts(listed, settings.shard_images))
            if not shards:
                raise ChatPainterError(f"{raw}: not one picture of split {split!r} can be read; see {known.path}")
            missing = [store.plan([[checksums[each.image_id] for each in part] for part in shards]) for store in stores]
            work = sorted(set().union(*missing))
            started(sum(len(shards[number]) for number in work))
            results = decode_all(pool, workers, [each.path for number in work for each in shards[number]], recipe)
            for number in work:
                pictures, problems = _collect(results, shards[number], done)
                if problems:
                    known.add(problems)
                    break  # What is left is another plan.
                for store, some, column in zip(stores, missing, zip(*pictures)):
                    if number in some:
                        store.write(number, column)
                decoded += 1
            else:
                finished = True
            results.close()
        rows = [each for part in shards for each in part]
        repeated = same_bytes(rows, checksums)
        counts = {"images": len(rows), "unreadable": len(known.found), "repeated": sum(map(len, repeated))}
        for store in stores:
            store.commit([each.image_id for each in rows], [each.file_name for each in rows], counts)
        known.write()
    _remove_other_sizes(out, settings.sizes)
    return Prepared(len(rows), len(shards), decoded, without_file, known.found, repeated, other_size)


def _collect(
    results: Iterator[Result], part: list[Listed], done: Callable[[int], object]
) -> tuple[list[list[np.ndarray | bytes]], list[tuple[Listed, str]]]:
    """The pictures of a shard and what could not be read of it."""
    pictures: list[list[np.ndarray | bytes]] = []
    problems: list[tuple[Listed, str]] = []
    for each, result in zip(part, results):
        if isinstance(result, Failed):
            problems.append((each, result.reason))
        else:
            pictures.append(result)
        done(1)
    return pictures, problems


def _remove_other_sizes(out: Path, sizes: tuple[int, ...]) -> None:
    """Stores of sizes that are no longer asked for would be taken for new ones."""
    for path in out.iterdir():
        if path.name.isdecimal() and int(path.name) not in sizes and path.is_dir():
            remove_store(path)


def _parts(listed: list[Listed], length: int) -> list[list[Listed]]:
    return [listed[start : start + length] for start in range(0, len(listed), length)]


class _Unreadable:
    """The files that no decoder could read, noted beside the stores, so that later runs need not try them again."""

    def __init__(self, out: Path, listed: list[Listed], checksums: dict[int, str], fate: str) -> None:
        self.path = out / UNREADABLE
        self.found: dict[int, tuple[str, str]] = {}
        self._fate, self._checksums = fate, checksums
        if fate == "skip" and self.path.is_file():
            noted = _noted(self.path)
            for each in listed:
                if reason := noted.get(checksums[each.image_id]):
                    self.found[each.image_id] = (str(each.path), reason)

    def without(self, parts: list[list[Listed]]) -> list[list[Listed]]:
        """The parts without them, and without parts of which nothing is left."""
        left = ([each for each in part if each.image_id not in self.found] for part in parts)
        return [part for part in left if part]

    def retry(self, decode: Callable[[list[Path]], Iterator[Result]]) -> None:
        """Try what was noted again, before any shard is planned: where nothing can be read now, none changes."""
        noted = list(self.found.items())
        for (image_id, (path, _)), result in zip(noted, decode([Path(path) for _, (path, _) in noted])):
            if isinstance(result, Failed):
                self.found[image_id] = (path, result.reason)
            else:
                del self.found[image_id]

    def add(self, problems: list[tuple[Listed, str]]) -> None:
        """Note what could not be read, or stop at the first of it."""
        if self._fate == "stop":
            each, reason = problems[0]
            raise ChatPainterError(
                f"{each.path}: image {each.image_id} cannot be read ({reason}); take the file again, "
                "or leave such images out with --unreadable skip (images.unreadable in params.yaml)"
            )
        self.found |= {each.image_id: (str(each.path), reason) for each, reason in problems}
        self.write()

    def write(self) -> None:
        entries = [
            {"image_id": image_id, "file": path, "reason": reason, "sha256": self._checksums[image_id]}
            for image_id, (path, reason) in sorted(self.found.items())
        ]
        with in_words(self.path):
            if not entries:
                self.path.unlink(missing_ok=True)
                return
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _noted(path: Path) -> dict[str, str]:
    try:
        return {str(entry["sha256"]): str(entry["reason"]) for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # It only spares work.
