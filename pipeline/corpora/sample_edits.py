"""Dialogues that build a scene and change it: what earlier rounds said holds until a later one says otherwise.

A round is an instruction without an answer: "put a small red circle at the top left.", "make it blue.", "swap the two
at the top.", "take it away.", "put one like it below it." The truth after every round is what carrying the instructions
out gives, and the last one is the scene.
"""

import dataclasses
import random
from collections.abc import Callable
from typing import NamedTuple

from pipeline.corpora.sample_relations import WAYS, unique, where
from pipeline.corpora.sample_words import AnnotatedRound, facts, name
from pipeline.corpora.sample_world import BLANK, COLOURS, GROUNDS, SHAPES, SIZES, Grid, Scene, Thing, jittered

CAPTIONS = ("an empty picture", "a blank picture", "a picture with nothing in it", "blank paper", "nothing yet")


class EditedDialogue(NamedTuple):
    """A dialogue, and the scene before its first round and after each; the last is what the picture shows."""

    talk: list[AnnotatedRound]
    seen: list[Scene]


def dialogue(
    draw: random.Random, grid: Grid, objects: tuple[int, int], number: int, share: float, relations: bool
) -> EditedDialogue:
    """`number` rounds, of which about `share` change what earlier ones said and the others add an object or the ground.

    Args:
        objects: the least at the end and the most at any time.
        relations: name places by the objects there, where that can be done.
    """
    told = EditedDialogue([], [Scene(BLANK, (), grid)])
    builder = _Builder(grid, objects, relations, draw)
    for left in range(number, 0, -1):
        said = builder.round(left, share)
        told.talk.append(said._replace(question=f"{said.question}."))
        told.seen.append(builder.scene)
    return told


