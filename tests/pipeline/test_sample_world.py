"""The sample world: what is said is true and enough, what is drawn lies where the truth says, ceilings are ceilings."""

import hashlib
import itertools
import json
import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.corpora import corpus, sample_files, sample_words, sample_world
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import prepare
from pipeline.corpora.sample_world import COLOURS, GROUNDS, HALF, JITTER, PLACES, SHAPES, SIZES, WorldSettings
from store.errors import ChatPainterError

SMALL = WorldSettings(train=60, val=40, image_size=128)
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
ARTICLE_NAME = rf"(?:a )?({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
PLACE = rf"({'|'.join(PLACES)})"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "sample"
    sample_files.make(folder, SMALL)
    return folder


def scenes(number: int = 300) -> Iterable[tuple[sample_world.Scene, random.Random]]:
    for _, scene, draw in sample_files.scenes("train", WorldSettings(seed=3, train=number)):
        yield scene, draw


def facts(scene: sample_world.Scene) -> dict[str, tuple[str, str, str]]:
    return {thing.place: (thing.size, thing.colour, thing.shape) for thing in scene.things}


def test_worlds_with_as_many_objects_as_asked_for() -> None:
    settings = WorldSettings(seed=3, train=200, objects=(2, 3))
    assert {len(scene.things) for _, scene, _ in sample_files.scenes("train", settings)} == {2, 3}
    for wrong in ((0, 4), (3, 2), (1, 5)):
        with pytest.raises(ValueError, match="objects must be two numbers"):
            WorldSettings(objects=wrong)


# Whoever trained on the sample world, or measured on it, has these files: no later setting may change them.
BYTES = {
    "annotations/captions_train.json": "d122efe979c5a591",
    "annotations/captions_val.json": "b2272dacb8de4dc1",
    "annotations/instances_train.json": "f6d5008f2a0017a4",
    "annotations/instances_val.json": "ff9a324fd2152cd5",
    "truth_train.json": "8cd588b680d30846",
    "truth_val.json": "46ccec51f0d39f00",
    "visdial/visdial_1.0_train.json": "2dc404cd4975f989",
    "visdial/visdial_1.0_val.json": "e1930288f962d4fe",
}


def test_the_sample_world_keeps_its_bytes(tmp_path: Path) -> None:
    sample_files.make(tmp_path / "sample", WorldSettings(train=12, val=8, image_size=32))
    for name, begins in BYTES.items():
        assert hashlib.sha256((tmp_path / "sample" / name).read_bytes()).hexdigest().startswith(begins), name
    for split, begins in (("train", "8e326a512523"), ("val", "ae08981ac7cf")):
        path, _ = prepare(tmp_path / "sample", split, tmp_path / "corpus", CorpusSettings(), None)
        rows = repr([*corpus.rows(corpus.read(path))]).encode()
        assert hashlib.sha256(rows).hexdigest().startswith(begins), split


# What is said -----------------------------------------------------------------------------------------------------


def test_a_caption_tells_one_object_and_how_many_and_nothing_else() -> None:
    told = set()
    for scene, draw in scenes():
        captions = sample_words.captions(scene, draw)
        assert len(captions) == 5
        for caption in captions:
            (size, colour, shape), place = re.findall(ARTICLE_NAME, caption)[0], re.findall(PLACE, caption)[0]
            assert facts(scene)[place] == (size, colour, shape)
            told.add((place, size, colour, shape))
            assert number_told(caption) == len(scene.things)
            rest = re.sub(ARTICLE_NAME + "|" + PLACE, "", caption)
            assert not set(rest.split()) & {*COLOURS, *SHAPES, *SIZES, *GROUNDS}
    assert len(told) > 100


def number_told(caption: str) -> int:
    if found := re.search(r"(one|two|three) other object(s?)\b", caption):
        assert (found[2] == "s") == (found[1] != "one")
        return NUMBERS[found[1]] + 1
    if found := re.search(r"(two|three|four) objects", caption):
        return NUMBERS[found[1]]
    assert re.search(r"nothing else|only|one object|alone", caption), caption
    return 1


def read_dialogue(rounds: list[tuple[str, str]]) -> tuple[dict[str, list[str | None]], str, set[str]]:
    """What someone understands who knows nothing but the rounds: places, ground, what was asked beside."""
    places: dict[str, list[str | None]] = {}
    ground, others = "", set()
    for question, answer in rounds:
        where = re.findall(PLACE, question)
        if re.search(r"what (is|do you see) (at|in) the (top|bottom)", question):
            named = re.fullmatch(rf"(?:there is )?{ARTICLE_NAME}", answer)
            places[where[0]] = list(named.groups()) if named else []
            assert named or re.search(r"nothing|empty", answer)
        elif re.search(r"what color|what shape|how big|small or large", question):
            slot = 1 if "color" in question else 2 if "shape" in question else 0
            places.setdefault(where[0], [None, None, None])[slot] = answer.split()[-1]
        elif re.search(r"what is the ground|lying on|background", question):
            ground = answer.split()[-1]
        else:
            others.add(f"{question}|{answer}")
    return places, ground, others


