"""Places told by where they lie to what has been told: "left of the red square", "between them", "below it"."""

import itertools
import random
from collections.abc import Sequence

from pipeline.corpora.sample_words import (
    AnnotatedRound,
    any_round,
    count_round,
    ground_any_round,
    ground_round,
    name,
    told_round,
)
from pipeline.corpora.sample_world import Grid, Scene, Thing

# Columns and rows from what is named to the place that is meant.
WAYS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


def rounds(scene: Scene, draw: random.Random, number: int) -> list[AnnotatedRound]:
    """`number` rounds of question and answer from which the whole scene can be read, in the order in which they stand.

    The first place is named by itself, and so is every place that does not lie beside, or between, objects told so far;
    the others by those. An object is named by its size, colour and shape where no other of the scene has the same, and
    is "it" right after it was told.
    """
    left = list(scene.grid.places)
    order = ["place"] * len(left) + ["ground"] + ["aside"] * (number - 1 - len(left))
    draw.shuffle(order)
    talk: list[AnnotatedRound] = []
    asked: set[str] = set()
    told: list[Thing] = []  # the last one last
    recent: list[Thing] = []  # those of the rounds just before, without a break
    for what in order:
        if what == "ground":
            talk.append(ground_round(scene, draw))
            recent = []
        elif what == "aside":
            talk.append(_aside(scene, asked, draw))
            recent = []
        else:
            phrases = {place: phrase for place in left if (phrase := where(scene, place, told, recent, draw))}
            place = draw.choice(list(phrases) or left)
            left.remove(place)
            question = draw.choice(("what is {}", "what do you see {}", "what lies {}"))
            talk.append(told_round(scene, place, question.format(phrases.get(place, f"at the {place}")), draw))
            if thing := scene.at(place):
                told.append(thing)
                recent = [*recent[-1:], thing]
            else:
                recent = []
        asked.add(talk[-1].question)
    return talk


def where(scene: Scene, place: str, told: Sequence[Thing], recent: Sequence[Thing], draw: random.Random) -> str | None:
    """One way to say where a place lies by objects that were told; None where there is none.

    Args:
        recent: what "it" (the last) and "them" (the last two) stand for now.
    """
    ways = []
    grid = scene.grid
    for thing in told:
        for way, (right, down) in WAYS.items():
            if grid.neighbour(thing.place, right, down) == place:
                ways += [f"{way} {one}" for one in _names(scene, thing, recent)]
    for a, b in itertools.combinations(told, 2):
        if between(grid, a.place, b.place) == place:
            if len(recent) == 2 and {a, b} == set(recent):
                ways.append("between them")
            ways += [f"between {x} and {y}" for x in _names(scene, a, ()) for y in _names(scene, b, ())]
    return draw.choice(ways) if ways else None


def between(grid: Grid, a: str, b: str) -> str | None:
    """The place in the middle of two that lie two columns or rows apart, along a row, a column or a diagonal."""
    for right, down in itertools.product((-1, 0, 1), repeat=2):
        middle = grid.neighbour(a, right, down)
        if (right or down) and middle and grid.neighbour(middle, right, down) == b:
            return middle
    return None


def unique(scene: Scene, thing: Thing) -> bool:
    """Is there no other object of the same size, colour and shape?"""
    return sum(name(other) == name(thing) for other in scene.things) == 1


def _names(scene: Scene, thing: Thing, recent: Sequence[Thing]) -> list[str]:
    names = [f"the {name(thing, article=False)}"] if unique(scene, thing) else []
    return [*names, "it"] if recent and recent[-1] == thing else names


def _aside(scene: Scene, asked: set[str], draw: random.Random) -> AnnotatedRound:
    """Something else that people ask, not asked before; there is always another kind of object to ask for."""
    while True:
        said = draw.choice((count_round, any_round, any_round, ground_any_round))(scene, draw)
        if said.question not in asked:
            return said
