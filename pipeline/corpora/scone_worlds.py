"""SCONE's three worlds as pictures: people in a row, beakers of coloured liquids, figures in a row.

A state is a tuple of slots, as SCONE writes them: ten people's shirt and hat (`ry`, `r_`, `__`), seven beakers'
contents from the bottom up (`gg`, `_` where empty), five figures in order (`A`, "" where there is none any more). Every
coloured thing has a place of its own, so that the state can be read back from the pixels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from pipeline.corpora.sample_world import COLOURS
from store.errors import ChatPainterError

State = tuple[str, ...]
BROWN = (110, 66, 30)
LETTERS = {"r": "red", "o": "orange", "y": "yellow", "g": "green", "b": "blue", "p": "purple"}
PAPER = (236, 238, 240)
INK = (88, 92, 98)
SKIN = (214, 190, 174)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Things are drawn this many times larger and averaged down, for smooth edges.
FINER = 4
# A picture is read in the middle of each place, this far to each side as a share of the picture's side.
PATCH = 0.012


@dataclass(frozen=True)
class SconeWorld:
    """One of the three.

    Attributes:
        slots: how many a state has.
        places: centre (x, y) of every coloured thing, as shares of the picture's side, by name.
        colours: what can be there.
        half: of a thing, width and height.
        radius: a thing is read as there where 1.1 radius² of the picture has its colour, near its place.
    """

    name: str
    slots: int
    pattern: re.Pattern[str]
    places: dict[str, tuple[float, float]]
    colours: dict[str, tuple[int, int, int]]
    empty: str
    half: tuple[float, float]
    radius: float

    @cached_property
    def thing(self) -> dict[str, str]:
        """What can be at a place, by its name ("shirt")."""
        return {place: place.split()[2 if self.name == "alchemy" else 0] for place in self.places}

    def places_of_slots(self) -> list[list[str]]:
        """The places of every slot: a person's shirt and hat, a beaker's units, a figure."""
        return [[place for place in self.places if place.split()[1] == str(n)] for n in range(1, self.slots + 1)]

    def parse(self, env: str, where: str) -> State:
        """A state as SCONE writes it: `1:ry 2:__ …`.

        Raises:
            ChatPainterError: `where`, and what does not fit.
        """
        slots = [self.empty] * self.slots
        for number, part in enumerate(env.split(), 1):
            place, _, value = part.partition(":")
            if place != str(number) or number > self.slots or not self.pattern.fullmatch(value):
                raise ChatPainterError(f"{where}: {part!r:.40} is no slot of {self.name}; {REMEDY}")
            slots[number - 1] = value
        if self.empty and len(env.split()) != self.slots:
            raise ChatPainterError(f"{where}: {len(env.split())} slots where {self.name} has {self.slots}; {REMEDY}")
        return tuple(slots)

    def things(self, state: State) -> dict[str, str]:
        """The colour of every coloured thing, by place."""
        found = {}
        for number, slot in enumerate(state, 1):
            if self.name == "scene":
                for what, letter in zip(("shirt", "hat"), slot):
                    if letter != "_":
                        found[f"{what} {number}"] = LETTERS[letter]
            elif self.name == "alchemy":
                for layer, letter in enumerate(slot.strip("_"), 1):
                    found[f"beaker {number} unit {layer}"] = "brown" if letter == "b" else LETTERS[letter]
            elif slot:
                found[f"figure {number}"] = slot
        return found

    def state(self, things: Mapping[str, str]) -> State:
        """The state whose `things` these are."""
        letter = {name: key for key, name in LETTERS.items()} | {"brown": "b"}
        if self.name == "tangrams":
            return tuple(things.get(f"figure {n}", "") for n in range(1, self.slots + 1))
        if self.name == "scene":
            return tuple(
                "".join(letter[things[f"{what} {n}"]] if f"{what} {n}" in things else "_" for what in ("shirt", "hat"))
                for n in range(1, self.slots + 1)
            )
        layers = ([things.get(f"beaker {n} unit {k}") for k in range(1, MOST_UNITS + 1)] for n in range(1, 8))
        return tuple("".join(letter[unit] for unit in units if unit) or "_" for units in layers)

    def picture(self, state: State, side: int) -> Image.Image:
        """The picture of a state, (side, side) RGB."""
        image = Image.new("RGB", (side * FINER, side * FINER), PAPER)
        pen = ImageDraw.Draw(image)
        full = side * FINER
        _BACKGROUNDS[self.name](self, pen, full, self.things(state))
        for place, colour in self.things(state).items():
            x, y = self.places[place]
            _draw(pen, self, place, colour, x, y, full)
        return image.reduce(FINER)

    def read(self, picture: Image.Image) -> State:
        """The state that a picture shows: at every place the nearest colour, or nothing."""
        pixels = np.asarray(picture, dtype=float)
        side = len(pixels)
        names = [*self.colours, None, None, None]
        palette = np.array([*self.colours.values(), PAPER, INK, SKIN], dtype=float)
        things = {}
        for place, (x, y) in self.places.items():
            (left, right), (top, bottom) = (
                (int((c - PATCH) * side), max(int((c - PATCH) * side) + 1, round((c + PATCH) * side))) for c in (x, y)
            )
            seen = pixels[top:bottom, left:right].reshape(-1, 3).mean(0)
            if name := names[int(((palette - seen) ** 2).sum(1).argmin())]:
                things[place] = name
        return self.state(things)

    def facts(self, state: State) -> dict[int, str]:
        """A state told in words, a sentence a slot: people and figures that are there, and every beaker."""
        said = {}
        for number, slot in enumerate(state):
            where = f"the {ORDINALS[number]}"
            if self.name == "scene" and slot != "__":
                hat = f"a {LETTERS[slot[1]]} hat" if slot[1] != "_" else "no hat"
                said[number] = f"there is a person in a {LETTERS[slot[0]]} shirt and {hat} at {where} place"
            elif self.name == "alchemy":
                said[number] = f"{where} beaker {_contents(slot)}"
            elif self.name == "tangrams" and slot:
                said[number] = f"{where} figure is {slot.lower()}"
        return said

    def caption(self, state: State) -> str:
        """What a picture of the world is called; it tells nothing but how many there are."""
        count = COUNTS[sum(slot not in ("__", "_", "") for slot in state)]
        return {
            "scene": f"a row of ten places with {count} taken",
            "alchemy": f"a row of seven beakers with {count} filled",
            "tangrams": f"a row of five figures with {count} there",
        }[self.name]


REMEDY = "take the file again from github.com/lil-lab/scone"
MOST_UNITS = 4


def _contents(slot: str) -> str:
    """What a beaker holds, from the bottom up: "holds two green units and one red"."""
    parts = [(len(run[0]), run[1]) for run in re.findall(r"((\w)\2*)", slot.strip("_"))]
    if not parts:
        return "is empty"
    names = [f"{COUNTS[n]} {'brown' if letter == 'b' else LETTERS[letter]}" for n, letter in parts]
    return "holds " + " then ".join(names)


# Of a picture's side: it is drawn at 38 pixels or a multiple, of which training at 32 or a multiple keeps the middle.
# All stand on whole ones, an even number apart, so that what moves looks alike where it was and where it is.
PIXEL = 1 / 38


def _row(count: int, pitch: int, y: int, what: str) -> dict[str, tuple[float, float]]:
    """Side by side in the middle, `pitch` pixels apart, y pixels from the top."""
    first = 19 - (count - 1) * pitch // 2
    return {f"{what} {n + 1}": (round((first + n * pitch) * PIXEL, 4), round(y * PIXEL, 4)) for n in range(count)}


def _beaker_units(count: int) -> dict[str, tuple[float, float]]:
    """A beaker is an eighth of the cropped picture wide, and a unit as high: 4 of its 32 pixels, 8 of its 64."""
    return {
        f"beaker {n + 1} unit {layer + 1}": (round((5 + 4 * n) * PIXEL, 4), round((25 - 4 * layer) * PIXEL, 4))
        for n in range(count)
        for layer in range(MOST_UNITS)
    }


FIGURES = {
    "A": COLOURS["red"],
    "B": COLOURS["yellow"],
    "C": COLOURS["green"],
    "D": COLOURS["blue"],
    "E": COLOURS["purple"],
}
WORLDS = {
    "scene": SconeWorld(
        "scene",
        slots=10,
        pattern=re.compile("__|[roygbp][roygbp_]"),
        places=_row(10, 2, 24, "shirt") | _row(10, 2, 15, "hat"),
        colours=COLOURS,
        empty="__",
        half=(0.025, 3 * PIXEL),
        radius=0.035,  # 2 of the 4 pixels in the middle of a shirt
    ),
    "alchemy": SconeWorld(
        "alchemy",
        slots=7,
        pattern=re.compile("_|[roygbp]{1,4}"),
        places=_beaker_units(7),
        colours={name: rgb for name, rgb in COLOURS.items() if name != "blue"} | {"brown": BROWN},
        empty="_",
        half=(0.04, 0.0526),
        radius=0.04,
    ),
    "tangrams": SconeWorld(
        "tangrams",
        slots=5,
        pattern=re.compile("[A-E]"),
        places=_row(5, 6, 19, "figure"),
        colours=FIGURES,
        empty="",
        half=(0.068, 0.068),
        radius=0.04,
    ),
}


def _bodies(world: SconeWorld, pen: ImageDraw.ImageDraw, full: int, things: Mapping[str, str]) -> None:
    pen.rectangle([0, _at(30 * PIXEL, full), full, full], fill=INK)
    for place in things:
        if place.startswith("shirt"):
            x, y = world.places[place]
            pen.ellipse(_box(x - 0.021, 17 * PIXEL, x + 0.021, 21 * PIXEL, full), fill=SKIN)
            pen.rectangle(_box(x - 0.018, y, x + 0.018, 31 * PIXEL, full), fill=SKIN)


def _beakers(world: SconeWorld, pen: ImageDraw.ImageDraw, full: int, things: Mapping[str, str]) -> None:
    pen.rectangle([0, 0.735 * full, full, full], fill=INK)
    bottom = world.places["beaker 1 unit 1"][1] + world.half[1]
    for n in range(1, world.slots + 1):
        x = world.places[f"beaker {n} unit 1"][0]
        glass = [(x - 0.046, 0.24), (x - 0.046, bottom + 0.006), (x + 0.046, bottom + 0.006), (x + 0.046, 0.24)]
        pen.line([(_at(a, full), _at(b, full)) for a, b in glass], fill=INK, width=max(1, full // 100))


def _figures(world: SconeWorld, pen: ImageDraw.ImageDraw, full: int, things: Mapping[str, str]) -> None:
    pen.rectangle([0, 0.62 * full, full, full], fill=INK)


_BACKGROUNDS = {"scene": _bodies, "alchemy": _beakers, "tangrams": _figures}
# Outlines of the five figures on a square from -1 to 1, all of them round the middle.
_OUTLINES = {
    "A": [(-0.2, -1), (0.5, -0.4), (0.5, 0.3), (1, 1), (-1, 1), (-0.5, 0.2)],
    "B": [(-1, -0.6), (0, -1), (1, -0.6), (0.6, 0), (0.6, 1), (-0.6, 1), (-0.6, 0)],
    "C": [(-1, -0.2), (-0.2, -0.6), (0.3, -1), (1, 0), (0.4, 0.5), (0.4, 1), (-0.6, 1), (-0.5, 0.4)],
    "D": [(0, -1), (1, -0.1), (0.5, 0.4), (0.7, 1), (-0.7, 1), (-0.5, 0.4), (-1, -0.1)],
    "E": [(-1, -1), (-0.2, -0.5), (0.4, -0.9), (0.9, -0.2), (0.5, 1), (-0.8, 1), (-0.5, 0.1)],
}


def _draw(pen: ImageDraw.ImageDraw, world: SconeWorld, place: str, colour: str, x: float, y: float, full: int) -> None:
    half_width, half_height = world.half
    rgb = world.colours[colour]
    if world.name == "tangrams":
        corners = [(_at(x + a * half_width, full), _at(y + b * half_height * 1.7, full)) for a, b in _OUTLINES[colour]]
        pen.polygon(corners, fill=rgb)
        return
    if place.startswith("hat"):
        half_height = 2 * PIXEL
        pen.rectangle(_box(x - half_width, y - PIXEL, x + half_width, y + half_height, full), fill=rgb)
        half_width = 0.016
    pen.rectangle(_box(x - half_width, y - half_height, x + half_width, y + half_height, full), fill=rgb)


def _box(left: float, top: float, right: float, bottom: float, full: int) -> tuple[int, int, int, int]:
    """Of shares of the side; the last pixel of a box is filled, too."""
    return _at(left, full), _at(top, full), _at(right, full) - 1, _at(bottom, full) - 1


def _at(share: float, full: int) -> int:
    return round(share * full)
