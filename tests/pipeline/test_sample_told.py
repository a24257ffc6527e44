"""What the truth file says that captions and rounds tell, against reading their words."""

import json
import random
import re
from pathlib import Path

import pytest

from pipeline.corpora import sample_files, sample_words
from pipeline.corpora.sample_world import COLOURS, GROUNDS, PLACES, SHAPES, SIZES, Scene, WorldSettings

KINDS = {"colour": COLOURS, "shape": SHAPES, "size": SIZES}


def scenes(number: int = 400) -> list[tuple[int, Scene, random.Random]]:
    return list(sample_files.scenes("train", WorldSettings(seed=5, train=number)))


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def read(question: str, answer: str) -> tuple[set[str], set[str]]:
    """What someone understands of one round alone: facts told, and places (or the ground) spoken of."""
    places = [place for place in PLACES if place in question]
    if words(question) & {"ground", "lying", "background"}:
        named = words(question + " " + answer) & set(GROUNDS)
        return ({"ground"} if named and not answer.startswith("no") else set()), {"ground"}
    if not places:
        return set(), set(PLACES)
    (place,) = places
    if question.startswith("is there anything") or question.endswith("taken"):
        told = list(KINDS) if answer.startswith("no") else []
    elif re.search("nothing|empty", answer):
        told = list(KINDS)
    else:
        told = [kind for kind, values in KINDS.items() if words(answer) & set(values)]
    return {f"{place}: {kind}" for kind in told}, {place}


def test_every_round_tells_and_speaks_of_what_its_words_say() -> None:
    seen = set()
    for _, scene, draw in scenes():
        sample_words.captions(scene, draw)
        for said in sample_words.rounds(scene, draw):
            told, spoken = read(said.question, said.answer)
            assert (set(said.tells), set(said.speaks_of)) == (told, spoken), said
            seen.add((len(told), len(spoken), "ground" in spoken))
    # A place in one round; an object in three; the ground; a count or anything anywhere; a yes that leaves things open.
    assert seen == {(3, 1, False), (1, 1, False), (1, 1, True), (0, 4, False), (0, 1, False), (0, 1, True)}


def test_a_caption_tells_its_object_and_of_a_single_one_that_all_else_is_empty() -> None:
    for _, scene, draw in scenes(100):
        for caption in sample_words.captions(scene, draw):
            told = set(sample_words.caption_tells(scene, caption))
            named = {place for place in PLACES if place in caption}
            wanted = set(PLACES) if len(scene.things) == 1 else named
            assert len(named) == 1
            assert told == {f"{place}: {kind}" for place in wanted for kind in KINDS}


def test_the_rounds_together_tell_every_fact() -> None:
    for _, scene, draw in scenes(100):
        told = {fact for said in sample_words.rounds(scene, draw) for fact in said.tells}
        assert told == {"ground", *sample_words.facts(*PLACES)}


def test_the_truth_file_holds_it_in_the_order_of_the_annotations(tmp_path: Path) -> None:
    sample_files.make(tmp_path / "sample", WorldSettings(train=12, val=8, image_size=32))
    for split in ("train", "val"):
        truth = json.loads((tmp_path / f"sample/truth_{split}.json").read_text())["scenes"]
        talk = json.loads((tmp_path / f"sample/visdial/visdial_1.0_{split}.json").read_text())["data"]
        captions = json.loads((tmp_path / f"sample/annotations/captions_{split}.json").read_text())["annotations"]
        for scene, dialogue in zip(truth, talk["dialogs"], strict=True):
            assert scene["image_id"] == dialogue["image_id"]
            for said, told in zip(dialogue["dialog"], scene["rounds"], strict=True):
                facts, spoken = read(talk["questions"][said["question"]], talk["answers"][said["answer"]])
                assert set(told["tells"]) == facts
                assert set(told["speaks_of"]) == spoken
            texts = [one["caption"] for one in captions if one["image_id"] == scene["image_id"]]
            for text, told in zip(texts, scene["captions"], strict=True):
                assert {fact.split(":")[0] for fact in told["tells"]} >= {place for place in PLACES if place in text}


@pytest.mark.parametrize("number", [10, 14])
def test_dialogue_is_the_words_of_rounds(number: int) -> None:
    for _, scene, draw in scenes(20):
        state = draw.getstate()
        talk = sample_words.rounds(scene, draw, number)
        draw.setstate(state)
        assert sample_words.dialogue(scene, draw, number) == [(said.question, said.answer) for said in talk]