def test_the_whole_scene_can_be_read_from_ten_rounds() -> None:
    for scene, draw in scenes():
        rounds = sample_words.dialogue(scene, draw)
        assert len(rounds) == 10
        places, ground, _ = read_dialogue(rounds)
        assert {place: tuple(told) for place, told in places.items() if told} == facts(scene)
        assert set(places) == set(PLACES)
        assert ground == scene.ground


def test_what_is_asked_beside_is_answered_truly() -> None:
    kinds = defaultdict(set)
    for scene, draw in scenes():
        for other in read_dialogue(sample_words.dialogue(scene, draw))[2]:
            question, answer = other.split("|")
            true = truth_of(question, scene)
            if type(true) is int:
                assert sum(NUMBERS[word] for word in answer.split() if word in NUMBERS) == true
            else:
                assert answer.startswith(("ye",)) if true else answer.startswith("no")
                kinds[re.sub("|".join([PLACE, *COLOURS, *SHAPES, *SIZES, *GROUNDS]), "_", question)].add(true)
    assert all(answers == {True, False} for answers in kinds.values())
    assert len(kinds) >= 6


def truth_of(question: str, scene: sample_world.Scene) -> bool | int:
    objects = list(facts(scene).values())
    if question.startswith("how many"):
        return len(objects)
    if place := re.search(PLACE, question):
        return place[1] in facts(scene)
    if ground := re.fullmatch(r"is the ground (\w+)", question):
        return scene.ground == ground[1]
    wanted = {word.rstrip("s") for word in question.split()} & {*COLOURS, *SHAPES, *SIZES}
    return any(wanted <= set(thing) for thing in objects)


def test_people_in_the_sample_world_talk_as_in_visdial() -> None:
    orders, words, splits = set(), set(), 0
    for scene, draw in scenes():
        captions, rounds = sample_words.captions(scene, draw), sample_words.dialogue(scene, draw)
        for text in itertools.chain(captions, *rounds):
            assert re.fullmatch(r"[a-z]+( [a-z,]+)*", text), text
            words |= set(text.replace(",", "").split())
        assert len({question for question, _ in rounds}) == 10
        orders.add(
            next(i for i, (question, _) in enumerate(rounds) if re.search("ground like|lying|background", question))
        )
        splits += any("what color" in question for question, _ in rounds)
    assert orders == set(range(10))
    assert 60 < splits < 240
    assert len(words) < 110


# What is drawn ----------------------------------------------------------------------------------------------------


def test_scenes_are_uniform() -> None:
    found = [scene for scene, _ in scenes(2000)]
    for number in range(1, 5):
        assert 420 < sum(len(scene.things) == number for scene in found) < 580
    things = [thing for scene in found for thing in scene.things]
    for attribute, kinds in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES), ("place", PLACES)):
        for kind in kinds:
            share = sum(getattr(thing, attribute) == kind for thing in things) / len(things)
            assert abs(share - 1 / len(kinds)) < 0.03
    assert all(scene.things for scene in found)


def test_colours_and_grounds_are_far_apart() -> None:
    every = [*COLOURS.values(), *GROUNDS.values()]
    assert min(math.dist(a, b) for a, b in itertools.combinations(every, 2)) > 60
    assert min(math.dist(a, b) for a in COLOURS.values() for b in GROUNDS.values()) > 90


@pytest.mark.parametrize("shape", SHAPES)
def test_a_places_patch_lies_on_the_object_and_objects_in_their_quarter(shape: str) -> None:
    for (place, (x, y)), dx, dy, size in itertools.product(PLACES.items(), (-1, 1), (-1, 1), SIZES):
        thing = sample_world.Thing(place, "red", shape, size, (x + dx * JITTER, y + dy * JITTER))
        corners = sample_world.outline(thing)
        for px, py in itertools.product((x - HALF, x, x + HALF), (y - HALF, y, y + HALF)):
            assert inside(px, py, corners)
        for px, py in corners:
            # Nothing crosses into another quarter, and next to nothing is lost where 64 is cut out of 76.
            assert (px < 0.5) == (x < 0.5)
            assert (py < 0.5) == (y < 0.5)
            assert 0.06 < px < 0.94
            assert 0.06 < py < 0.94


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """A convex polygon has an inner point on the same side of all its edges."""
    sides = [
        (bx - ax) * (y - ay) - (by - ay) * (x - ax) for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1])
    ]
    return min(sides) > 0 or max(sides) < 0


