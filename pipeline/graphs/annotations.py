"""COCO's instances and stuff as published (`instances_val2017.json`, `stuff_val2017.json`), filtered as sg2im does."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.corpora import json_files
from pipeline.graphs.masks import SIDE, mask
from pipeline.graphs.relations import PREDICATES, triples
from store.errors import ChatPainterError

IMAGE = "__image__"
NONE = "NONE"  # a number that no category has
_MOST_CATEGORIES = 10_000


@dataclass(frozen=True)
class GraphSettings:
    """`images.graphs` of params.yaml: which objects of which pictures become scene graphs.

    Args:
        least, most: objects of a picture; others have no graph.
        least_area: an object's box takes more than this share of the picture.
        other: keep objects of the category "other".
        words: splits of the sample world whose graphs are what is said of the pictures, by rule; else its truth's.
    """

    least: int = 3
    most: int = 8
    least_area: float = 0.02
    other: bool = False
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= 1000:
            raise ValueError(f"least and most must be from 1 to 1000 and in order, found {self.least} and {self.most}")
        if not 0 <= self.least_area < 1:
            raise ValueError(f"least_area must be from 0 to below 1, found {self.least_area}")


@dataclass(frozen=True)
class Pictured:
    """What one picture shows, n objects and last of all the image itself; instances first, then stuff."""

    objects: np.ndarray  # (n + 1,) int16: categories
    boxes: np.ndarray  # (n + 1, 4) float32: x0, y0, x1, y1 as shares of width and height
    masks: np.ndarray  # (n + 1, 16, 16) uint8: 1 on the object, within its box
    triples: np.ndarray  # (m, 3) int16: as `relations.triples` gives them


@dataclass(frozen=True)
class Annotated:
    """What the files hold of the pictures asked for; `names` of categories by number, `NONE` where there is none."""

    names: tuple[str, ...]
    pictured: dict[int, Pictured]
    predicates: tuple[str, ...] = PREDICATES


def annotation_files(raw: Path, split: str) -> tuple[Path, Path]:
    """(instances, stuff) of a split; the second may not be there."""
    return raw / "annotations" / f"instances_{split}.json", raw / "annotations" / f"stuff_{split}.json"


def read(raw: Path, split: str, wanted: set[int], settings: GraphSettings) -> Annotated:
    """The objects of the pictures `wanted`. Where there is a stuff file, pictures that it does not name are left out.

    Raises:
        ChatPainterError: names the file, the annotation, and what was expected.
    """
    instances, stuff = annotation_files(raw, split)
    names: dict[int, str] = {0: IMAGE}
    sizes: dict[int, tuple[int, int]] = {}
    objects: dict[int, list[tuple[dict, str]]] = {}
    with_stuff: set[int] | None = None
    for path in (instances, stuff):
        if path == stuff and not stuff.is_file():
            continue
        content = json_files.read_object(path, _REMEDY)
        sizes |= _sizes(content, path)
        _add_names(names, content, path)
        named = _add_objects(objects, content, path, sizes, names, wanted, settings)
        if path == stuff:
            with_stuff = named
    pictured: dict[int, Pictured] = {}
    for image_id, found in objects.items():
        if settings.least <= len(found) <= settings.most and (with_stuff is None or image_id in with_stuff):
            pictured[image_id] = _pictured(found, sizes[image_id])
    listed = tuple(names.get(number, NONE) for number in range(max(names) + 1))
    return Annotated(listed, pictured)


_REMEDY = "take the file again from cocodataset.org, or write it again with whatever made it"


def _sizes(content: dict, path: Path) -> dict[int, tuple[int, int]]:
    sizes = {}
    for position, entry in enumerate(json_files.field(content, "images", list, str(path))):
        where = f"{path}: images[{position}]"
        width, height = (json_files.field(entry, side, int, where, 1, 1 << 16) for side in ("width", "height"))
        sizes[json_files.field(entry, "id", int, where)] = (width, height)
    return sizes


def _add_names(names: dict[int, str], content: dict, path: Path) -> None:
    for position, entry in enumerate(json_files.field(content, "categories", list, str(path))):
        where = f"{path}: categories[{position}]"
        number = json_files.field(entry, "id", int, where, 1, _MOST_CATEGORIES)
        name = json_files.field(entry, "name", str, where)
        if names.setdefault(number, name) != name or list(names.values()).count(name) > 1:
            raise ChatPainterError(
                f"{where}: {name!r:.40} is category {number}, but that is {names[number]!r:.40}, or another has its "
                f"name; {_REMEDY}"
            )


def _add_objects(
    objects: dict[int, list[tuple[dict, str]]],
    content: dict,
    path: Path,
    sizes: dict[int, tuple[int, int]],
    names: dict[int, str],
    wanted: set[int],
    settings: GraphSettings,
) -> set[int]:
    """Add what may stay; every picture that an annotation names."""
    named: set[int] = set()
    for position, entry in enumerate(json_files.field(content, "annotations", list, str(path))):
        where = f"{path}: annotations[{position}]"
        image_id = json_files.field(entry, "image_id", int, where)
        named.add(image_id)
        if image_id not in wanted:
            continue
        if image_id not in sizes:
            raise ChatPainterError(f"{where}: image {image_id} is not among the file's images; {_REMEDY}")
        box = json_files.field(entry, "bbox", list, where)
        numbers = all(type(v) in (int, float) and math.isfinite(v) and abs(v) < 1 << 20 for v in box)
        if len(box) != 4 or not numbers or min(box[2:]) < 0:
            raise ChatPainterError(f"{where}: bbox should be x, y, width and height, found {box!r:.60}; {_REMEDY}")
        category = json_files.field(entry, "category_id", int, where)
        if category == 0 or category not in names:
            raise ChatPainterError(f"{where}: category {category} is not among the file's categories; {_REMEDY}")
        width, height = sizes[image_id]
        large = box[2] * box[3] / (width * height) > settings.least_area
        if large and (settings.other or names[category] != "other"):
            objects.setdefault(image_id, []).append((entry, where))
    return named


def _pictured(found: list[tuple[dict, str]], size: tuple[int, int]) -> Pictured:
    width, height = size
    boxes, masks = [], []
    for entry, where in found:
        x, y, w, h = entry["bbox"]
        boxes.append((x / width, y / height, (x + w) / width, (y + h) / height))
        try:
            masks.append(mask(entry.get("segmentation"), entry["bbox"], width, height))
        except ValueError as error:
            raise ChatPainterError(f"{where}: segmentation: {error}; {_REMEDY}") from None
    categories = [entry["category_id"] for entry, _ in found]
    placed = np.array(boxes, np.float32)
    return Pictured(
        np.array([*categories, 0], np.int16),
        np.concatenate([placed, [(0, 0, 1, 1)]]).astype(np.float32),
        np.array([*masks, np.ones((SIDE, SIDE))], np.uint8),
        triples(placed, np.array(masks)),
    )


def vocabulary(names: tuple[str, ...], predicates: tuple[str, ...]) -> dict[str, Any]:
    """As a manifest has it."""
    return {"objects": list(names), "predicates": list(predicates)}
