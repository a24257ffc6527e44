"""Hexagons ("Draw Me a Flower", Lachmy et al., 2022): procedures in words, with the board after every step.

Read as published (`train.jsonl`, `dev.jsonl`; MIT licence), drawn by ourselves, and written out as COCO and VisDial
write theirs, with a picture after every step. A round is an instruction without an answer.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.corpora import json_files, made_files, sample_world
from pipeline.corpora.films import Film, FilmFrame
from pipeline.corpora.folders import replacing_folder
from pipeline.corpora.made_files import MadePicture
from store.errors import ChatPainterError

REMEDY = "take the file again from github.com/OnlpLab/Hexagons"
SPLITS = ("train", "dev")
FIRST_ID = {"train": 1, "dev": 1_000_001}
COLUMNS, ROWS = 18, 10
# A board is 180 numbers, row by row; 0 is a tile that nobody coloured.
COLOURS = {"black": (24, 24, 26)} | {
    name: sample_world.COLOURS[name] for name in ("yellow", "green", "red", "blue", "purple", "orange")
}
NAMES = tuple(COLOURS)
WHITE = (246, 246, 246)
LINE = (176, 180, 186)
CAPTION = "a board of hexagons"
FINER = 4
Board = tuple[int, ...]
_OURS = re.compile(
    r"(annotations/(captions|turns)_(train|dev)\.json|visdial/visdial_1\.0_(train|dev)\.json|truth_(train|dev)\.json"
    r"|images/(train|dev)/(HEXAGONS_(train|dev)_\d{12}|turns/[0-9a-f]{16})\.png)"
)
# The board fills the picture but for this margin, so that hexagons are higher than wide.
_MARGIN = 0.04
_STEP = (1 - 2 * _MARGIN) / (COLUMNS + 1 / 3)  # from a column to the next: three quarters of a hexagon's width
_HEIGHT = (1 - 2 * _MARGIN) / (ROWS + 0.5)
_RADIUS = 0.02


def _centres() -> dict[str, tuple[float, float]]:
    """Of every tile; each second column lies half a tile lower."""
    return {
        f"row {row + 1} column {column + 1}": (
            round(_MARGIN + _STEP * (column + 2 / 3), 5),
            round(_MARGIN + _HEIGHT * (row + 0.5 + 0.5 * (column % 2)), 5),
        )
        for row in range(ROWS)
        for column in range(COLUMNS)
    }


PLACES = _centres()


def make(
    source: Path,
    raw: Path,
    image_size: int = 128,
    limit: int | None = None,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Write Hexagons as folder `raw`, all of it or nothing: splits train and dev; the procedures of each.

    Args:
        source: folder of train.jsonl and dev.jsonl.
        limit: at most so many procedures a split.
        started: called with the number of procedures.
        done: called after each.

    Raises:
        ChatPainterError: names the file, the line, and what was expected; or `raw` holds something else.
    """
    procedures = {split: _read(source / f"{split}.jsonl")[:limit] for split in SPLITS}
    started(sum(map(len, procedures.values())))
    with replacing_folder(raw, _OURS, "truth_*.json") as temporary:
        for split, steps in procedures.items():
            _write_split(temporary, split, steps, image_size, done)
    return {split: len(steps) for split, steps in procedures.items()}


def picture(board: Board, side: int) -> Image.Image:
    """The picture of a board, (side, side) RGB."""
    full = side * FINER
    image = Image.new("RGB", (full, full), LINE)
    pen = ImageDraw.Draw(image)
    across, half, tall = _STEP * 2 / 3, _STEP / 3, _HEIGHT / 2
    for number, (x, y) in zip(board, PLACES.values()):
        corners = [(-across, 0), (-half, -tall), (half, -tall), (across, 0), (half, tall), (-half, tall)]
        # A little smaller than its place: a line stays between neighbours.
        outline = [((x + 0.94 * dx) * full, (y + 0.94 * dy) * full) for dx, dy in corners]
        pen.polygon(outline, fill=COLOURS[NAMES[number - 1]] if number else WHITE)
    return image.reduce(FINER)


