"""CoDraw's canvases: what a turn is under each convention, the picture after it, and that nothing is lost."""

import gzip
import itertools
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.corpora import codraw, corpus, films
from pipeline.corpora.codraw_canvases import GENEVA, Conventions, kind_of, turns
from pipeline.corpora.codraw_renderer import Renderer
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import prepare
from pipeline.prepare_cli import main
from store.errors import ChatPainterError
from trainer.evaluation.truth import Truth


def scene(*things: str, x: int = 100) -> str:
    """A scene as CoDraw writes it, of these sprites and one that is not in use."""
    used = [f"{name}.png,0,0,{kind},{x},200,0,0" for kind, name in enumerate(things)]
    return ",".join([str(len(things) + 1), *used, "t_9s.png,5,9,7,-10000,-10000,0,0"]) + ","


DIALOGUE: dict[str, Any] = {
    "dialog": [
        {"msg_t": "Hi", "msg_d": "hello !", "abs_d": ""},
        {"msg_t": "a  Sun , left", "msg_d": "ok", "abs_d": scene("s_3s")},
        {"msg_t": "make it smaller", "msg_d": "how much ?", "abs_d": scene("s_3s", x=120)},
        {"msg_t": "a girl smiling .", "msg_d": "Okay done", "abs_d": scene("s_3s", "hb1_3s", x=120)},
        {"msg_t": "no , crying", "msg_d": "", "abs_d": scene("s_3s", "hb1_7s", x=120)},
        {"msg_t": "thanks bye", "msg_d": "bye", "abs_d": ""},
    ]
}


def told(conventions: Conventions) -> list[tuple[str, str, list[str]]]:
    found = turns(DIALOGUE, conventions, "x")
    return [(turn.question, turn.answer, [thing.sprite for thing in turn.canvas]) for turn in found]


def test_turns_as_geneva_has_them() -> None:
    assert told(GENEVA) == [
        ("<teller> a sun left", "", ["s_3s"]),
        ("<teller> make it smaller a girl smiling no crying", "<drawer> how much", ["s_3s", "hb1_7s"]),
    ]


def test_every_switch() -> None:
    assert told(Conventions(drawer=False)) == [
        ("a sun left", "", ["s_3s"]),
        ("make it smaller a girl smiling no crying", "", ["s_3s", "hb1_7s"]),
    ]
    assert told(Conventions(chitchat="keep")) == [
        ("Hi a Sun , left", "hello ! ok", ["s_3s"]),
        ("make it smaller a girl smiling . no , crying thanks bye", "how much ? Okay done bye", ["s_3s", "hb1_7s"]),
    ]
    every = told(Conventions(join="none"))
    said = [("", ""), ("a sun left", ""), ("make it smaller", "how much"), ("a girl smiling", ""), ("no crying", "")]
    assert [(question, answer) for question, answer, _ in every] == [*said, ("", "")]
    shown = [[], ["s_3s"], ["s_3s"], ["s_3s", "hb1_3s"], ["s_3s", "hb1_7s"], ["s_3s", "hb1_7s"]]
    assert [canvas for *_, canvas in every] == shown
    assert [turn.canvas[0].x for turn in turns(DIALOGUE, Conventions(join="none"), "x")[1:3]] == [100, 120]


def test_a_dialogue_in_which_nothing_is_drawn_is_one_turn() -> None:
    entry = {"dialog": [{"msg_t": "a sun", "msg_d": "where", "abs_d": ""}, {"msg_t": "left", "msg_d": "", "abs_d": ""}]}
    (turn,) = turns(entry, Conventions(), "x")
    assert (turn.question, turn.answer, turn.canvas) == ("a sun left", "where", ())


@pytest.mark.parametrize(
    ("dialog", "message"),
    [
        ([{"msg_t": "a", "msg_d": "b"}], "turn 1: 'abs_d' is missing"),
        ([{"msg_t": "a", "msg_d": "b", "abs_d": "7"}], "turn 1: abs_d: not a scene"),
        ([{"msg_t": 3, "msg_d": "b", "abs_d": ""}], "'msg_t' should be a text"),
        ("hi", "'dialog' should be a list"),
    ],
)
def test_what_does_not_fit_is_named(dialog: Any, message: str) -> None:
    with pytest.raises(ChatPainterError) as caught:
        turns({"dialog": dialog}, Conventions(), "dialogue 7")
    assert caught.value.message.startswith("dialogue 7")
    assert message in caught.value.message


