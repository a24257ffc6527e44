"""What people say in the sample world: captions that tell little and ten rounds that tell the rest."""

import random

from pipeline.corpora.sample_world import COLOURS, GROUNDS, PLACES, SHAPES, SIZES, Scene, Thing

COUNTS = ("one", "two", "three", "four")


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


def dialogue(scene: Scene, draw: random.Random, number: int = 10) -> list[tuple[str, str]]:
    """`number` (at least 10) rounds of question and answer, shuffled, from which the whole scene can be read.

    Every place is told in one round, or an object in three (color, shape, size); one round tells the ground; people
    also ask what is answered by yes, no or a count. Every answer is true. Questions carry no question mark.
    """
    rounds = [_ground_round(scene, draw)]
    split = draw.choices((0, 1, 2), (5, 3, 2))[0]
    splits = {thing.place for thing in draw.sample(scene.things, min(split, len(scene.things)))}
    for place in PLACES:
        rounds += _split_rounds(scene, place, draw) if place in splits else [_place_round(scene, place, draw)]
    asked = {question for question, _ in rounds}
    while len(rounds) < number:
        question, answer = draw.choice((_count_round, _any_round, _any_round, _place_any_round, _ground_any_round))(
            scene, draw
        )
        if question not in asked:
            asked.add(question)
            rounds.append((question, answer))
    draw.shuffle(rounds)
    return rounds


def _place_round(scene: Scene, place: str, draw: random.Random) -> tuple[str, str]:
    question = draw.choice(
        (f"what is at the {place}", f"what do you see at the {place}", f"what is in the {place} corner")
    )
    thing = scene.at(place)
    if thing is None:
        return question, draw.choice(("nothing", "nothing is there", "it is empty"))
    return question, draw.choice((name(thing), name(thing, article=False), f"there is {name(thing)}"))


def _split_rounds(scene: Scene, place: str, draw: random.Random) -> list[tuple[str, str]]:
    thing = scene.at(place)
    assert thing is not None
    color = draw.choice((f"what color is the object at the {place}", f"what color is the one in the {place}"))
    shape = draw.choice((f"what shape is the object at the {place}", f"what shape is the one in the {place}"))
    size = draw.choice((f"how big is the object at the {place}", f"is the one in the {place} small or large"))
    return [
        (color, draw.choice((thing.colour, f"it is {thing.colour}"))),
        (shape, draw.choice((thing.shape, f"a {thing.shape}", f"it is a {thing.shape}"))),
        (size, draw.choice((thing.size, f"it is {thing.size}"))),
    ]


def _ground_round(scene: Scene, draw: random.Random) -> tuple[str, str]:
    question = draw.choice(("what is the ground like", "what are they lying on", "what is the background"))
    return question, draw.choice((scene.ground, f"it is {scene.ground}"))


def _count_round(scene: Scene, draw: random.Random) -> tuple[str, str]:
    question = draw.choice(("how many objects are there", "how many do you see"))
    count = COUNTS[len(scene.things) - 1]
    return question, draw.choice((count, f"i see {count}", "just one" if count == "one" else f"there are {count}"))


def _any_round(scene: Scene, draw: random.Random) -> tuple[str, str]:
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
    return question, _yes_or_no(there, draw)


def _place_any_round(scene: Scene, draw: random.Random) -> tuple[str, str]:
    place = draw.choice(list(PLACES))
    question = draw.choice((f"is there anything at the {place}", f"is the {place} corner taken"))
    return question, _yes_or_no(scene.at(place) is not None, draw)


def _ground_any_round(scene: Scene, draw: random.Random) -> tuple[str, str]:
    ground = scene.ground if draw.random() < 0.5 else draw.choice(list(GROUNDS))
    return f"is the ground {ground}", _yes_or_no(ground == scene.ground, draw)


def _yes_or_no(true: bool, draw: random.Random) -> str:
    return draw.choice(("yes", "yes it is so", "yep")) if true else draw.choice(("no", "no it is not", "nope"))
