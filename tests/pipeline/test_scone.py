"""SCONE: states drawn and read back, the start in words or as a picture, floors, the truth, hostile files."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.corpora import films, scone
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import prepare
from pipeline.corpora.scone_worlds import PAPER, WORLDS, State
from pipeline.prepare_cli import main
from store.errors import ChatPainterError
from trainer.evaluation.scenes import SceneReader, floors, right
from trainer.evaluation.truth import Truth

# States -----------------------------------------------------------------------------------------------------------

PEOPLE = st.one_of(st.just("__"), st.text("roygbp", min_size=1, max_size=1).flatmap(
    lambda shirt: st.sampled_from("roygbp_").map(lambda hat: shirt + hat)))  # fmt: skip
STATES = {
    "scene": st.lists(PEOPLE, min_size=10, max_size=10),
    "alchemy": st.lists(st.one_of(st.just("_"), st.text("roygbp", min_size=1, max_size=4)), min_size=7, max_size=7),
    "tangrams": st.permutations("ABCDE").flatmap(
        lambda order: st.integers(0, 5).map(lambda n: [*order[:n], *[""] * (5 - n)])
    ),
}


@pytest.mark.parametrize("domain", WORLDS)
@given(data=st.data(), side=st.sampled_from([38, 64, 76, 128]))
def test_any_state_is_read_back_from_its_picture(domain: str, data: st.DataObject, side: int) -> None:
    world = WORLDS[domain]
    state = tuple(data.draw(STATES[domain]))
    assert world.state(world.things(state)) == state
    assert world.read(world.picture(state, side)) == state


@pytest.mark.parametrize("side", [38, 64])
@pytest.mark.parametrize("domain", WORLDS)
def test_every_state_of_the_dev_split_is_read_back(shared_data: Path, domain: str, side: int) -> None:
    dialogues = scone._read(shared_data / "scone" / domain / "dev_sequences.json", WORLDS[domain])
    states = {state for _, _, seen in dialogues for state in seen}
    assert len(states) == {"scene": 1012, "alchemy": 1468, "tangrams": 310}[domain]
    assert [state for state in states if WORLDS[domain].read(WORLDS[domain].picture(state, side)) != state] == []


@pytest.mark.parametrize(("domain", "share"), [("scene", 0.684), ("alchemy", 0.411), ("tangrams", 0.201)])
def test_floor_of_copying_the_start(shared_data: Path, domain: str, share: float) -> None:
    dialogues = scone._read(shared_data / "scone" / domain / "train_sequences.json", WORLDS[domain])
    assert scone.floor(states for _, _, states in dialogues) == pytest.approx(share, abs=6e-4)


def test_states_in_words() -> None:
    scene = WORLDS["scene"].parse("1:__ 2:ry 3:b_ 4:__ 5:__ 6:__ 7:__ 8:__ 9:__ 10:__", "x")
    assert WORLDS["scene"].facts(scene) == {
        1: "there is a person in a red shirt and a yellow hat at the second place",
        2: "there is a person in a blue shirt and no hat at the third place",
    }
    beakers = WORLDS["alchemy"].parse("1:_ 2:ggr 3:b 4:_ 5:_ 6:_ 7:oooo", "x")
    assert list(WORLDS["alchemy"].facts(beakers)) == list(range(7))  # an empty one is there, too
    assert [WORLDS["alchemy"].facts(beakers)[slot] for slot in range(3)] == [
        "the first beaker is empty",
        "the second beaker holds two green then one red",
        "the third beaker holds one brown",
    ]
    figures = WORLDS["tangrams"].facts(("C", "A", "", "", ""))
    assert figures == {0: "the first figure is c", 1: "the second figure is a"}


@pytest.mark.parametrize("domain", WORLDS)
@given(data=st.data())
def test_told_in_words_the_start_is_complete(domain: str, data: st.DataObject) -> None:
    state: State = tuple(data.draw(STATES[domain]))
    rounds = scone.told(WORLDS[domain], state)
    assert [text for text, _ in rounds[1:]] == list(WORLDS[domain].facts(state).values())
    assert rounds[-1][1] == state
    for (_, before), (_, after) in itertools.pairwise(rounds):
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1


@pytest.mark.parametrize(
    ("domain", "slot", "pitch", "left"), [("scene", "gr", 2, 6), ("alchemy", "ggg", 4, 0), ("tangrams", "A", 6, 1)]
)
def test_what_stands_in_a_row_looks_alike_wherever_it_is(domain: str, slot: str, pitch: int, left: int) -> None:
    world = WORLDS[domain]
    state = world.parse(" ".join(f"{n}:{slot}" for n in range(1, world.slots + 1)), "x")
    cropped = np.asarray(world.picture(state, 76).reduce(2))[3:35, 3:35]  # as training crops it, to 32 pixels
    slots = cropped[:, left : left + world.slots * pitch].reshape(32, world.slots, pitch, 3)
    assert (slots == slots[:, :1]).all()
    assert (slots.min(axis=2) != PAPER).any(axis=2).mean(axis=0).min() > 0.25  # they stand in front of it


def test_units_of_a_beaker_look_alike() -> None:
    alchemy = WORLDS["alchemy"]
    beaker = np.asarray(alchemy.picture(alchemy.parse("1:ggg 2:_ 3:_ 4:_ 5:_ 6:_ 7:_", "x"), 38))[3:35, 3:7]
    lower, upper = beaker[20:24], beaker[16:20]
    assert (lower == upper).all()
    assert (upper[1, 1] != beaker[9, 1]).any()  # above the liquid there is none


# Order ------------------------------------------------------------------------------------------------------------


def done(action: str, slots: list[str]) -> None:
    """One action as SCONE writes it ("insert 3 B", "pop 2"); what cannot be done is passed over."""
    verb, slot, *what = action.split()
    at = int(slot) - 1
    if verb == "insert":
        slots.insert(at, what[0])
    elif verb == "remove":
        del slots[at : at + 1]
    elif verb == "push":
        slots[at] = slots[at].strip("_") + what[0]
    elif verb == "pop":
        slots[at] = slots[at].strip("_")[:-1] or "_"
    else:
        letter = what[0] if what else "_"
        shirt, hat = tuple(slots[at])
        slots[at] = letter + hat if verb.endswith("person") else shirt + letter


# What a bar on order can ask: who has faults may lose more or less of what is left.
@pytest.mark.parametrize(
    ("domain", "of_slots", "of_whole"), [("scene", 0.55, 0.95), ("alchemy", 0.14, 0.52), ("tangrams", 0.62, 0.94)]
)
def test_what_who_does_every_action_loses_when_turns_are_reversed(
    shared_data: Path, domain: str, of_slots: float, of_whole: float
) -> None:
    world = WORLDS[domain]
    held_out = json.loads((shared_data / "scone" / domain / "train_sequences.json").read_text())[-352:]
    slots_right, whole = Counter[str](), Counter[str]()
    for dialogue in held_out:
        turns = [turn["actions"] for turn in dialogue["utterances"]]
        wanted = world.parse(dialogue["utterances"][-1]["after_env"], "x")
        for name, heard in (("told", turns), ("reversed", turns[::-1]), ("start", [])):
            slots = [slot for slot in world.parse(dialogue["initial_env"], "x") if slot]
            for action in itertools.chain.from_iterable(heard):
                done(action, slots)
            ends = [*slots, *[""] * world.slots][: world.slots]
            slots_right[name] += sum(map(str.__eq__, ends, wanted))
            whole[name] += ends == list(wanted)
    assert (slots_right["told"], whole["told"]) == (len(held_out) * world.slots, len(held_out))
    for count, share in ((slots_right, of_slots), (whole, of_whole)):
        lost = (count["told"] - count["reversed"]) / (count["told"] - count["start"])
        assert lost == pytest.approx(share, abs=0.01)


# Files ------------------------------------------------------------------------------------------------------------

ENVS = [
    "1:__ 2:ry 3:__ 4:__ 5:__ 6:__ 7:__ 8:__ 9:__ 10:b_",
    "1:g_ 2:ry 3:__ 4:__ 5:__ 6:__ 7:__ 8:__ 9:__ 10:b_",
    "1:g_ 2:ry 3:__ 4:__ 5:__ 6:__ 7:__ 8:__ 9:__ 10:by",
]


def sequence(key: str = "dev-601", envs: list[str] = ENVS) -> dict[str, Any]:
    turns = [{"instruction": f"do  it {n}", "after_env": env, "actions": []} for n, env in enumerate(envs[1:])]
    return {"identifier": key, "utterances": turns, "initial_env": envs[0]}


def source(folder: Path, entries: Any) -> Path:
    (folder / "scene").mkdir(parents=True)
    for split in scone.SPLITS:
        (folder / "scene" / f"{split}_sequences.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("start", ["shown", "words"])
def test_a_corpus_with_a_picture_and_the_truth_of_every_round(tmp_path: Path, start: scone.Start) -> None:
    folder, raw = source(tmp_path / "scone", [sequence()]), tmp_path / "raw"
    assert scone.make(folder, raw, "scene", start, 64) == {"train": (1, 0.8), "dev": (1, 0.8)}
    for split in scone.SPLITS:
        _, report = prepare(raw, split, tmp_path / "corpus", CorpusSettings(), None)
        assert (report["images"], report["rounds"]) == (1, 2 if start == "shown" else 4)
    found = films.read(films.films_file(raw, "dev"))
    (film,) = found.films.values()
    seen = [Image.open(raw / "images/dev" / one.file_name) for one in (film.first, *film.turns)]
    states = [" ".join(f"{n}:{slot}" for n, slot in enumerate(WORLDS["scene"].read(one), 1)) for one in seen]
    told = ["1:__ 2:__ 3:__ 4:__ 5:__ 6:__ 7:__ 8:__ 9:__ 10:__", "1:__ 2:ry 3:__ 4:__ 5:__ 6:__ 7:__ 8:__ 9:__ 10:__"]
    assert states == (told if start == "words" else []) + ENVS
    assert {found.objects[kind] for kind in film.turns[-1].present} == {
        "red shirt", "yellow hat", "green shirt", "blue shirt",
    }  # fmt: skip
    # What the trainer's reader reads off every picture is the truth of every round, cropped or not.
    truth = Truth.load(raw / "truth_dev.json")
    (image_id,) = truth.scenes
    places = list(truth.places)
    assert [[places[one] for one in slot] for slot in truth.slots] == [[f"shirt {n}", f"hat {n}"] for n in range(1, 11)]
    copied = floors(truth, np.array([image_id]))["copy_start"]["slots"]
    assert copied == pytest.approx(0.8)
    wanted = truth.targets_by_round(np.array([image_id]), len(film.turns))[0]
    kinds = np.array([head.kind for head in truth.heads()])
    for kept, cut in ((1, slice(None)), (64 / 76, slice(6, 70))):
        pictures = np.stack([np.asarray(one.resize((76, 76) if kept < 1 else (64, 64)))[cut, cut] for one in seen])
        reading = SceneReader(truth, kept).read(pictures)
        assert (reading.grounds == 0).all()
        assert (reading.colours + 1 == wanted[:, kinds == "colour"]).all()
        assert right(reading, truth, np.array([image_id]))[-1].all()
    rounds = truth.words[image_id]["rounds"]
    assert [one["speaks_of"] for one in rounds[-2:]] == [["shirt 1"], ["hat 10"]]
    assert len(truth.words[image_id]["captions"][0]["tells"]) == (61 if start == "shown" else 1)


def test_dialogues_held_out_of_training_are_a_split_of_their_own(tmp_path: Path) -> None:
    folder = source(tmp_path / "scone", [sequence(key) for key in "abcde"])
    made = scone.make(folder, tmp_path / "raw", "scene", image_size=64, hold_out=2)
    assert {split: count for split, (count, _) in made.items()} == {"train": 3, "dev": 5, "test": 2}
    keys = {}
    for split in made:
        scenes = json.loads((tmp_path / f"raw/truth_{split}.json").read_text())["scenes"]
        keys[split] = "".join(one["key"] for one in scenes)
    assert keys == {"train": "abc", "dev": "abcde", "test": "de"}
    with pytest.raises(ChatPainterError, match="5 dialogues cannot be held out of 5"):
        scone.make(folder, tmp_path / "raw", "scene", image_size=64, hold_out=5)


def test_slots_of_every_domain() -> None:
    assert WORLDS["tangrams"].places_of_slots() == [[f"figure {n}"] for n in range(1, 6)]
    beakers = WORLDS["alchemy"].places_of_slots()
    assert (len(beakers), beakers[2]) == (7, [f"beaker 3 unit {layer}" for layer in range(1, 5)])


def test_the_command(tmp_path: Path) -> None:
    folder = source(tmp_path / "scone", [sequence("a"), sequence("b")])
    command = ["scone", "--source", str(folder), "--domain", "scene", "--raw", str(tmp_path / "raw"), "--limit", "1"]
    for _ in range(2):  # its own folder is replaced
        result = CliRunner().invoke(main, command, catch_exceptions=False)
        assert "1 train, 1 dev dialogues" in result.output
        assert "right in a copy of the first: 0.800 train, 0.800 dev" in result.output
    (tmp_path / "raw/mine.txt").write_text("mine")
    assert "not made by this command" in CliRunner().invoke(main, command).output


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "expected a JSON list"),
        ([], "holds no dialogue"),
        ([7], "expected an object with 'identifier'"),
        ([sequence() | {"utterances": []}], "has no turn"),
        ([sequence() | {"initial_env": 3}], "'initial_env' should be a text"),
        ([sequence(envs=["1:ry", *ENVS[1:]])], "1 slots where scene has 10"),
        ([sequence(envs=[ENVS[0].replace("2:ry", "2:_y"), *ENVS[1:]])], "'2:_y' is no slot of scene"),
        ([sequence(envs=[ENVS[0].replace("2:ry", "3:ry"), *ENVS[1:]])], "'3:ry' is no slot of scene"),
        ([sequence(envs=[ENVS[0], ENVS[1] + " 11:__"])], "'11:__' is no slot of scene"),
    ],
)
def test_hostile_files_end_in_one_line(tmp_path: Path, entries: Any, message: str) -> None:
    folder = source(tmp_path / "scone", entries)
    with pytest.raises(ChatPainterError) as caught:
        scone.make(folder, tmp_path / "raw", "scene", "shown", 64)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "raw").exists()