class _Builder:
    """The scene as it is by now, and what "it" and "them" stand for."""

    def __init__(self, grid: Grid, objects: tuple[int, int], relations: bool, draw: random.Random) -> None:
        self.scene = Scene(BLANK, (), grid)
        self.grid, self.draw, self.relations = grid, draw, relations
        self.least, self.most = objects
        self.recent: list[Thing] = []

    def round(self, left: int, share: float) -> AnnotatedRound:
        """The next round, when `left` are left with it."""
        things, ground = self.scene.things, self.scene.ground
        lacking = max(0, self.least - len(things))
        must = lacking + (ground == BLANK) >= left
        if not must and (things or ground != BLANK) and self.draw.random() < share:
            # What is taken away may have to come back before the end.
            return self._edit(spare=max(0, self.least - len(things) + 1) + (ground == BLANK) < left)
        room = len(things) < self.most
        if ground == BLANK and (not room or (must and not lacking) or (not lacking and self.draw.random() < 0.3)):
            return self._ground()
        return self._add() if room else self._edit(spare=False)

    # What people say of it ---------------------------------------------------------------------------------------

    def _ground(self) -> AnnotatedRound:
        others = [ground for ground in GROUNDS if ground != self.scene.ground]
        ground = self.draw.choice(others)
        self.scene = dataclasses.replace(self.scene, ground=ground)
        self.recent = []
        words = self.draw.choice(("make the ground {}", "let the ground be {}", "put {} under it all")).format(ground)
        return AnnotatedRound(words, "", ("ground",), ("ground",))

    def _add(self) -> AnnotatedRound:
        draw = self.draw
        free = [place for place in self.grid.places if self.scene.at(place) is None]
        place = draw.choice(free)
        said = f"at the {place}"
        if self.relations:
            recent = self.recent if len(self.recent) == 1 else ()  # of two, nobody knows which is "it"
            phrases = {
                one: phrase for one in free if (phrase := where(self.scene, one, self.scene.things, recent, draw))
            }
            if phrases:
                place = draw.choice(list(phrases))
                said = phrases[place]
        colour, shape, size = draw.choice(list(COLOURS)), draw.choice(SHAPES), draw.choice(list(SIZES))
        thing = self._at(place, Thing(place, colour, shape, size, (0, 0), self.grid.scale))
        self._put(thing)
        words = draw.choice(("put {} {}", "add {} {}", "there is {} {}")).format(name(thing), said)
        return AnnotatedRound(words, "", facts(place), (place,))

    def _edit(self, spare: bool) -> AnnotatedRound:
        """Something that changes what was said; `spare`: one object may go."""
        kinds: list[Callable[[], AnnotatedRound | None]] = []
        if self.scene.things:
            kinds += [self._recolour, self._recolour, self._reshape, self._resize, self._move, self._swap, self._like]
            kinds += [self._take_away] * spare
        if self.scene.ground != BLANK:
            kinds.append(self._ground)
        self.draw.shuffle(kinds)
        return next(said for kind in kinds if (said := kind()) is not None)

    def _recolour(self) -> AnnotatedRound:
        thing = self._target()
        colour = self.draw.choice([colour for colour in COLOURS if colour != thing.colour])
        words = self.draw.choice(("make {} {}", "change {} to {}", "paint {} {}")).format(self._called(thing), colour)
        return self._changed(words, thing, "colour", dataclasses.replace(thing, colour=colour))

    def _reshape(self) -> AnnotatedRound:
        thing = self._target()
        shape = self.draw.choice([shape for shape in SHAPES if shape != thing.shape])
        words = self.draw.choice(("make {} a {}", "turn {} into a {}")).format(self._called(thing), shape)
        return self._changed(words, thing, "shape", dataclasses.replace(thing, shape=shape))

    def _resize(self) -> AnnotatedRound:
        thing = self._target()
        size = next(size for size in SIZES if size != thing.size)
        more = "smaller" if size == "small" else "larger"
        words = self.draw.choice(("make {} {}", "{} should be {}")).format(
            self._called(thing), self.draw.choice((size, more))
        )
        return self._changed(words, thing, "size", dataclasses.replace(thing, size=size))

    def _move(self) -> AnnotatedRound | None:
        thing = self._target()
        free = [place for place in self.grid.places if self.scene.at(place) is None]
        if not free:
            return None
        place = self.draw.choice(free)
        words = self.draw.choice(("move {} to the {}", "put {} at the {} instead")).format(self._called(thing), place)
        self._remove(thing)
        self._put(self._at(place, thing))
        return AnnotatedRound(words, "", facts(thing.place, place), (thing.place, place))

    def _swap(self) -> AnnotatedRound | None:
        pairs = self._pairs()
        if not pairs:
            return None
        words, a, b = self.draw.choice(pairs)
        self._remove(a)
        self._remove(b)
        first, second = self._at(b.place, a), self._at(a.place, b)
        self._put(first)
        self._put(second)
        self.recent = [first, second]
        return AnnotatedRound(words, "", facts(a.place, b.place), (a.place, b.place))

    def _like(self) -> AnnotatedRound | None:
        """Put one like it beside it."""
        thing = self._target()
        free = {
            way: place
            for way, steps in WAYS.items()
            if (place := self.grid.neighbour(thing.place, *steps)) and self.scene.at(place) is None
        }
        if not free or len(self.scene.things) >= self.most:
            return None
        way = self.draw.choice(list(free))
        called = self._called(thing)
        words = f"put one like it {way} it" if called == "it" else f"put one like {called} {way} it"
        self._put(self._at(free[way], thing))
        return AnnotatedRound(words, "", facts(free[way]), (free[way],))

    def _take_away(self) -> AnnotatedRound:
        thing = self._target()
        called = self._called(thing)
        ways = ("take {} away", "remove {}", "take away {}")[: 2 if called == "it" else 3]
        words = self.draw.choice(ways).format(called)
        self._remove(thing)
        self.recent = []
        return AnnotatedRound(words, "", facts(thing.place), (thing.place,))

    # Who is meant ------------------------------------------------------------------------------------------------

    def _target(self) -> Thing:
        """Half the time what was just spoken of."""
        recent = [thing for thing in self.recent[-1:] if thing in self.scene.things]
        return recent[0] if recent and self.draw.random() < 0.5 else self.draw.choice(self.scene.things)

    def _called(self, thing: Thing) -> str:
        """A name that no other object has: "it" if it was the last spoken of, as short as will do, or by its place."""
        if len(self.recent) == 1 and self.recent[0] == thing and self.draw.random() < 0.8:
            return "it"
        names = [f"the one at the {thing.place}"]
        others = [other for other in self.scene.things if other is not thing]
        for words, same in (
            (f"the {thing.colour} one", "colour"),
            (f"the {thing.shape}", "shape"),
            (f"the {thing.size} one", "size"),
        ):
            if others and all(getattr(other, same) != getattr(thing, same) for other in others):
                names.append(words)
        if unique(self.scene, thing):
            names.append(f"the {name(thing, article=False)}")
        return self.draw.choice(names)

    def _pairs(self) -> list[tuple[str, Thing, Thing]]:
        """Pairs that can change places, in words. Two that look alike would change nothing."""
        found: list[tuple[str, Thing, Thing]] = []
        for words in ("at the top", "at the bottom", "on the left", "on the right"):
            there = [thing for thing in self.scene.things if words.split()[-1] in thing.place.split()]
            if len(there) == 2:
                found.append((f"swap the two {words}", there[0], there[1]))
        if len(self.recent) == 2:
            found.append(("swap them", self.recent[0], self.recent[1]))
        named = [thing for thing in self.scene.things if unique(self.scene, thing)]
        if len(named) >= 2:
            a, b = self.draw.sample(named, 2)
            found.append((f"swap the {name(a, article=False)} and the {name(b, article=False)}", a, b))
        return [(words, a, b) for words, a, b in found if name(a) != name(b)]

    # Carrying it out ---------------------------------------------------------------------------------------------

    def _changed(self, words: str, thing: Thing, kind: str, changed: Thing) -> AnnotatedRound:
        self._remove(thing)
        self._put(changed)
        return AnnotatedRound(words, "", (f"{thing.place}: {kind}",), (thing.place,))

    def _at(self, place: str, thing: Thing) -> Thing:
        centre = jittered(*self.grid.places[place], self.grid, self.draw)
        return dataclasses.replace(thing, place=place, centre=centre)

    def _put(self, thing: Thing) -> None:
        order = list(self.grid.places)
        things = sorted((*self.scene.things, thing), key=lambda one: order.index(one.place))
        self.scene = dataclasses.replace(self.scene, things=tuple(things))
        self.recent = [thing]

    def _remove(self, thing: Thing) -> None:
        things = tuple(other for other in self.scene.things if other.place != thing.place)
        self.scene = dataclasses.replace(self.scene, things=things)
