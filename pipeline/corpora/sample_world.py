"""The sample world: coloured shapes on 2 x 2 places (or 3 x 3) of some ground, with people who talk about them.

Made on the spot from a seed and written as COCO and VisDial write theirs, so that what reads those reads this. A
caption names one object and how many there are; the ten rounds tell the rest. The truth of every scene is kept
beside it, so that a painted picture can be scored exactly and what a caption alone can tell is computed, not guessed.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

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
class Grid:
    """Where objects lie, reading order; `scale` multiplies their sizes, `jitter` and `half` are as above."""

    columns: int
    places: dict[str, tuple[float, float]]
    scale: float = 1.0
    jitter: float = JITTER
    half: float = HALF

    def neighbour(self, place: str, right: int, down: int) -> str | None:
        """The place so many columns and rows further; None outside."""
        names = list(self.places)
        row, column = divmod(names.index(place), self.columns)
        row, column = row + down, column + right
        inside = 0 <= column < self.columns and 0 <= row < len(names) // self.columns
        return names[row * self.columns + column] if inside else None


NINE = (
    "top left", "top middle", "top right",
    "middle left", "centre", "middle right",
    "bottom left", "bottom middle", "bottom right",
)  # fmt: skip
FOUR_PLACES = Grid(2, PLACES)
# Two large triangles side by side still have a gap; the smallest object reaches 0.039 in every direction.
NINE_PLACES = Grid(
    3, {place: (0.24 + 0.26 * (n % 3), 0.24 + 0.26 * (n // 3)) for n, place in enumerate(NINE)}, 0.6, 0.01, 0.011
)
GRIDS = {"2x2": FOUR_PLACES, "3x3": NINE_PLACES, "free": NINE_PLACES}
ROUNDS = {"2x2": 10, "3x3": 16, "free": 16}  # of a dialogue, where nobody asks for another number


@dataclass(frozen=True)
class WorldSettings:
    """How many scenes, how large, from which seed, with how many objects (`world:` of params.yaml)."""

    seed: int = 7
    train: int = 2000
    val: int = 500
    image_size: int = 256
    objects: tuple[int, int] = (1, 4)  # the least and the most; every number between is as likely
    turn_pictures: bool = False  # also draw what is told after every round
    places: Literal["2x2", "3x3", "free"] = "2x2"  # free: nine, told by where they lie to each other
    rounds: int | None = None  # of a dialogue; 10, of nine places 16
    edits: float = 0.0  # share of rounds that change what earlier ones said; 0: people talk about a finished scene

    @property
    def grid(self) -> Grid:
        """Where objects lie."""
        return GRIDS[self.places]

    @property
    def number(self) -> int:
        """Rounds of a dialogue."""
        return self.rounds or ROUNDS[self.places]

    def __post_init__(self) -> None:
        if self.train < 1 or self.val < 1:
            raise ValueError("train and val must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, found {self.seed}")
        if not 32 <= self.image_size <= 2048:
            raise ValueError(f"image_size must be between 32 and 2048, found {self.image_size}")
        least, most = self.objects
        places = len(self.grid.places)
        if not 1 <= least <= most <= places:
            raise ValueError(f"objects must be two numbers from 1 to {places}, the least and the most")
        if not 0 <= self.edits < 1:
            raise ValueError(f"edits must be a share from 0 to below 1, found {self.edits}")
        # Every place, the ground, and two objects in three rounds each; or as many objects as must be, and the ground.
        fewest = least + 1 if self.edits else max(10, places + 5)
        if not fewest <= self.number <= 99:
            raise ValueError(f"rounds must be between {fewest} and 99, found {self.rounds}")


@dataclass(frozen=True)
class Thing:
    """One object; `centre` and `radius` are fractions of the picture's side."""

    place: str
    colour: str
    shape: str
    size: str
    centre: tuple[float, float]
    scale: float = 1.0

    @property
    def radius(self) -> float:
        return round(SIZES[self.size] * self.scale, 4)


@dataclass(frozen=True)
class Scene:
    """One picture's truth; `things` has at most one object a place, in the order of the grid's places."""

    ground: str  # of `GROUNDS`, or `BLANK` where nobody has told it yet
    things: tuple[Thing, ...]
    grid: Grid = FOUR_PLACES

    def at(self, place: str) -> Thing | None:
        return next((thing for thing in self.things if thing.place == place), None)


def scene(draw: random.Random, objects: tuple[int, int] = (1, 4), grid: Grid = FOUR_PLACES) -> Scene:
    """A scene: how many objects (of the least and the most), where and what each is, all uniform and independent."""
    where = draw.sample(list(grid.places), draw.randint(*objects))
    things = tuple(
        Thing(
            place,
            draw.choice(list(COLOURS)),
            draw.choice(SHAPES),
            draw.choice(list(SIZES)),
            jittered(x, y, grid, draw),
            grid.scale,
        )
        for place, (x, y) in grid.places.items()
        if place in where
    )
    return Scene(draw.choice(list(GROUNDS)), things, grid)


def jittered(x: float, y: float, grid: Grid, draw: random.Random) -> tuple[float, float]:
    """A centre near (x, y), the centre of a place."""
    return (
        round(x + draw.uniform(-grid.jitter, grid.jitter), 4),
        round(y + draw.uniform(-grid.jitter, grid.jitter), 4),
    )


def outline(thing: Thing) -> list[tuple[float, float]]:
    """The corners of a square or triangle, or of a 32-gon round a circle, in fractions of the picture's side."""
    x, y = thing.centre
    if thing.shape == "square":
        reach = 0.9 * thing.radius
        return [(x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)]
    corners, reach = (3, 1.3 * thing.radius) if thing.shape == "triangle" else (32, thing.radius)
    angles = [2 * math.pi * corner / corners - math.pi / 2 for corner in range(corners)]
    return [(x + reach * math.cos(angle), y + reach * math.sin(angle)) for angle in angles]


def ceilings(objects: tuple[int, int] = (1, 4), places: int = 4) -> dict[str, dict[str, float]]:
    """The best that a guesser can do who sees nothing (chance), one caption, or the dialogue.

    `colour_accuracy`, `shape_accuracy`, `size_accuracy`: of all occupied places, the share whose colour (shape, size)
    is painted right. `ground_accuracy`: of all scenes. `presence_accuracy`: of all places, the share rightly painted
    or left empty. A caption names one of the n objects in full, and n; n is uniform over `objects`, both ends included.
    """
    counts = [Fraction(n) for n in range(objects[0], objects[1] + 1)]
    mean = sum(counts) / len(counts)

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


def untold(counts: Sequence[int], places: int) -> dict[str, dict[str, float]]:
    """The same where captions tell nothing and the scenes, of so many objects each, come of what the rounds do."""
    mean = sum(counts) / len(counts)
    chances = {
        "colour_accuracy": 1 / len(COLOURS),
        "shape_accuracy": 1 / len(SHAPES),
        "size_accuracy": 1 / len(SIZES),
        "ground_accuracy": 1 / len(GROUNDS),
        "presence_accuracy": max(mean, places - mean) / places,
    }
    return {score: {"chance": best, "caption": best, "dialogue": 1.0} for score, best in chances.items()}
