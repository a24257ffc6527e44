"""What people say in the sample world: captions that tell little and ten rounds that tell the rest."""

import random
from typing import NamedTuple

from pipeline.corpora.sample_world import COLOURS, GROUNDS, PLACES, SHAPES, SIZES, Scene, Thing

COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class AnnotatedRound(NamedTuple):
    """One round, and what it is about.

    `tells` names the facts that it states outright, as the truth's questions are named ("ground", "top left: colour";
    an empty place has no colour, no shape and no size); what only follows from several rounds together is not among
    them. `speaks_of` names the places, or the ground, that the picture may change for: all places where the talk is of
    objects wherever they are.
    """

    question: str
    answer: str
    tells: tuple[str, ...] = ()
    speaks_of: tuple[str, ...] = tuple(PLACES)


def facts(*places: str) -> tuple[str, ...]:
    """The facts of these places, all of them."""
    return tuple(f"{place}: {kind}" for place in places for kind in ("colour", "shape", "size"))


def name(thing: Thing, article: bool = True) -> str:
    """What people call an object: "a small red circle"."""
    return f"{'a ' if article else ''}{thing.size} {thing.colour} {thing.shape}"


def captions(scene: Scene, draw: random.Random, number: int = 5) -> list[str]:
    """Captions that each name one object in full and how many there are, and nothing of the others or the ground."""
    return [_caption(draw.choice(scene.things), len(scene.things), draw) for _ in range(number)]


def _caption(thing: Thing, count: int, draw: random.Random) -> str:
    what, where = name(thing), f"{draw.choice(('at', 'in'))} the {thing.place}"
    others = COUNTS[count - 2] if count > 1 else ""
    plural = "s" if count > 2 else ""
    if count == 1:
        return draw.choice(
            (
                f"{what} {where} and nothing else",
                f"there is only {what} {where}",
                f"one object, {what} {where}",
                f"a picture of {what} alone {where}",
            )
        )
    return draw.choice(
        (
            f"{what} {where} and {others} other object{plural}",
            f"{COUNTS[count - 1]} objects, one of them {what} {where}",
            f"there is {what} {where} with {others} other object{plural}",
            f"a picture of {COUNTS[count - 1]} objects with {what} {where}",
        )
    )


def caption_tells(scene: Scene, caption: str) -> tuple[str, ...]:
    """The facts that one of the scene's captions states: of the object that it names; of every place if no other is."""
    if len(scene.things) == 1:
        return facts(*scene.grid.places)
    return facts(*(place for place in scene.grid.places if place in caption))


def dialogue(scene: Scene, draw: random.Random, number: int = 10) -> list[tuple[str, str]]:
    """The words of `rounds`: (question, answer) each."""
    return [(said.question, said.answer) for said in rounds(scene, draw, number)]


def rounds(scene: Scene, draw: random.Random, number: int = 10) -> list[AnnotatedRound]:
    """`number` rounds of question and answer, shuffled, from which the whole scene can be read; at least 10, and 14 of
    nine places.

    Every place is told in one round, or an object in three (color, shape, size); one round tells the ground; people
    also ask what is answered by yes, no or a count. Every answer is true. Questions carry no question mark.
    """
    talk = [ground_round(scene, draw)]
    split = draw.choices((0, 1, 2), (5, 3, 2))[0]
    splits = {thing.place for thing in draw.sample(scene.things, min(split, len(scene.things)))}
    for place in scene.grid.places:
        talk += _split_rounds(scene, place, draw) if place in splits else [_place_round(scene, place, draw)]
    asked = {said.question for said in talk}
    while len(talk) < number:
        said = draw.choice((count_round, any_round, any_round, _place_any_round, ground_any_round))(scene, draw)
        if said.question not in asked:
            asked.add(said.question)
            talk.append(said)
    draw.shuffle(talk)
    return talk


def _place_round(scene: Scene, place: str, draw: random.Random) -> AnnotatedRound:
    question = draw.choice(
        (f"what is at the {place}", f"what do you see at the {place}", f"what is in the {_corner(place)}")
    )
    return told_round(scene, place, question, draw)