@pytest.mark.parametrize("side", [256, 64])
def test_a_picture_can_be_scored_from_its_patches(world: Path, side: int) -> None:
    """Whoever looks at the patches alone finds every colour, every empty place and the ground; also at 64 pixels."""
    truth = json.loads((world / "truth_val.json").read_text())
    known = {**truth["world"]["colours"], **truth["world"]["grounds"]}
    for scene in truth["scenes"]:
        image = Image.open(world / "images" / "val" / f"SAMPLE_val_{scene['image_id']:012d}.jpg")
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)).astype(float)
        objects = {thing["place"]: thing["colour"] for thing in scene["objects"]}
        for name, place in truth["world"]["places"].items():
            (x, y), half = place["centre"], place["half"]
            rows, columns = (slice(int((v - half) * side), math.ceil((v + half) * side)) for v in (y, x))
            seen = pixels[rows, columns].reshape(-1, 3).mean(axis=0)
            nearest = min(known, key=lambda kind: math.dist(known[kind], seen))
            assert nearest == objects.get(name, scene["ground"]), (scene, name, seen)


def test_boxes_and_polygons_say_where_the_shapes_are(world: Path) -> None:
    content = json.loads((world / "annotations" / "instances_val.json").read_text())
    truth = {scene["image_id"]: scene for scene in json.loads((world / "truth_val.json").read_text())["scenes"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert len(names) == len(COLOURS) * len(SHAPES)
    assert len(content["annotations"]) == sum(len(scene["objects"]) for scene in truth.values())
    for entry in content["annotations"]:
        thing = truth[entry["image_id"]]["objects"][entry["id"] % 10]
        assert names[entry["category_id"]] == f"{thing['colour']} {thing['shape']}"
        image = Image.open(world / "images" / "val" / f"SAMPLE_val_{entry['image_id']:012d}.jpg").convert("RGB")
        colour = np.array(COLOURS[thing["colour"]])
        found = np.linalg.norm(np.asarray(image).astype(float) - colour, axis=2) < 45
        ys, xs = np.nonzero(found)
        x, y, width, height = entry["bbox"]
        within = (xs >= x - 1) & (xs < x + width + 1) & (ys >= y - 1) & (ys < y + height + 1)
        assert abs(within.sum() - entry["area"]) < 0.09 * entry["area"] + 12
        points = np.array(entry["segmentation"][0]).reshape(-1, 2)
        assert points.min(axis=0) == pytest.approx([x, y])
        assert points.max(axis=0) == pytest.approx([x + width, y + height], abs=0.02)


# Ceilings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", [(1, 4), (4, 4), (2, 3)])
def test_ceilings_are_those_of_the_best_guesser_over_all_scenes(objects: tuple[int, int]) -> None:
    """Every scene and every caption enumerated, with as many kinds as needed: no formula, only counting.

    Attributes are independent and one at a time: a scene is who is where and one attribute of each.
    """
    stated = sample_world.ceilings(objects)
    for name, kinds in (("colour_accuracy", 6), ("shape_accuracy", 3), ("size_accuracy", 2)):
        assert stated[name]["chance"] == pytest.approx(best_share(kinds, objects, told=lambda scene, place: None))
        caption = best_share(kinds, objects, told=lambda scene, place: (len(scene), place, scene[place]))
        assert stated[name]["caption"] == pytest.approx(caption)
        assert stated[name]["dialogue"] == 1.0
    assert stated["presence_accuracy"]["chance"] == pytest.approx(
        best_presence(objects, told=lambda where, place: None)
    )
    assert stated["presence_accuracy"]["caption"] == pytest.approx(
        best_presence(objects, told=lambda where, place: (len(where), place))
    )
    assert stated["ground_accuracy"] == {"chance": 0.25, "caption": 0.25, "dialogue": 1.0}
    if objects == (1, 4):
        assert stated["colour_accuracy"]["caption"] == pytest.approx(0.5)
    if objects == (4, 4):
        assert stated["colour_accuracy"]["caption"] == pytest.approx(0.375)
    assert stated["colour_accuracy"]["chance"] == pytest.approx(1 / 6)


def best_share(kinds: int, objects: tuple[int, int], told: Callable) -> float:
    """Of all occupied places, the share guessed right by who knows the odds given what was told, per place."""
    odds: dict = defaultdict(lambda: defaultdict(lambda: np.zeros(kinds)))
    occupied = 0.0
    numbers = range(objects[0], objects[1] + 1)
    for number in numbers:
        sets = list(itertools.combinations(range(4), number))
        for where in sets:
            for values in itertools.product(range(kinds), repeat=number):
                scene = dict(zip(where, values))
                weight = 1 / len(numbers) / len(sets) / kinds**number
                occupied += weight * number
                for named in where:
                    for place, value in scene.items():
                        odds[told(scene, named)][place][value] += weight / number
    return sum(counts.max() for places in odds.values() for counts in places.values()) / occupied


def best_presence(objects: tuple[int, int], told: Callable) -> float:
    odds: dict = defaultdict(lambda: defaultdict(lambda: np.zeros(2)))
    numbers = range(objects[0], objects[1] + 1)
    for number in numbers:
        sets = list(itertools.combinations(range(4), number))
        for where, place in itertools.product(sets, range(4)):
            for named in where:
                odds[told(where, named)][place][int(place in where)] += 1 / len(numbers) / len(sets) / number
    return sum(counts.max() for places in odds.values() for counts in places.values()) / 4


def test_counting_captions_and_colours_gives_the_stated_ceiling() -> None:
    """The same by playing: a guesser who reads the caption and says red otherwise."""
    right = occupied = 0
    for scene, draw in scenes(3000):
        caption = sample_words.captions(scene, draw, 1)[0]
        place, colour = re.findall(PLACE, caption)[0], re.findall(ARTICLE_NAME, caption)[0][1]
        right += sum(thing.colour == (colour if thing.place == place else "red") for thing in scene.things)
        occupied += len(scene.things)
    assert right / occupied == pytest.approx(sample_world.ceilings()["colour_accuracy"]["caption"], abs=0.02)


# On disk ----------------------------------------------------------------------------------------------------------


def checksums(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world: Path, tmp_path: Path) -> None:
    sample_files.make(tmp_path / "again", SMALL)
    assert checksums(tmp_path / "again") == checksums(world)
    sample_files.make(tmp_path / "other", WorldSettings(seed=8, train=60, val=40, image_size=128))
    same = checksums(tmp_path / "other").items() & checksums(world).items()
    assert not same


def test_a_larger_world_begins_with_the_smaller_one(world: Path, tmp_path: Path) -> None:
    sample_files.make(tmp_path / "larger", WorldSettings(train=70, val=41, image_size=128))
    larger, smaller = checksums(tmp_path / "larger"), checksums(world)
    pictures = [name for name in smaller if name.startswith("images/")]
    assert len(pictures) == 100
    assert all(larger[name] == smaller[name] for name in pictures)


def test_it_is_read_as_coco_and_visdial_are(world: Path, tmp_path: Path) -> None:
    for split, number in (("train", 60), ("val", 40)):
        path, report = prepare(world, split, tmp_path, CorpusSettings(), "1.0")
        assert (report["images"], report["captions"], report["rounds"]) == (number, 5 * number, 10 * number)
        assert not any(lack["count"] for lack in report["lacking"].values())
        truth = {
            scene["image_id"]: scene for scene in json.loads((world / f"truth_{split}.json").read_text())["scenes"]
        }
        for row in corpus.read(path).to_pylist():
            places, ground, _ = read_dialogue([(turn["question"], turn["answer"]) for turn in row["rounds"]])
            objects = truth[row["image_id"]]["objects"]
            assert ground == truth[row["image_id"]]["ground"]
            assert {p: tuple(told) for p, told in places.items() if told} == {
                thing["place"]: (thing["size"], thing["colour"], thing["shape"]) for thing in objects
            }
            assert row["visdial_caption"] in {caption["text"] for caption in row["captions"]}
            assert Image.open(world / "images" / split / row["file_name"]).size == (128, 128)


def test_an_older_world_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    tiny = WorldSettings(train=1, val=1, image_size=64)
    folder = tmp_path / "raw"
    sample_files.make(folder, WorldSettings(train=2, val=1, image_size=64))
    sample_files.make(folder, tiny)
    assert len(list((folder / "images" / "train").iterdir())) == 1

    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ChatPainterError, match=r"notes\.txt: not made by this command"):
        sample_files.make(folder, tiny)
    (folder / "notes.txt").unlink()
    # COCO's own annotations bear the same names, but no truth lies beside them.
    for split in ("train", "val"):
        (folder / f"truth_{split}.json").unlink()
    with pytest.raises(ChatPainterError, match="not made by this command"):
        sample_files.make(folder, tiny)
    assert (folder / "annotations" / "captions_train.json").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ChatPainterError, match="is a file"):
        sample_files.make(tmp_path / "file", tiny)


def test_a_run_cut_short_leaves_nothing(tmp_path: Path) -> None:
    class Cut(BaseException):
        pass

    def cut() -> None:
        raise Cut

    with pytest.raises(Cut):
        sample_files.make(tmp_path / "raw", SMALL, cut)
    assert list(tmp_path.iterdir()) == []
