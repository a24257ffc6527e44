"""The truth beside a made world: which objects lie where in every picture (`truth_SPLIT.json`).

Two kinds of world are understood. One with `places` and `colours` has at most one object at each place (the sample
world) and can be scored from pixels alone. One without places names its objects (`sprite` in CoDraw), says where on the
canvas each stands, and is scored by the classifier. In both, rounds may change the scene.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store.errors import ChatPainterError

NOTHING = -1  # no object at a place, in every label array of this package


@dataclass(frozen=True)
class Place:
    """Where an object may lie, in fractions of the whole picture's side."""

    centre: tuple[float, float]  # x, y
    half: float  # the patch this far round the centre lies on the object wherever it was moved


@dataclass(frozen=True)
class Object:
    """One object of a scene; what a world does not have is None."""

    name: str | None
    place: str | None
    colour: str | None
    shape: str | None
    size: str | None
    radius: float | None
    middle: tuple[float, float] | None = None  # x, y of a clip-art in fractions of the picture


@dataclass(frozen=True)
class TrueScene:
    """What one picture of a made world shows."""

    image_id: int
    ground: str | None
    objects: tuple[Object, ...]


@dataclass(frozen=True)
class Head:
    """One question with a closed set of answers that a classifier learns to read off a picture."""

    name: str
    kind: str  # ground | colour | shape | size | sprite
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Truth:
    """All scenes of one split and the vocabulary of their world."""

    path: Path
    sha256: str
    places: dict[str, Place]
    colours: dict[str, tuple[int, int, int]]
    grounds: dict[str, tuple[int, int, int]]
    shapes: tuple[str, ...]
    sizes: tuple[str, ...]
    sprites: tuple[str, ...]
    kind_of: Mapping[str, str]  # sprite -> the object that it shows: a boy is one, whatever his pose
    ceilings: dict[str, dict[str, float]]  # score -> what was told (chance, caption, dialogue) -> the best possible
    scenes: dict[int, TrueScene]
    words: dict[int, Mapping[str, Any]]  # what captions and rounds tell (trainer.evaluation.rounds), where it is known
    films: dict[int, tuple[TrueScene, ...]]  # before the first round and after each, where rounds change the scene
    captions_tell: bool  # whether a caption names one object in full and how many there are, or nothing of them
    starts: dict[int, int]  # after how many rounds, which tell the first state, dialogues begin; where they are any
    slots: tuple[tuple[int, ...], ...]  # of which places (in their order) each part that is counted as one consists

    @classmethod
    def load(cls, path: str | Path) -> "Truth":
        """Read and check a truth file.

        Raises:
            ChatPainterError: missing, not JSON, or a scene names what its world does not have.
        """
        path = Path(path)
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); make the world again") from None
        try:
            values = json.loads(text)
            truth = _parse(path, hashlib.sha256(text).hexdigest(), values)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise ChatPainterError(
                f"{path}: not a truth file ({type(error).__name__}: {error}); make the world again"
            ) from None
        return truth

    def scene(self, image_id: int) -> TrueScene:
        """The scene of one picture.

        Raises:
            ChatPainterError: the picture is not of this world.
        """
        try:
            return self.scenes[int(image_id)]
        except KeyError:
            raise ChatPainterError(
                f"{self.path}: no scene with image_id {image_id}; the stores were made from another world: "
                "make the embeddings again"
            ) from None

    def after(self, rounds: int) -> "Truth":
        """What is true after so many rounds, where rounds change the scene; elsewhere nothing else than at the end."""
        then = {image_id: film[min(rounds, len(film) - 1)] for image_id, film in self.films.items()}
        return dataclasses.replace(self, scenes=self.scenes | then)

    def at_start(self) -> "Truth":
        """What is true before anything changes: before the first round, or after those that tell the first state."""
        first = {image_id: film[self.starts.get(image_id, 0)] for image_id, film in self.films.items()}
        return dataclasses.replace(self, scenes=self.scenes | first)

    def colour_labels(self, image_ids: np.ndarray) -> np.ndarray:
        """(n, places) int64: index into `colours` of the object at each place, NOTHING where there is none."""
        return self._labels([self.scene(i) for i in image_ids], "colour", tuple(self.colours))

    def ground_labels(self, image_ids: np.ndarray) -> np.ndarray:
        """(n,) int64: index into `grounds`, NOTHING where nobody has told it yet."""
        names = list(self.grounds)
        grounds = (self.scene(i).ground for i in image_ids)
        return np.array([NOTHING if one is None else names.index(one) for one in grounds], dtype=np.int64)

    def heads(self) -> tuple[Head, ...]:
        """Every question that the truth answers: first class "nothing"/"absent" where an object may be missing."""
        if self.sprites:
            return tuple(Head(name, "sprite", ("absent", "present")) for name in self.sprites)
        heads = [Head("ground", "ground", tuple(self.grounds))]
        for place in self.places:
            for kind, classes in (("colour", tuple(self.colours)), ("shape", self.shapes), ("size", self.sizes)):
                heads.append(Head(f"{place}: {kind}", kind, ("nothing", *classes)))
        return tuple(heads)

    def targets(self, image_ids: np.ndarray) -> np.ndarray:
        """(n, heads) int64: the right class of every head for every picture."""
        return self._targets([self.scene(image_id) for image_id in image_ids])

    @property
    def located(self) -> bool:
        """Whether it is known of every sprite where it stands."""
        objects = [item for scene in self.scenes.values() for item in scene.objects]
        return bool(self.sprites and objects) and all(item.middle for item in objects)

    def middles(self, image_ids: np.ndarray) -> np.ndarray:
        """(n, sprites, 2) float32: x, y of every sprite in fractions of the picture; NaN of those that are absent."""
        column = self._column
        found = np.full((len(image_ids), len(column), 2), np.nan, dtype=np.float32)
        for row, image_id in enumerate(image_ids):
            for item in self.scene(image_id).objects:
                found[row, column[item.name or ""]] = item.middle
        return found

    def targets_by_round(self, image_ids: np.ndarray, rounds: int) -> np.ndarray:
        """(n, rounds + 1, heads) int64: the right class of every head before the first round and after each.

        Where rounds change nothing this is `targets`, after each; after a scene's last round its last one. A ground
        that nobody has told yet is NOTHING.
        """
        found = np.repeat(self.targets(image_ids)[:, None], rounds + 1, axis=1)
        for row, image_id in enumerate(image_ids):
            if film := self.films.get(int(image_id)):
                states = self._targets(film)[: rounds + 1]
                found[row, : len(states)] = states
        return found

    @property
    def _column(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.sprites)}

    def _targets(self, scenes: Sequence[TrueScene]) -> np.ndarray:
        """(scenes, heads) int64."""
        if self.sprites:
            column = self._column
            present = np.zeros((len(scenes), len(column)), dtype=np.int64)
            for row, one in enumerate(scenes):
                present[row, [column[item.name or ""] for item in one.objects]] = 1
            return present
        grounds = list(self.grounds)
        labels = [[grounds.index(one.ground) if one.ground in grounds else NOTHING for one in scenes]]
        per_place = [
            self._labels(scenes, kind, classes) + 1
            for kind, classes in (("colour", tuple(self.colours)), ("shape", self.shapes), ("size", self.sizes))
        ]
        return np.concatenate([np.array(labels).T, np.stack(per_place, axis=2).reshape(len(scenes), -1)], axis=1)

    def _labels(self, scenes: Sequence[TrueScene], kind: str, classes: tuple[str, ...]) -> np.ndarray:
        labels = np.full((len(scenes), len(self.places)), NOTHING, dtype=np.int64)
        place_of = {name: i for i, name in enumerate(self.places)}
        class_of = {name: i for i, name in enumerate(classes)}
        for row, scene in enumerate(scenes):
            for item in scene.objects:
                labels[row, place_of[item.place or ""]] = class_of[getattr(item, kind)]
        return labels