def read(image: Image.Image) -> Board:
    """The board that a picture shows: at the middle of every tile the nearest colour."""
    pixels = np.asarray(image, dtype=float)
    palette = np.array([WHITE, *COLOURS.values()], dtype=float)
    seen = np.array([pixels[int(y * len(pixels)), int(x * len(pixels))] for x, y in PLACES.values()])
    return tuple(((seen[:, None] - palette) ** 2).sum(2).argmin(1).tolist())


def _read(path: Path) -> list[tuple[str, list[str], list[Board]]]:
    """(image, instructions, boards before the first and after each) of every procedure."""
    found = []
    for where, entry in json_files.read_lines(path, REMEDY):
        name = json_files.field(entry, "image_id", str, where)
        texts, boards = [], []
        for number, step in enumerate(json_files.field(entry, "drawing_procedure", list, where)):
            if not (isinstance(step, list) and len(step) == 3 and isinstance(step[1], str)):
                raise ChatPainterError(f"{where}: step {number} should be a number, a text and a board; {REMEDY}")
            json_files.check_text(step[1], f"{where}: step {number}")
            texts.append(json_files.fold(step[1]))
            boards.append(_board(step[2], f"{where}: step {number}"))
        if len(texts) < 2:
            raise ChatPainterError(f"{where}: has no step; {REMEDY}")
        found.append((name, texts[1:], boards))
    if not found:
        raise ChatPainterError(f"{path}: holds no procedure; {REMEDY}")
    return found


def _board(tiles: object, where: str) -> Board:
    if not isinstance(tiles, list) or len(tiles) != ROWS * COLUMNS:
        raise ChatPainterError(f"{where}: the board should be {ROWS * COLUMNS} numbers; {REMEDY}")
    for tile in tiles:
        if type(tile) is not int or not 0 <= tile <= len(COLOURS):
            raise ChatPainterError(f"{where}: tile {tile!r:.40} is no colour from 0 to {len(COLOURS)}; {REMEDY}")
    return tuple(tiles)


def _write_split(
    raw: Path,
    split: str,
    procedures: Sequence[tuple[str, list[str], list[Board]]],
    side: int,
    done: Callable[[], object],
) -> None:
    images = made_files.folders(raw, split)
    (images / "turns").mkdir()
    spots = {place: (centre, "hexagon") for place, centre in PLACES.items()}

    def shown(board: Board) -> FilmFrame:
        """The picture of a board, drawn once a split."""
        name = f"turns/{hashlib.sha256(bytes(board)).hexdigest()[:16]}.png"
        if not (images / name).exists():
            picture(board, side).save(images / name)
        return FilmFrame(name, tuple(sorted({tile - 1 for tile in board if tile})))

    made = []
    for number, (name, texts, boards) in enumerate(procedures):
        image_id = FIRST_ID[split] + number
        file_name = f"HEXAGONS_{split}_{image_id:012d}.png"
        first, *turns = map(shown, boards)
        picture(boards[-1], side).save(images / file_name)
        seen = [{place: NAMES[tile - 1] for place, tile in zip(PLACES, board) if tile} for board in boards]
        truth = {"key": name, **made_files.changing_truth(seen, spots, _RADIUS, "white", known=True)}
        rounds = [(text, "") for text in texts]
        made.append(MadePicture(image_id, file_name, [CAPTION], rounds, truth, Film(image_id, first, tuple(turns))))
        done()
    head = {
        "info": {"description": f"Hexagons {split}, drawn by ChatPainter"},
        "licenses": [{"id": 1, "name": "MIT", "url": "https://github.com/OnlpLab/Hexagons"}],
    }
    world = {
        "captions_tell": False,
        "places": {place: {"centre": list(centre), "half": round(_STEP / 4, 5)} for place, centre in PLACES.items()},
        "colours": {name: list(rgb) for name, rgb in COLOURS.items()},
        "grounds": {"white": list(WHITE)},
        "shapes": ["hexagon"],
        "sizes": {"plain": _RADIUS},
        "ceilings": {},
    }
    made_files.write(raw, split, made, (side, side), head, world, NAMES)
