"""Dialogues that change what was said, and places told by relation: carried out by a reader who has the words alone."""

import itertools
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.corpora import films, sample_edits, sample_files, sample_relations
from pipeline.corpora.sample_world import (
    BLANK,
    COLOURS,
    FOUR_PLACES,
    GROUNDS,
    NINE_PLACES,
    SHAPES,
    SIZES,
    Grid,
    Scene,
    WorldSettings,
    ceilings,
    scene,
)
from trainer.evaluation import scenes
from trainer.evaluation.rounds import facts_told, over_rounds
from trainer.evaluation.scenes import SceneReader
from trainer.evaluation.truth import NOTHING, Truth

NAME = rf"({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
STEPS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}


class Reader:
    """Someone who carries out what is said, knowing the words alone. What is at a place is (size, colour, shape)."""

    def __init__(self, grid: Grid) -> None:
        self.at: dict[tuple[int, int], tuple[str, str, str]] = {}
        self.ground: str | None = None
        self.last: list[tuple[int, int]] = []
        self.one_by_one = False  # what was spoken of last came one after another: the last one is "it"
        names = list(grid.places)
        self.place = {name: (n % grid.columns, n // grid.columns) for n, name in enumerate(names)}
        self.where = "|".join(sorted(names, key=len, reverse=True))

    def whole(self) -> tuple[str | None, dict[str, tuple[str, str, str]]]:
        return self.ground, {name: self.at[spot] for name, spot in self.place.items() if spot in self.at}

    def meant(self, words: str) -> tuple[int, int]:
        """The one object that a phrase can mean."""
        if words == "it":
            assert len(self.last) == 1 or self.one_by_one
            return self.last[-1]
        if found := re.fullmatch(rf"the one at the ({self.where})", words):
            assert self.place[found[1]] in self.at
            return self.place[found[1]]
        named = set(words.split()) - {"the", "one"}
        fitting = [spot for spot, thing in self.at.items() if named <= set(thing)]
        assert len(fitting) == 1, f"{words!r} may be any of {fitting}"
        return fitting[0]

    def spot(self, words: str) -> tuple[int, int]:
        """The place that a phrase means."""
        if found := re.fullmatch(rf"at the ({self.where})(?: instead)?", words):
            return self.place[found[1]]
        if words == "between them":
            a, b = self.last[-2:]
            return (a[0] + b[0]) // 2, (a[1] + b[1]) // 2
        if found := re.fullmatch("between (.+) and (.+)", words):
            a, b = self.meant(found[1]), self.meant(found[2])
            assert (a[0] + b[0]) % 2 == (a[1] + b[1]) % 2 == 0
            return (a[0] + b[0]) // 2, (a[1] + b[1]) // 2
        found = re.fullmatch("(left of|right of|above|below) (.+)", words)
        assert found, words
        (x, y), (right, down) = self.meant(found[2]), STEPS[found[1]]
        return x + right, y + down

    def do(self, words: str) -> None:
        """Carry out one instruction."""
        if found := re.fullmatch(
            rf"(?:make the ground|let the ground be|put) ({'|'.join(GROUNDS)})(?: under it all)?", words
        ):
            self.ground, self.last = found[1], []
        elif found := re.fullmatch(rf"(?:put|add|there is) a {NAME} (.+)", words):
            spot = self.spot(found[4])
            assert spot not in self.at
            self.at[spot], self.last = (found[1], found[2], found[3]), [spot]
        elif found := re.fullmatch(r"put one like (it|the .+) (left of|right of|above|below) it", words):
            (x, y), (right, down) = self.meant(found[1]), STEPS[found[2]]
            assert (x + right, y + down) not in self.at
            self.at[x + right, y + down], self.last = self.at[x, y], [(x + right, y + down)]
        elif found := re.fullmatch(r"swap the two (?:at|on) the (top|bottom|left|right)", words):
            self.swap(*(self.place[name] for name in self.whole()[1] if found[1] in name.split()))
        elif words == "swap them":
            self.swap(*self.last)
        elif found := re.fullmatch(r"swap (the .+) and (the .+)", words):
            self.swap(self.meant(found[1]), self.meant(found[2]))
        elif found := re.fullmatch(r"(?:take (.+) away|remove (.+)|take away (.+))", words):
            del self.at[self.meant(next(filter(None, found.groups())))]
            self.last = []
        elif found := re.fullmatch(rf"(?:move|put) (it|the .+) (?:to|at) the ({self.where})(?: instead)?", words):
            spot = self.meant(found[1])
            assert self.place[found[2]] not in self.at
            self.at[self.place[found[2]]] = self.at.pop(spot)
            self.last = [self.place[found[2]]]
        else:
            found = re.fullmatch(
                r"(?:make|change|paint|turn|)\s?(it|the .+?) (?:to |into a |should be |a |)(\w+)", words
            )
            assert found, words
            spot = self.meant(found[1])
            value = {"smaller": "small", "larger": "large"}.get(found[2], found[2])
            size, colour, shape = self.at[spot]
            self.at[spot] = (
                value if value in SIZES else size,
                value if value in COLOURS else colour,
                value if value in SHAPES else shape,
            )
            assert value in {*SIZES, *COLOURS, *SHAPES}
            self.last = [spot]

    def swap(self, a: tuple[int, int], b: tuple[int, int]) -> None:
        assert self.at[a] != self.at[b]
        self.at[a], self.at[b] = self.at[b], self.at[a]
        self.last = [b, a]


class WillingReader(Reader):
    """Passes over what cannot be carried out: an object that is not there, a place that is taken."""

    def do(self, words: str) -> None:
        before, last = dict(self.at), list(self.last)
        try:
            super().do(words)
        except (AssertionError, IndexError, KeyError, TypeError):
            self.at, self.last = before, last


def facts(one: Scene) -> tuple[str | None, dict[str, tuple[str, str, str]]]:
    ground = None if one.ground == BLANK else one.ground
    return ground, {thing.place: (thing.size, thing.colour, thing.shape) for thing in one.things}


@pytest.mark.parametrize("relations", [False, True])
@pytest.mark.parametrize(("grid", "objects", "number"), [(FOUR_PLACES, (1, 4), 10), (NINE_PLACES, (2, 9), 16)])
def test_carrying_out_the_words_gives_the_truth_of_every_round(
    grid: Grid, objects: tuple[int, int], number: int, relations: bool
) -> None:
    heard = set()
    for n in range(60):
        told = sample_edits.dialogue(random.Random(n), grid, objects, number, 0.5, relations)
        assert len(told.talk) == len(told.seen) - 1 == number
        reader = Reader(grid)
        for round_, before, after in zip(told.talk, told.seen, told.seen[1:]):
            assert round_.question.endswith(".")
            reader.do(round_.question[:-1])
            assert reader.whole() == facts(after), round_.question
            # What a round speaks of is what it changes, fact by fact.
            changed = {
                f"{place}: {kind}"
                for place in grid.places
                for k, kind in enumerate(("size", "colour", "shape"))
                if _value(before, place, k) != _value(after, place, k)
            } | ({"ground"} if before.ground != after.ground else set())
            assert changed <= set(round_.tells)
            assert (
                {fact.partition(":")[0] for fact in changed}
                == set(round_.speaks_of)
                == {fact.partition(":")[0] for fact in round_.tells}
            )
            heard.add(re.sub(r"(the|a) .*", "", round_.question[:-1]).strip())
        assert told.seen[-1].ground != BLANK
        assert objects[0] <= len(told.seen[-1].things)
        assert max(len(one.things) for one in told.seen) <= objects[1]
    assert {"swap", "put one like it below it", "make it blue", "take it away", "remove it"} <= heard
    assert "take away it" not in heard


def _value(one: Scene, place: str, k: int) -> str | None:
    things = facts(one)[1]
    return things[place][k] if place in things else None


def test_who_understands_every_word_loses_most_when_rounds_are_reversed() -> None:
    right = {"told": 0, "reversed": 0, "empty": 0}
    for n in range(dialogues := 300):
        told = sample_edits.dialogue(random.Random(n), FOUR_PLACES, (1, 4), 10, 0.5, False)
        words = [one.question[:-1] for one in told.talk]
        wanted = {thing.place: thing.colour for thing in told.seen[-1].things}
        for name, heard in (("told", words), ("reversed", words[::-1]), ("empty", [])):
            reader = WillingReader(FOUR_PLACES)
            for instruction in heard:
                reader.do(instruction)
            painted = {place: colour for place, (_, colour, _) in reader.whole()[1].items()}
            right[name] += sum(painted.get(place) == wanted.get(place) for place in FOUR_PLACES.places)
    assert right["told"] == dialogues * len(FOUR_PLACES.places)
    lost = (right["told"] - right["reversed"]) / (right["told"] - right["empty"])
    assert lost == pytest.approx(0.62, abs=0.03)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_the_share_of_edits(share: float) -> None:
    edits = rounds = 0
    for n in range(200):
        told = sample_edits.dialogue(random.Random(n), NINE_PLACES, (1, 9), 8, share, False)
        for said_, before in list(zip(told.talk, told.seen))[1:]:
            first_ground = said_.tells == ("ground",) and before.ground == BLANK
            adds = re.match("(?:put|add|there is) a ", said_.question) or first_ground
            edits, rounds = edits + (not adds), rounds + 1
    assert edits / rounds == pytest.approx(share, abs=0.06)


def test_told_by_relation_everything_can_be_read_in_order() -> None:
    phrases = set()
    for n in range(60):
        draw = random.Random(n)
        wanted = scene(draw, (1, 9), NINE_PLACES)
        reader, read = Reader(NINE_PLACES), set()
        reader.one_by_one = True
        for one in sample_relations.rounds(wanted, draw, 16):
            asks = r"what (?:is|do you see|lies) ((?:at|left|right|above|below|between) .+)"
            if not (found := re.fullmatch(asks, one.question)):
                reader.last = []
                continue
            phrases.add(found[1].split()[0])
            spot = reader.spot(found[1])
            assert reader.place[one.speaks_of[0]] == spot
            read.add(spot)
            thing = re.search(NAME, one.answer)
            if thing:
                reader.at[spot] = (thing[1], thing[2], thing[3])
            reader.last = [*reader.last[-1:], spot] if thing else []
        assert len(read) == 9
        assert reader.whole()[1] == facts(wanted)[1]
    assert phrases == {"at", "left", "right", "above", "below", "between"}


# Files and pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        WorldSettings(seed=2, train=6, val=24, image_size=128, edits=0.5, turn_pictures=True),
        WorldSettings(seed=2, train=6, val=24, image_size=128, places="3x3", objects=(1, 9)),
        WorldSettings(seed=2, train=6, val=24, image_size=128, places="free", objects=(1, 9), edits=0.4),
    ],
    ids=["edits", "3x3", "free edits"],
)
def test_pixels_are_read_as_the_truth_says_whole_and_cropped(tmp_path: Path, settings: WorldSettings) -> None:
    raw = tmp_path / "sample"
    sample_files.make(raw, settings)
    truth = Truth.load(raw / "truth_val.json")
    ids = np.array(list(truth.scenes))
    pictures = [Image.open(raw / "images/val" / sample_files.file_name("val", image_id)) for image_id in ids]
    draw = np.random.default_rng(0)
    anywhere = draw.integers(0, 13, (24, 2)).tolist()
    for kept, places in ((1, [(0, 0)] * 24), (64 / 76, [(6, 6)] * 24), (64 / 76, anywhere)):
        if places is anywhere and len(truth.places) == 9:
            continue  # a crop to the side moves things half way into the next of nine places
        side = 64 if kept == 1 else 76
        cut = [
            np.asarray(one.resize((side, side), Image.Resampling.BILINEAR))[y : y + 64, x : x + 64]
            for one, (x, y) in zip(pictures, places)
        ]
        found = SceneReader(truth, kept).read(np.stack(cut))
        assert (found.colours == truth.colour_labels(ids)).all()
        assert (found.grounds == truth.ground_labels(ids)).all()
    assert scenes.ceilings(truth)["presence_accuracy"]["chance"] == pytest.approx(
        truth.ceilings["presence_accuracy"]["chance"], abs=0.12
    )


