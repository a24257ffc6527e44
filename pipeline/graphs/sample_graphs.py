"""Scene graphs of the sample world: of its truth, or, by rule, of what is said about a picture.

An object's kind is what people call it ("small red circle"), and the ground is an object as well. Beside sg2im's six
relations stand those of an object to the ground, one for each place ("at the top left of"), since relations between
objects alone do not tell where a single one lies.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from pipeline.corpora import corpus
from pipeline.corpora.sample_world import COLOURS, GROUNDS, PLACES, SHAPES, SIZES, Thing, outline
from pipeline.graphs.annotations import IMAGE, Annotated, GraphSettings, Pictured
from pipeline.graphs.masks import SIDE, mask
from pipeline.graphs.relations import PREDICATES, centres, table
from store.errors import ChatPainterError

SURROUNDING = PREDICATES.index("surrounding")
_FINE = 1024  # pixels of the side that masks are taken from


@dataclass(frozen=True)
class World:
    """What there is in a world with places: names, and where and how large objects are, in shares of the side."""

    places: dict[str, tuple[float, float]]
    colours: tuple[str, ...]
    shapes: tuple[str, ...]
    sizes: dict[str, float]
    grounds: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of objects, by number."""
        things = [f"{size} {colour} {shape}" for size in self.sizes for colour in self.colours for shape in self.shapes]
        return (IMAGE, *self.grounds, *things)

    @property
    def predicates(self) -> tuple[str, ...]:
        """Of relations, by number."""
        return (*PREDICATES, *(f"at the {place} of" for place in self.places))


SAMPLE_WORLD = World(PLACES, tuple(COLOURS), SHAPES, SIZES, tuple(GROUNDS))
"""The world as it is where nothing else is asked for."""


