"""The interviewer asks what is unknown, in questions that people asked."""

import json
from pathlib import Path

import pytest

from painter import interviewer
from painter.dialogue import Dialogue
from painter.interviewer import Interviewer, learn
from store.errors import ChatPainterError

CORNERS = ("top left", "top right", "bottom left", "bottom right")


@pytest.fixture(scope="module")
def shapes() -> Interviewer:
    """Learnt from scenes whose ground and corners vary, and whose frame never does."""
    said = []
    for number in range(300):
        rounds = [(f"what is at the {corner}", ("nothing", "a red circle", "a blue square")[(number >> i) % 3])
                  for i, corner in enumerate(CORNERS)]  # fmt: skip
        rounds.append(("what is the ground like?", ("sand", "grass", "snow", "water")[number % 4]))
        rounds.append(("is there a frame", "no"))
        said.append(Dialogue(f"scene with {'a boat' if number % 4 == 3 else 'shapes'}", tuple(rounds)))
    return learn(said)


def test_asks_for_everything_that_varies_once_and_then_falls_silent(shapes: Interviewer) -> None:
    rounds: list[tuple[str, str]] = []
    while question := shapes.ask("some shapes", rounds):
        rounds.append((question.text, question.answers[0]))

    asked = [question for question, _ in rounds]
    assert sorted(asked) == sorted([f"what is at the {corner}" for corner in CORNERS] + ["what is the ground like"])


def test_does_not_ask_what_was_said(shapes: Interviewer) -> None:
    rounds = [("what can you see at the top left?", "a green star")]
    caption = "a red circle at the bottom right"

    asked: list[str] = []
    while question := shapes.ask(caption, rounds, skip=asked):
        asked.append(question.text)

    assert "what is at the top left" not in asked
    assert "what is at the bottom right" not in asked
    assert "what is at the top right" in asked


def test_waves_aside_and_suggests(shapes: Interviewer) -> None:
    first = shapes.ask("some shapes", [])
    assert first is not None
    second = shapes.ask("some shapes", [], skip=[first.text.upper() + " ?"])
    assert second is not None
    assert second.text != first.text
    assert set(shapes.suggestions("What is the ground like?")) == {"sand", "grass", "snow", "water"}
    assert shapes.suggestions("never asked") == []


def test_words_of_the_caption_call_for_questions() -> None:
    said = []
    for number in range(200):
        about = "a dog on a beach" if number % 2 else "a plate of food"
        question = "is the dog brown" if number % 2 else "is the food hot"
        said.append(Dialogue(about, ((question, "yes" if number % 4 < 2 else "no"), ("is it sunny", "yes"))))
    bank = learn(said)

    for caption, topic in (("my dog", "dog"), ("some food", "hot")):
        offered = bank.ask(caption.replace("my ", "a big "), [])
        assert offered is not None
        assert topic in offered.text
    dog = next(question for question in bank.questions if question.text == "is the dog brown")
    assert dog.cues["beach"] > 0.4
    assert dog.cues["food"] < -1


def test_real_dialogues(shared_data: Path) -> None:
    from painter.dialogue import read

    said = read(shared_data / "visdial" / "visdial_layout_vispro_train2014.json")
    bank = learn(said)

    assert len(bank.questions) > 100
    assert len(bank.examples) == 5
    rounds: list[tuple[str, str]] = []
    for _ in range(10):
        question = bank.ask("a man riding a wave on a surfboard", rounds)
        assert question is not None
        assert question.text not in [asked for asked, _ in rounds]
        rounds.append((question.text, "yes"))


@pytest.mark.parametrize("caption", ["", "?", "x" * 5000, "word " * 3000])
def test_any_caption(shapes: Interviewer, caption: str) -> None:
    assert shapes.ask(caption, [("", ""), ("?" * 400, "?")]) is not None


def test_of_nothing() -> None:
    assert learn([]).ask("a dog", []) is None
    assert learn([Dialogue("", (("", ""), ("?", "yes")))]).ask("a dog", []) is None


def test_round_trip_and_where_it_is_found(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = interviewer.from_corpus(corpus)
    assert {"what is the ground like", "is there a large shape"} <= {question.text for question in learnt.questions}
    (tmp_path / interviewer.BANK).write_text(json.dumps(learnt.to_json()))

    assert interviewer.find(tmp_path) == learnt
    assert interviewer.find(tmp_path / "generator.safetensors") == learnt
    monkeypatch.chdir(tmp_path)
    (tmp_path / interviewer.BANK).rename(tmp_path / "away")
    assert interviewer.find(tmp_path) is None
    assert interviewer.find(tmp_path, corpus) == learnt
    endless = json.dumps(learnt.to_json()).replace('"count": ', '"count": 1e999, "was": ', 1)
    for content in (
        "{",
        "[]",
        '{"format": "chatpainter-interviewer", "version": 2}',
        '{"questions": [1]}',
        "[" * 9999,
        endless,
    ):
        (tmp_path / interviewer.BANK).write_text(content)
        with pytest.raises(ChatPainterError, match="export the model again"):
            interviewer.find(tmp_path)
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(ChatPainterError, match="not a corpus"):
        interviewer.find(tmp_path, tmp_path / "broken.parquet")
    with pytest.raises(ChatPainterError, match="no such corpus"):
        interviewer.find(tmp_path, tmp_path / "nowhere.parquet")


def test_does_not_ask_the_same_in_other_words() -> None:
    ways = ("what is the ground like", "what are they standing on", "what is the surface")
    said = []
    for number in range(300):
        ground = ("sand", "it is grass", "snow", "there is water")[number % 4]
        said.append(Dialogue("some things", ((ways[number % 3], ground), ("how many things", "23456"[number % 5]))))
    bank = learn(said)

    asked = bank.ask("stuff", [(ways[1], "sand")])
    assert asked is not None
    assert asked.text == "how many things"
    other_ways = [question for question in bank.questions if question.text in ways]
    assert all(len(question.apart) == 2 for question in other_ways)


def test_answers_that_say_the_same_are_offered_once() -> None:
    words = ["yes", "yes it is", "yep", "no", "nope", "it is sand", "sand", "sand", "the sand"]
    (question,) = learn([Dialogue("a beach", (("is it sandy", word),)) for word in words]).questions

    assert sorted(question.answers) == ["no", "sand", "yes"]
    assert question.spread == pytest.approx(
        -(3 * 2 / 9 * 0 + 3 / 9 * -1.584962 + 2 / 9 * -2.169925 + 4 / 9 * -1.169925)
    )
