"""The pictures of every turn as stores beside those of the images, aligned with the rounds of the corpus."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import ragged
from pipeline.corpora import corpus as corpora
from pipeline.corpora import films
from pipeline.corpora.films import Film, FilmFrame
from pipeline.pictures.decode import RESAMPLING
from pipeline.pictures.files import PictureFiles
from pipeline.pictures.pool import Failed, Recipe, decode_all, processes, quietly, starting
from store.errors import ChatPainterError
from store.files import sha256_file
from store.manifest import content_key
from store.writer import StoreWriter, remove_store

NAMES = ("turn_pictures", "first_pictures", "presence", "first_presence")


@dataclass(frozen=True)
class FilmCounts:
    """What became of a split's films; `without`: images of the corpus that have none."""

    images: int
    pictures: int
    without: int


def prepare(
    corpus: Path,
    raw: Path,
    split: str,
    out: Path,
    side: int,
    shard_bytes: int,
    *,
    workers: int = 1,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[int], object] = lambda n: None,
) -> FilmCounts:
    """Write `out`/{turn_pictures,presence}, a run of rows an image, and {first_pictures,first_presence}, a row each.

    Pictures are (side, side, 3) uint8, resized as all are; presence (kinds of objects,) uint8. Images without a film
    get no row.

    Raises:
        ChatPainterError: there is no file of films, no image has one, one has not as many turns as the corpus has
            rounds, or a picture is missing or cannot be read.
    """
    table = corpora.read(corpus)
    stated = films.films_file(raw, split)
    found = films.read(stated)
    mine: list[Film] = []
    for row in corpora.rows(table.select(corpora.schema().names)):
        film = found.films.get(row.image_id)
        if film is None:
            continue
        if len(film.turns) != len(row.rounds):
            raise ChatPainterError(
                f"{stated}: image {row.image_id} has {len(film.turns)} turns, but {len(row.rounds)} rounds in "
                f"{corpus}; make both again"
            )
        if film.turns:
            mine.append(film)
    if not mine:
        raise ChatPainterError(f"{stated}: has no film of an image of {corpus}; are they one split?")
    files = _find(mine, PictureFiles(raw, split), stated)
    with starting(), quietly(), ThreadPoolExecutor(max(4, workers)) as threads:
        sums = dict(zip(files, threads.map(sha256_file, files.values())))
    about = {"corpus": sha256_file(corpus)}
    pictures = about | {"size": side, "resampling": RESAMPLING.name.lower(), "encoding": "raw"}
    with starting(), processes(workers) as pool:

        def decoded(names: Sequence[str]) -> dict[str, np.ndarray]:
            distinct = list(dict.fromkeys(names))
            results = decode_all(pool, workers, [files[name] for name in distinct], Recipe((side,), (None,)))
            return {name: _picture(result, files[name]) for name, result in zip(distinct, results)}

        ids = [film.image_id for film in mine]
        for name, runs in (
            ("turn_pictures", [film.turns for film in mine]),
            ("first_pictures", [(film.first,) for film in mine]),
        ):
            _write_pictures(out / name, split, ids, runs, pictures, sums, decoded, shard_bytes, started, done)
    told = about | {"vocabulary": {"objects": list(found.objects)}}
    kinds = len(found.objects)
    turns = [_presence(film.turns, kinds) for film in mine]
    ragged.write(out / "presence", "presence", split, ids, turns, told, lengths="turns")
    firsts = [_presence((film.first,), kinds) for film in mine]
    ragged.write(out / "first_presence", "first_presence", split, ids, firsts, told, lengths=None)
    return FilmCounts(len(mine), sum(len(film.turns) for film in mine), len(table) - len(mine))


def remove(out: Path) -> None:
    """Delete the stores that `prepare` writes."""
    for name in NAMES:
        remove_store(out / name)


def _find(mine: list[Film], pictures: PictureFiles, stated: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for film in mine:
        for shown in (film.first, *film.turns):
            if shown.file_name in files:
                continue
            path = pictures.find(shown.file_name)
            if path is None:
                raise ChatPainterError(
                    f"{stated}: image {film.image_id} names {shown.file_name}, but no such file lies in "
                    f"{pictures.folders[0]}; make the dataset's folder again"
                )
            files[shown.file_name] = path
    return files


def _write_pictures(
    path: Path,
    split: str,
    ids: list[int],
    runs: Sequence[Sequence[FilmFrame]],
    made_from: dict[str, Any],
    sums: dict[str, str],
    decoded: Callable[[Sequence[str]], dict[str, np.ndarray]],
    shard_bytes: int,
    started: Callable[[int], object],
    done: Callable[[int], object],
) -> None:
    side = made_from["size"]
    counts = [len(run) for run in runs]
    rows = np.cumsum([0, *counts])
    parts = [
        [shown.file_name for run in runs[line : line + lines] for shown in run]
        for line, lines in ragged.cut(counts, max(1, shard_bytes // (3 * side * side)))
    ]
    firsts = np.cumsum([0, *map(len, parts)]).tolist()
    with StoreWriter(
        path, kind=path.name, split=split, shape=(side, side, 3), dtype="uint8", dataset="images", made_from=made_from
    ) as writer:
        planned = [
            (first, len(part), content_key(writer.made_from, "uint8", writer.shape, first, [sums[n] for n in part]))
            for first, part in zip(firsts, parts)
        ]
        missing = writer.plan(planned)
        started(sum(len(parts[number]) for number in missing))
        for number in missing:
            there = decoded(parts[number])
            writer.write_shard(number, np.stack([there[name] for name in parts[number]]))
            done(len(parts[number]))
        index = {"row": rows[:-1], "image_id": pa.array(ids, pa.int64())}
        lengths = "turns" if path.name == "turn_pictures" else None
        if lengths:
            index[lengths] = np.array(counts, np.int32)
        writer.commit(pa.table(index), {"images": len(ids)}, lengths=lengths)


def _picture(result: Any, path: Path) -> np.ndarray:
    if isinstance(result, Failed):
        raise ChatPainterError(f"{path}: cannot be read ({result.reason}); make the dataset's folder again")
    picture = result[0]
    assert isinstance(picture, np.ndarray)
    return picture


def _presence(shown: Sequence[FilmFrame], kinds: int) -> np.ndarray:
    """(turns, kinds) uint8."""
    present = np.zeros((len(shown), kinds), np.uint8)
    for row, one in enumerate(shown):
        present[row, list(one.present)] = 1
    return present