def _parse(path: Path, sha256: str, values: dict[str, Any]) -> Truth:
    world = values["world"]
    places = {
        name: Place((float(place["centre"][0]), float(place["centre"][1])), float(place["half"]))
        for name, place in world.get("places", {}).items()
    }
    colours = {name: _rgb(value) for name, value in world.get("colours", {}).items()}
    grounds = {name: _rgb(value) for name, value in world.get("grounds", {}).items()}
    shapes, sizes = tuple(world.get("shapes", ())), tuple(world.get("sizes", ()))
    sprites = () if places else tuple(world["sprites"])
    canvas = world.get("canvas")
    known: dict[str, Collection[str]] = {"place": places, "colour": colours, "shape": shapes, "size": sizes}
    scenes: dict[int, TrueScene] = {}
    words: dict[int, Mapping[str, Any]] = {}
    films: dict[int, tuple[TrueScene, ...]] = {}
    starts: dict[int, int] = {}

    def scene(image_id: int, entry: Mapping[str, Any], untold: bool = False) -> TrueScene:
        objects = []
        for item in entry["objects"]:
            name = item.get("sprite")
            if sprites and name not in sprites:
                raise ValueError(f"scene {image_id}: sprite {name!r} is not of this world")
            for key, allowed in known.items():
                if not sprites and item[key] not in allowed:
                    raise ValueError(f"scene {image_id}: {key} {item[key]!r} is not of this world")
            radius = item.get("radius")
            objects.append(
                Object(
                    name,
                    item.get("place"),
                    item.get("colour"),
                    item.get("shape"),
                    item.get("size"),
                    None if radius is None else float(radius),
                    _middle(item, canvas) if sprites else None,
                )
            )
        if places and len({item.place for item in objects}) != len(objects):
            raise ValueError(f"scene {image_id}: two objects at one place")
        ground = entry.get("ground")
        if grounds and ground not in grounds and not (untold and ground is None):
            raise ValueError(f"scene {image_id}: ground {ground!r} is not of this world")
        return TrueScene(image_id, ground, tuple(objects))

    for entry in values["scenes"]:
        image_id = int(entry["image_id"])
        if "captions" in entry and "rounds" in entry:
            words[image_id] = {"captions": entry["captions"], "rounds": entry["rounds"]}
        scenes[image_id] = scene(image_id, entry)
        if places and "first" in entry:
            states = (entry["first"], *entry["rounds"])
            films[image_id] = tuple(scene(image_id, state, untold=True) for state in states)
            if start := int(entry.get("start", 0)):
                starts[image_id] = min(start, len(states) - 1)
        if sprites and "turns" in entry:
            canvases = [[], *entry["turns"]]
            films[image_id] = tuple(scene(image_id, {"objects": one}) for one in canvases)
            words[image_id] = _drawn(canvases)
    ceilings = {
        score: {told: float(value) for told, value in best.items()} for score, best in world.get("ceilings", {}).items()
    }
    tell = bool(world.get("captions_tell", True))
    order = list(places)
    slots = tuple(tuple(map(order.index, slot)) for slot in world.get("slots", [[place] for place in order]))
    return Truth(
        path,
        sha256,
        places,
        colours,
        grounds,
        shapes,
        sizes,
        sprites,
        {name: str(world.get("kind_of", {}).get(name, name)) for name in sprites},
        ceilings,
        scenes,
        words,
        films,
        tell,
        starts,
        slots,
    )


def _middle(item: Mapping[str, Any], canvas: Sequence[float] | None) -> tuple[float, float] | None:
    if canvas is None or "x" not in item or "y" not in item:
        return None
    width, height = canvas
    return float(item["x"]) / width, float(item["y"]) / height


def _drawn(canvases: Sequence[Sequence[Mapping[str, Any]]]) -> Mapping[str, Any]:
    """What turns tell by what the drawer did after them: which clip-arts came or went, and which were touched at all.

    The caption is the first message again, and tells nothing of its own.
    """
    states = [{item["sprite"]: item for item in canvas} for canvas in canvases]
    rounds = []
    for before, after in itertools.pairwise(states):
        touched = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        changed = [name for name in touched if (name in before) != (name in after)]
        rounds.append({"tells": changed, "speaks_of": touched})
    return {"captions": [{"tells": []}], "rounds": rounds}


def _rgb(value: Any) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in value)
    return red, green, blue