@dataclass(frozen=True)
class PlacedObject:
    """One object of a scene."""

    place: str
    colour: str
    shape: str
    size: str
    centre: tuple[float, float]
    radius: float

    @property
    def kind(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


PlacedScene = tuple[str | None, list[PlacedObject]]
"""A scene: the ground, None until it is known, and the objects."""


@dataclass(frozen=True)
class Truth:
    """A split's truth, if it is one of a world with places.

    Attributes:
        scenes: the ground and the objects, by image id.
    """

    path: Path
    world: World
    scenes: dict[int, PlacedScene]


def truth_of(raw: Path, split: str) -> Truth | None:
    """The truth that lies beside a split; None where there is none, or none with places.

    Raises:
        ChatPainterError: it cannot be read, or is no such file.
    """
    path = raw / f"truth_{split}.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        about, scenes = values["world"], values["scenes"]
        parts = [about.get(name) for name in ("places", "colours", "shapes", "sizes", "grounds")]
        if not all(parts):
            return None
        places, colours, shapes, sizes, grounds = parts
        where = {name: _spot(place) for name, place in places.items()}
        world = World(where, tuple(colours), tuple(shapes), {k: float(v) for k, v in sizes.items()}, tuple(grounds))
        shown = {entry["image_id"]: (entry["ground"], [_seen(one) for one in entry["objects"]]) for entry in scenes}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ChatPainterError(
            f"{path}: not a truth file ({type(error).__name__}: {error}); make the world again"
        ) from None
    return Truth(path, world, shown)


def read(path: Path, truth: Truth, split: str, settings: GraphSettings) -> Annotated:
    """The graphs of a corpus' pictures: of the truth, or of the words where `settings.words` names the split.

    Raises:
        ChatPainterError: the truth lacks a picture of the corpus, or the rules read another scene from its words.
    """
    world = truth.world
    found: dict[int, PlacedScene] = {}
    for row in corpus.rows(corpus.read(path)):
        if row.image_id not in truth.scenes:
            raise ChatPainterError(
                f"{truth.path}: no scene of image {row.image_id}, which {path} has; make the world again"
            )
        found[row.image_id] = truth.scenes[row.image_id]
        if split in settings.words:
            said = told(world, row.caption, row.rounds)
            if _in_words(said) != _in_words(found[row.image_id]):
                raise ChatPainterError(
                    f"{path}: the words about image {row.image_id} are not those of its scene by the sample world's "
                    f"rules, which know no edits and no free places; leave {split} out of images.graphs.words"
                )
            found[row.image_id] = said
    pictured = {
        image_id: graph(world, ground, things)
        for image_id, (ground, things) in found.items()
        if settings.least <= len(things) + (ground is not None) <= settings.most
    }
    return Annotated(world.kinds, pictured, world.predicates)


def told(world: World, caption: str, rounds: Iterable[tuple[str, str]]) -> PlacedScene:
    """The ground, and the objects whose colour, shape and size are all told, in the order of the places.

    Two rules: what a caption names lies at the place that it names; a colour, shape or size in the answer to a question
    that names a place is that of the object there. Grounds stand in answers, or in questions answered by yes.
    Objects are taken to lie in the middle of their places.
    """
    known: dict[str, dict[str, str]] = {place: {} for place in world.places}
    ground = None
    for question, answer in (("", caption), *rounds):
        where = _named(world.places, question or answer)
        words = re.findall(r"[a-z]+", answer.lower())
        for kind, names in (("colour", world.colours), ("shape", world.shapes), ("size", world.sizes)):
            said = next((word for word in words if word in names), None)
            if said is not None and where is not None:
                known[where][kind] = said
        if question:
            asked = re.findall(r"[a-z]+", question.lower()) if words[:1] in (["yes"], ["yep"]) else []
            ground = next((word for word in (*words, *asked) if word in world.grounds), ground)
    things = [
        PlacedObject(place, one["colour"], one["shape"], one["size"], world.places[place], world.sizes[one["size"]])
        for place, one in known.items()
        if len(one) == 3
    ]
    return ground, things


def _in_words(scene: PlacedScene) -> tuple[str | None, set[tuple[str, str]]]:
    """What a scene shows, without where exactly."""
    ground, things = scene
    return ground, {(one.place, one.kind) for one in things}


def graph(world: World, ground: str | None, things: list[PlacedObject]) -> Pictured:
    """Objects, then the ground if it is known, then the image itself, and every relation."""
    outlines = [outline(cast(Thing, one)) for one in things]
    boxes = np.array([(*np.min(corners, 0), *np.max(corners, 0)) for corners in outlines]).reshape(-1, 4)
    masks = np.array([_mask(corners, box) for corners, box in zip(outlines, boxes)], bool).reshape(-1, SIDE, SIDE)
    kinds, predicates = world.kinds, world.predicates
    n, under = len(things), [] if ground is None else [ground]
    found = table(boxes, centres(boxes, masks))
    triples = [(s, found[s, o], o) for s in range(n) for o in range(n) if s != o]
    for _ in under:
        triples += [(s, predicates.index(f"at the {one.place} of"), n) for s, one in enumerate(things)]
        triples += [(n, SURROUNDING, o) for o in range(n)]
    rows = n + len(under)
    triples += [(s, 0, rows) for s in range(rows)]
    return Pictured(
        np.array([kinds.index(name) for name in (*(one.kind for one in things), *under, IMAGE)], np.int16),
        np.array([*boxes, *[(0, 0, 1, 1)] * (rows - n + 1)], np.float32),
        np.array([*masks, *np.ones((rows - n + 1, SIDE, SIDE))], np.uint8),
        np.array(triples, np.int16).reshape(-1, 3),
    )


def _mask(corners: list[tuple[float, float]], box: np.ndarray) -> np.ndarray:
    polygon = [value * _FINE for corner in corners for value in corner]
    x0, y0, x1, y1 = (value * _FINE for value in box)
    return mask([polygon], (x0, y0, x1 - x0, y1 - y0), _FINE, _FINE)


def _named(places: Mapping[str, Any], text: str) -> str | None:
    """The place that a text names, the longest name first ("bottom middle" is not "middle")."""
    low = text.lower()
    return next((place for place in sorted(places, key=len, reverse=True) if place in low), None)


def _seen(entry: Mapping[str, Any]) -> PlacedObject:
    place, colour, shape, size = (str(entry[name]) for name in ("place", "colour", "shape", "size"))
    return PlacedObject(place, colour, shape, size, _spot(entry), float(entry["radius"]))


def _spot(entry: Mapping[str, Any]) -> tuple[float, float]:
    x, y = entry["centre"]
    return float(x), float(y)