# Real dialogues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", ["added", "none"])
def test_nothing_of_a_real_dialogue_is_lost(shared_data: Path, join: Literal["added", "none"]) -> None:
    with gzip.open(shared_data / "codraw/codraw_dialogs.jsonl.gz", "rt") as file:
        entries = [json.loads(line) for line in itertools.islice(file, 80)]
    sprites = {path.stem for path in (shared_data / "codraw/Pngs").glob("*_*s.png")}
    assert len({kind_of(sprite) for sprite in sprites}) == 58
    for entry in entries:
        found = turns(entry, Conventions(join=join, chitchat="keep"), entry["key"])
        for part, of in (("question", "msg_t"), ("answer", "msg_d")):
            said = " ".join(getattr(turn, part) for turn in found).split()
            assert said == " ".join(turn[of] for turn in entry["dialog"]).split()
        kinds = [{kind_of(thing.sprite) for thing in turn.canvas} for turn in found]
        last = [turn["abs_d"] for turn in entry["dialog"] if turn["abs_d"]][-1]
        assert len(found[-1].canvas) == sum(one != "-10000" for one in last.rstrip(",").split(",")[5::8])
        if join == "added":
            assert all(after - before for before, after in zip([set(), *kinds], kinds, strict=False))


def test_the_corpus_has_a_picture_a_turn(shared_data: Path, tmp_path: Path) -> None:
    source, raw = shared_data / "codraw", tmp_path / "raw"
    command = ["codraw", "--source", str(source), "--raw", str(raw), "--limit", "2", "--canvases", "--tokens"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.output.startswith(f"{raw}: 2 train, 2 val, 2 test scenes")
    path, report = prepare(raw, "val", tmp_path / "corpus", CorpusSettings(), None)
    film = films.read(films.films_file(raw, "val"))
    assert len(film.objects) == 58
    truth = {one["image_id"]: one for one in json.loads((raw / "truth_val.json").read_text())["scenes"]}
    renderer = Renderer(source / "Pngs")
    empty = np.asarray(renderer.picture([]), int)
    for row in corpus.rows(corpus.read(path)):
        one = film.films[row.image_id]
        assert len(row.rounds) == len(one.turns) == len(truth[row.image_id]["turns"])
        assert row.rounds[0][0].startswith("<teller> ")
        first = np.asarray(Image.open(raw / "images/val" / one.first.file_name), int)
        assert np.abs(first - empty).mean() < 3
        for shown, things in zip(one.turns, truth[row.image_id]["turns"], strict=True):
            assert {film.objects[n] for n in shown.present} == {kind_of(thing["sprite"]) for thing in things}
        assert truth[row.image_id]["objects"] == truth[row.image_id]["turns"][-1]
        last = raw / "images/val" / one.turns[-1].file_name
        assert last.read_bytes() == (raw / "images/val" / row.file_name).read_bytes()
    assert report["rounds"] == sum(len(one.turns) for one in film.films.values())
    codraw.make(source, raw, limit=1)  # without canvases, over them
    assert not films.films_file(raw, "val").exists()


def test_what_is_written_is_what_pictures_are_scored_by(shared_data: Path, tmp_path: Path) -> None:
    codraw.make(shared_data / "codraw", tmp_path, limit=2, canvases=GENEVA)
    film = films.read(films.films_file(tmp_path, "val"))
    truth = Truth.load(tmp_path / "truth_val.json")
    assert truth.located
    assert set(truth.kind_of.values()) == set(film.objects)
    for image_id, one in film.films.items():
        shown = [one.first, *one.turns]
        found = truth.targets_by_round(np.array([image_id]), len(one.turns))[0]
        for present, state in zip(found, shown, strict=True):
            kinds = {truth.kind_of[name] for name, there in zip(truth.sprites, present, strict=True) if there}
            assert kinds == {film.objects[n] for n in state.present}
        x, y = truth.middles(np.array([image_id]))[0][found[-1] > 0].T
        assert -0.5 < x.min() <= x.max() < 1.5
        assert -0.5 < y.min() <= y.max() < 1.5