def test_the_truth_of_every_round_is_what_its_picture_shows(tmp_path: Path) -> None:
    raw = tmp_path / "sample"
    sample_files.make(raw, WorldSettings(seed=4, train=4, val=12, image_size=64, edits=0.5, turn_pictures=True))
    truth = Truth.load(raw / "truth_val.json")
    assert not truth.captions_tell
    assert truth.ceilings["colour_accuracy"]["caption"] == pytest.approx(1 / 6)
    assert scenes.ceilings(truth)["colour_accuracy"] == {
        "chance": pytest.approx(1 / 6),
        "caption": pytest.approx(1 / 6),
    }
    ids = np.array(list(truth.scenes))
    film = films.read(films.films_file(raw, "val")).films
    shown = [[one.file_name for one in (film[i].first, *film[i].turns)] for i in ids]
    pictures = np.array([[np.asarray(Image.open(raw / "images/val" / name)) for name in names] for names in shown])
    reader = SceneReader(truth, 1)
    found = [reader.read(pictures[:, r]) for r in range(11)]
    heads = truth.heads()
    mine = [i for i, head in enumerate(heads) if head.kind in ("ground", "colour")]
    wanted = truth.targets_by_round(ids, 10)[:, :, mine]
    readings = np.stack([np.concatenate([one.grounds[:, None], one.colours + 1], axis=1) for one in found], axis=1)
    assert (readings[:, :, 1:] == wanted[:, :, 1:]).all()
    known = wanted[:, :, 0] != NOTHING
    assert (readings[:, :, 0] == wanted[:, :, 0])[known].all()
    assert not known[:, 0].any()
    assert known[:, -1].all()
    words = facts_told([truth.words[i] for i in ids], [0] * len(ids), [heads[i].name for i in mine])
    perfect = over_rounds(readings, wanted, words.told, words.spoken_of, words.rounds)
    assert (perfect.told_over_all, perfect.settled_over_all) == (1, 1)
    assert perfect.kept[2:].min() > 0.9  # paper reads as some ground before the ground is told
    # Who only paints the end of it, whatever was said so far, is not right before the end.
    lazy = np.repeat(readings[:, -1:], 11, axis=1)
    assert over_rounds(lazy, wanted, words.told, words.spoken_of, words.rounds).told_over_all < 0.9


