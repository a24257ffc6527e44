"""The sample world: coloured shapes on 2 x 2 places of some ground, with people who talk about them.

Made on the spot from a seed and written as COCO and VisDial write theirs, so that what reads those reads this. A
caption names one object and how many there are; the ten rounds tell the rest. The truth of every scene is kept
beside it, so that a painted picture can be scored exactly and what a caption alone can tell is computed, not guessed.
"""

import math
import random
from dataclasses import dataclass
from fractions import Fraction

PLACES = {
    "top left": (0.28, 0.28),
    "top right": (0.72, 0.28),
    "bottom left": (0.28, 0.72),
    "bottom right": (0.72, 0.72),
}
COLOURS = {
    "red": (220, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 225, 50),
    "green": (40, 160, 70),
    "blue": (40, 85, 220),
    "purple": (145, 50, 180),
}
GROUNDS = {"sand": (212, 188, 146), "stone": (126, 128, 132), "earth": (88, 62, 44), "snow": (232, 238, 244)}
BLANK = "blank"
PAPER = (255, 255, 255)  # what a blank ground looks like
SHAPES = ("circle", "square", "triangle")
# Radius as a fraction of the picture's side; a square's and a triangle's reach follow from it in `outline`.
SIZES = {"small": 0.10, "large": 0.15}
# Objects lie this far from the centre of their place at most, along each axis.
JITTER = 0.02
# The patch round a place's centre, this far to each side, lies on the object wherever it was moved: the centre is at
# most (JITTER + HALF) * sqrt(2) = 0.052 from a corner of the patch, and the smallest object, a small triangle, still
# reaches 0.065 in every direction; the rest is for the blur of resizing to 64 pixels.
HALF = 0.017


@dataclass(frozen=True)
class WorldSettings:
    """How many scenes, how large, from which seed, with how many objects (`world:` of params.yaml)."""

    seed: int = 7
    train: int = 2000
    val: int = 500
    image_size: int = 256
    objects: tuple[int, int] = (1, 4)  # the least and the most; every number between is as likely
    turn_pictures: bool = False  # also draw what is told after every round

    def __post_init__(self) -> None:
        if self.train < 1 or self.val < 1:
            raise ValueError("train and val must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, found {self.seed}")
        if not 32 <= self.image_size <= 2048:
            raise ValueError(f"image_size must be between 32 and 2048, found {self.image_size}")
        least, most = self.objects
        if not 1 <= least <= most <= len(PLACES):
            raise ValueError(f"objects must be two numbers from 1 to {len(PLACES)}, the least and the most")


@dataclass(frozen=True)
class Thing:
    """One object; `centre` and `radius` are fractions of the picture's side."""

    place: str
    colour: str
    shape: str
    size: str
    centre: tuple[float, float]

    @property
    def radius(self) -> float:
        return SIZES[self.size]


@dataclass(frozen=True)
class Scene:
    """One picture's truth; `things` has at most one object a place, in the order of `PLACES`."""

    ground: str  # of `GROUNDS`, or `BLANK` where nobody has told it yet
    things: tuple[Thing, ...]

    def at(self, place: str) -> Thing | None:
        return next((thing for thing in self.things if thing.place == place), None)


def scene(draw: random.Random, objects: tuple[int, int] = (1, 4)) -> Scene:
    """A scene: how many objects (of the least and the most), where and what each is, all uniform and independent."""
    where = draw.sample(list(PLACES), draw.randint(*objects))
    things = tuple(
        Thing(
            place,
            draw.choice(list(COLOURS)),
            draw.choice(SHAPES),
            draw.choice(list(SIZES)),
            (round(x + draw.uniform(-JITTER, JITTER), 4), round(y + draw.uniform(-JITTER, JITTER), 4)),
        )
        for place, (x, y) in PLACES.items()
        if place in where
    )
    return Scene(draw.choice(list(GROUNDS)), things)


def outline(thing: Thing) -> list[tuple[float, float]]:
    """The corners of a square or triangle, or of a 32-gon round a circle, in fractions of the picture's side."""
    x, y = thing.centre
    if thing.shape == "square":
        reach = 0.9 * thing.radius
        return [(x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)]
    corners, reach = (3, 1.3 * thing.radius) if thing.shape == "triangle" else (32, thing.radius)
    angles = [2 * math.pi * corner / corners - math.pi / 2 for corner in range(corners)]
    return [(x + reach * math.cos(angle), y + reach * math.sin(angle)) for angle in angles]


def ceilings(objects: tuple[int, int] = (1, 4)) -> dict[str, dict[str, float]]:
    """The best that a guesser can do who sees nothing (chance), one caption, or the dialogue.

    `colour_accuracy`, `shape_accuracy`, `size_accuracy`: of all occupied places, the share whose colour (shape, size)
    is painted right. `ground_accuracy`: of all scenes. `presence_accuracy`: of all places, the share rightly painted
    or left empty. A caption names one of the n objects in full, and n; n is uniform over `objects`, both ends included.
    """
    counts = [Fraction(n) for n in range(objects[0], objects[1] + 1)]
    mean = sum(counts) / len(counts)
    places = len(PLACES)

    def attribute(kinds: int) -> dict[str, float]:
        told = sum(1 + (n - 1) / kinds for n in counts) / len(counts) / mean
        return {"chance": 1 / kinds, "caption": float(told), "dialogue": 1.0}

    # Of the places that the caption does not name, n - 1 are occupied: call all of them occupied, or none.
    presence = sum(1 + max(n - 1, places - n) for n in counts) / len(counts) / places
    return {
        "colour_accuracy": attribute(len(COLOURS)),
        "shape_accuracy": attribute(len(SHAPES)),
        "size_accuracy": attribute(len(SIZES)),
        "ground_accuracy": {"chance": 1 / len(GROUNDS), "caption": 1 / len(GROUNDS), "dialogue": 1.0},
        "presence_accuracy": {
            "chance": float(max(mean, places - mean) / places),
            "caption": float(presence),
            "dialogue": 1.0,
        },
    }