def told_round(scene: Scene, place: str, question: str, draw: random.Random) -> AnnotatedRound:
    """The round that answers a question for all that is at a place."""
    thing = scene.at(place)
    if thing is None:
        return AnnotatedRound(
            question, draw.choice(("nothing", "nothing is there", "it is empty")), facts(place), (place,)
        )
    answer = draw.choice((name(thing), name(thing, article=False), f"there is {name(thing)}"))
    return AnnotatedRound(question, answer, facts(place), (place,))


def _corner(place: str) -> str:
    """Of nine places four are corners."""
    return f"{place} corner" if len(place.split()) == 2 and "middle" not in place else f"{place} of the picture"


def _split_rounds(scene: Scene, place: str, draw: random.Random) -> list[AnnotatedRound]:
    thing = scene.at(place)
    assert thing is not None
    color = draw.choice((f"what color is the object at the {place}", f"what color is the one in the {place}"))
    shape = draw.choice((f"what shape is the object at the {place}", f"what shape is the one in the {place}"))
    size = draw.choice((f"how big is the object at the {place}", f"is the one in the {place} small or large"))
    return [
        AnnotatedRound(color, draw.choice((thing.colour, f"it is {thing.colour}")), (f"{place}: colour",), (place,)),
        AnnotatedRound(
            shape,
            draw.choice((thing.shape, f"a {thing.shape}", f"it is a {thing.shape}")),
            (f"{place}: shape",),
            (place,),
        ),
        AnnotatedRound(size, draw.choice((thing.size, f"it is {thing.size}")), (f"{place}: size",), (place,)),
    ]


def ground_round(scene: Scene, draw: random.Random) -> AnnotatedRound:
    question = draw.choice(("what is the ground like", "what are they lying on", "what is the background"))
    return AnnotatedRound(question, draw.choice((scene.ground, f"it is {scene.ground}")), ("ground",), ("ground",))


def count_round(scene: Scene, draw: random.Random) -> AnnotatedRound:
    question = draw.choice(("how many objects are there", "how many do you see"))
    count = COUNTS[len(scene.things) - 1]
    answer = draw.choice((count, f"i see {count}", "just one" if count == "one" else f"there are {count}"))
    return AnnotatedRound(question, answer, speaks_of=tuple(scene.grid.places))


def any_round(scene: Scene, draw: random.Random) -> AnnotatedRound:
    """Is there some kind of object? Half the time one that is there, as people ask about what they expect."""
    like = draw.choice(scene.things) if draw.random() < 0.5 else None
    colour = like.colour if like else draw.choice(list(COLOURS))
    shape = like.shape if like else draw.choice(SHAPES)
    size = like.size if like else draw.choice(list(SIZES))
    question, there = draw.choice(
        (
            (f"is there a {colour} {shape}", any((t.colour, t.shape) == (colour, shape) for t in scene.things)),
            (f"is there a {size} {shape}", any((t.size, t.shape) == (size, shape) for t in scene.things)),
            (f"are there any {shape}s", any(t.shape == shape for t in scene.things)),
            (f"is anything {colour}", any(t.colour == colour for t in scene.things)),
        )
    )
    return AnnotatedRound(question, _yes_or_no(there, draw), speaks_of=tuple(scene.grid.places))


def _place_any_round(scene: Scene, draw: random.Random) -> AnnotatedRound:
    place = draw.choice(list(scene.grid.places))
    question = draw.choice((f"is there anything at the {place}", f"is the {_corner(place)} taken"))
    taken = scene.at(place) is not None
    return AnnotatedRound(question, _yes_or_no(taken, draw), () if taken else facts(place), (place,))


def ground_any_round(scene: Scene, draw: random.Random) -> AnnotatedRound:
    ground = scene.ground if draw.random() < 0.5 else draw.choice(list(GROUNDS))
    so = ground == scene.ground
    return AnnotatedRound(f"is the ground {ground}", _yes_or_no(so, draw), ("ground",) if so else (), ("ground",))


def _yes_or_no(true: bool, draw: random.Random) -> str:
    return draw.choice(("yes", "yes it is so", "yep")) if true else draw.choice(("no", "no it is not", "nope"))
