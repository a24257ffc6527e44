"""COCO's segmentations (polygons, and run lengths in both spellings) as masks of 16 x 16 within the object's box."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SIDE = 16
# Polygons are drawn this many times finer, and a pixel is covered where half of it is; not those of large objects, of
# which a pixel decides nothing and which would take much memory.
FINER = 4
_LARGE = 1 << 22
_MOST_PIXELS = 1 << 27


def mask(segmentation: Any, box: Sequence[float], width: int, height: int) -> np.ndarray:
    """(16, 16) bool: the object within its box, which is rounded to whole pixels and at least one wide and high.

    Args:
        segmentation: as COCO has it: a list of polygons, or {"counts", "size"}.
        box: x, y, width and height in pixels.
        width, height: of the picture.

    Raises:
        ValueError: it is neither, or not of a picture of this size; says how.
    """
    x, y, w, h = box
    if width * height > _MOST_PIXELS:
        raise ValueError(f"a picture of {width:,} x {height:,} pixels is too large to be meant")
    left, top = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    right, bottom = max(left + 1, min(round(x + w), width)), max(top + 1, min(round(y + h), height))
    if isinstance(segmentation, dict):
        part = run_lengths(segmentation, width, height)[top:bottom, left:right]
    else:
        part = _polygons(segmentation, left, top, right, bottom)
    small = Image.fromarray(part.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small) > 128


def run_lengths(segmentation: dict[str, Any], width: int, height: int) -> np.ndarray:
    """(height, width) bool of runs that alternate between outside and inside, column after column.

    Raises:
        ValueError: they do not fill the picture.
    """
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"size should be [{height}, {width}], found {segmentation.get('size')!r:.40}")
    counts = segmentation.get("counts")
    runs = _spelt(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or any(type(run) is not int or not 0 <= run <= _MOST_PIXELS for run in runs):
        raise ValueError(f"counts should be lengths of runs, found {counts!r:.40}")
    if sum(runs) != width * height:
        raise ValueError(f"its runs are {sum(runs):,} pixels long, but the picture has {width * height:,}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _spelt(text: str) -> list[int]:
    """COCO's compressed spelling: five bits a character from 48 on, the sixth says that more follow, the lowest first;
    from the third run on, what is spelt is the difference to the run before the last."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"counts has {character!r}, which spells no run")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("counts ends in the middle of a run")
    return runs


def _polygons(polygons: Any, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    if not isinstance(polygons, list):
        raise ValueError(f"should be polygons or run lengths, found {polygons!r:.40}")
    times = FINER if (right - left) * (bottom - top) <= _LARGE else 1
    finer = Image.new("L", ((right - left) * times, (bottom - top) * times))
    pen = ImageDraw.Draw(finer)
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(type(value) in (int, float) for value in polygon)
        if not numbers or len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(polygon).all():
            raise ValueError(f"a polygon takes three corners of two numbers or more, found {polygon!r:.40}")
        xs, ys = polygon[::2], polygon[1::2]
        pen.polygon([((x - left) * times - 0.5, (y - top) * times - 0.5) for x, y in zip(xs, ys)], fill=255)
    return np.asarray(finer.reduce(times)) >= 128