def test_ceilings_of_nine_places_against_a_guesser_who_reads_captions(tmp_path: Path) -> None:
    stated = ceilings((1, 9), 9)
    draw = random.Random(0)
    scenes = [scene(draw, (1, 9), NINE_PLACES) for _ in range(4000)]
    occupied = sum(len(one.things) for one in scenes)
    right = sum(1 + (len(one.things) - 1) / 6 for one in scenes)
    assert stated["colour_accuracy"]["caption"] == pytest.approx(right / occupied, abs=0.01)
    guessed = sum(1 + max(len(one.things) - 1, 9 - len(one.things)) for one in scenes) / 9 / len(scenes)
    assert stated["presence_accuracy"]["caption"] == pytest.approx(guessed, abs=0.01)
    assert stated["presence_accuracy"]["chance"] == pytest.approx(5 / 9)


def test_things_of_nine_places_do_not_touch() -> None:
    for seed in range(200):
        one = scene(random.Random(seed), (9, 9), NINE_PLACES)
        for a, b in itertools.combinations(one.things, 2):
            apart = max(abs(p - q) for p, q in zip(a.centre, b.centre))
            assert apart > 0.24 - 1e-9
            assert 1.3 * (a.radius + b.radius) < 0.24 + 1e-9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objects": (1, 5)}, "from 1 to 4"),
        ({"objects": (1, 10), "places": "3x3"}, "from 1 to 9"),
        ({"edits": 1.0}, "edits must be a share"),
        ({"rounds": 9}, "rounds must be between 10 and 99"),
        ({"rounds": 13, "places": "3x3"}, "rounds must be between 14 and 99"),
        ({"rounds": 4, "edits": 0.5, "objects": (4, 4)}, "rounds must be between 5 and 99"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldSettings(**given)  # type: ignore[arg-type]


def test_every_world_is_made_of_its_seed(tmp_path: Path) -> None:
    settings = WorldSettings(seed=1, train=3, val=2, image_size=32, places="free", edits=0.3, objects=(1, 9))
    for name in ("a", "b"):
        sample_files.make(tmp_path / name, settings)
    for path in (path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    world = json.loads((tmp_path / "a/truth_val.json").read_text())["world"]
    assert (world["places"].keys(), world["edits"]) == (NINE_PLACES.places.keys(), 0.3)
