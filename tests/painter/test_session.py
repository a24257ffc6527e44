"""One visitor's conversation, without a browser: what is taken, what is refused, what is shown."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from painter import Dialogue, Painter, html, interviewer
from painter.session import CAPTION_LETTERS, FRAMES, MOST_ROUNDS, NOISES, STEPS, TEXT_LETTERS, Frame, Session
from painter.studio import Refused, Studio
from store.errors import ChatPainterError
from trainer.logs.attention import AttentionMaps


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_shows_what_the_painter_paints(painter: Painter) -> None:
    session = Session(seed=3)
    session.begin(painter, "  a red circle\nat the top left ")
    session.answer(painter, "what is the ground like", "sand")

    expected = painter.paint("a red circle at the top left", [("what is the ground like", "sand")], NOISES, 3)

    assert (np.stack([pixels(png) for png in session.pictures]) == expected).all()
    assert [frame.rounds for frame in session.frames] == [0, 1]


def test_undo_leads_back_round_by_round_to_the_caption(painter: Painter) -> None:
    session = Session()
    session.begin(painter, "a red circle")
    first = session.pictures
    session.answer(painter, "what is the ground like", "sand")
    second = session.pictures
    session.answer(painter, "is there a large shape", "no")
    session.undo(painter)
    assert session.pictures == second
    session.undo(painter)
    assert session.pictures == first != second
    assert [frame.rounds for frame in session.frames] == [0]
    session.undo(painter)
    assert session.dialogue is None
    assert session.pictures == []
    with pytest.raises(Refused, match="nothing to take back"):
        session.undo(painter)


@pytest.mark.parametrize("words", ["", "   ", "\n\t", "\x00\x01", "x" * (CAPTION_LETTERS + 1)])
def test_captions_that_are_refused_change_nothing(painter: Painter, words: str) -> None:
    session = Session()
    with pytest.raises(Refused):
        session.begin(painter, words)
    assert session == Session()
    session.begin(painter, "a red circle")
    before = session.pictures
    for question, answer in ((words, "yes"), ("is it large", words), ("q" * (TEXT_LETTERS + 1), "yes")):
        with pytest.raises(Refused):
            session.answer(painter, question, answer)
    assert session.pictures == before
    assert session.rounds == ()


def test_longest_texts_are_taken_and_said_to_be_cut(painter: Painter) -> None:
    session = Session()
    session.begin(painter, "x" * CAPTION_LETTERS)
    session.answer(painter, "q" * TEXT_LETTERS, "ü" * TEXT_LETTERS)

    assert session.truncated
    assert "Only the beginning" in html.notice(session)


class Counting:
    """A painter that paints nothing, to talk to for long; its places listen to the newest round."""

    about, text_trained, listens = "8 × 8", True, True

    def __init__(self) -> None:
        self.calls = 0

    def paint(self, caption: str, rounds: Any, n: int, seed: int, truncation: float) -> np.ndarray:
        self.calls += 1
        return np.full((n, 8, 8, 3), len(rounds) % 256, np.uint8)

    def attention(self, caption: str, rounds: Any, n: int, seed: int, truncation: float) -> list[AttentionMaps]:
        tokens = ("caption", *(f"round {number}" for number in range(1, len(rounds) + 1)))
        share = np.zeros((len(tokens), 2, 2))
        share[0], share[-1, :, 1] = 0.6, 1.0
        share[0, :, 1] = 0.0 if len(tokens) > 1 else 1.0
        return [AttentionMaps(tokens, {2: share})] * n

    def read(self, dialogue: Any) -> Any:
        from painter.encoding import Notes

        return Notes([], False)


def test_five_hundred_rounds_and_not_one_more() -> None:
    painter: Any = Counting()
    session = Session()
    session.begin(painter, "a red circle")
    for number in range(MOST_ROUNDS):
        session.answer(painter, f"question {number}", "yes")

    with pytest.raises(Refused, match=f"{MOST_ROUNDS} rounds are the most"):
        session.answer(painter, "one more", "yes")

    assert len(session.frames) == FRAMES
    assert html.canvas_view(session).count("data-show") == FRAMES
    assert f"and {MOST_ROUNDS - FRAMES + 1} earlier" in html.canvas_view(session)
    assert html.chat_view(session).count("<li") == 1 + 3 * MOST_ROUNDS
    for _ in range(FRAMES + 3):
        session.undo(painter)
    assert len(session.rounds) == MOST_ROUNDS - FRAMES - 3
    assert session.frames[-1].rounds == len(session.rounds)


def test_the_real_painter_hears_five_hundred_rounds(painter: Painter) -> None:
    rounds = [(f"what is at the {'top' if i % 2 else 'bottom'} left", "a red circle") for i in range(MOST_ROUNDS)]

    assert painter.paint("a red circle", rounds).shape == (1, 256, 256, 3)


def test_a_painter_that_fails_leaves_the_visit_as_it_was(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    session.begin(painter, "a red circle")
    before = session.pictures, session.dialogue, list(session.frames)

    def fail(*_: Any) -> None:
        raise ChatPainterError("out of memory")

    monkeypatch.setattr(painter, "paint", fail)
    for act in (lambda: session.answer(painter, "is it large", "yes"), lambda: session.change_noise(painter, 3, 1.0)):
        with pytest.raises(ChatPainterError):
            act()
        assert (session.pictures, session.dialogue, session.frames) == before


def test_noises_choice_and_truncation(painter: Painter) -> None:
    session = Session()
    session.change_noise(painter, 5, 1.0)
    assert session.pictures == []
    session.begin(painter, "a red circle")
    session.choose(2)
    assert session.choice == 2
    for wrong in (-1, NOISES, 10**9):
        session.choose(wrong)
        assert session.choice == 2
    before = session.pictures
    session.change_noise(painter, 6, 1.0)
    assert session.pictures != before
    session.change_noise(painter, 2**40 + 5, 1.0)
    assert session.pictures == before, "seeds wrap around"
    for amount in (-4.0, 3.1, float("nan"), float("inf")):
        with pytest.raises(Refused, match="between 0 and 3"):
            session.change_noise(painter, 5, amount)
    assert session.pictures == before
    session.change_noise(painter, 5, 0.0)
    assert all((pixels(png) == pixels(session.pictures[0])).all() for png in session.pictures)


def test_interviewer_forgets_what_was_waved_aside_with_a_new_caption(painter: Painter, corpus: Path) -> None:
    bank = interviewer.from_corpus(corpus)
    session = Session()
    assert session.next_question(bank) is None
    session.begin(painter, "two shapes")
    first = session.next_question(bank)
    assert first is not None
    second = session.next_question(bank, skip=first.text + "?")
    assert second is not None
    assert second != first
    session.begin(painter, "two shapes")
    assert session.next_question(bank) == first
    assert session.next_question(None) is None


NASTY = "<img src=x onerror=hack()> \" ' ${1+1} {{value}} `x` \\ </li></script> &amp; <b>b</b>"


class Texts(HTMLParser):
    """All tags, attribute names and texts of a piece of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.said: list[str] = []
        self.values: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_markup_stays_words(painter: Painter) -> None:
    session = Session()
    session.begin(painter, NASTY)
    session.answer(painter, NASTY, NASTY)
    pieces = [
        html.canvas_view(session),
        html.chat_view(session),
        html.notice(session),
        html.notice(session, NASTY),
        html.suggestions([NASTY]),
        html.examples([NASTY]),
    ]

    for piece in pieces:
        found = Texts(piece)
        assert not found.tags & {"script", "b"} - ({"b"} if piece == pieces[2] else set())
        assert not {name for name in found.names if name.startswith("on")}
        assert "x" not in found.values, "no source of a picture was smuggled in"
        outside_data = re.sub(r"data:[\w/]+;base64,[\w+/=]*", "", piece)
        assert not set("{}$`\\") & set(outside_data), "nothing that a template language reads"
    assert "".join(Texts(pieces[1]).said).count("<img src=x onerror=hack()>") == 3
    assert NASTY in Texts(pieces[4]).values


def test_downloads_hold_what_is_shown(painter: Painter, tmp_path: Path) -> None:
    from pipeline.corpora import visdial

    session = Session(choice=1)
    session.begin(painter, "a red circle")
    session.answer(painter, "what is the ground like", "sand")
    links = dict(
        re.findall(r'<a id="(cp-save-\w+)" [^>]*href="data:[\w/]+;base64,([\w+/=]+)"', html.canvas_view(session))
    )

    assert base64.b64decode(links["cp-save-picture"]) == session.pictures[1]
    path = tmp_path / "dialogue.json"
    path.write_bytes(base64.b64decode(links["cp-save-dialogue"]))
    (said,) = visdial.read(path).dialogues.values()
    assert (said.caption, said.rounds) == ("a red circle", [("what is the ground like", "sand")])
    assert json.loads(path.read_text())["version"] == "1.0"


def told(*rounds: str) -> tuple[Session, Any]:
    """A session of "a red circle" in which these answers were given, and who painted it."""
    painter: Any = Counting()
    session = Session(seed=7, model="model")
    session.begin(painter, "a red circle")
    for number, answer in enumerate(rounds):
        session.answer(painter, f"question {number}", answer)
    return session, painter


def answers(session: Session) -> list[str]:
    return [answer for _, answer in session.rounds]


def test_what_was_taken_back_is_done_again_until_something_else_is_said() -> None:
    session, painter = told("one", "two")
    with pytest.raises(Refused, match="nothing that was taken back"):
        session.redo(painter)
    shown = session.pictures
    session.undo(painter)
    session.undo(painter)
    assert answers(session) == []
    session.redo(painter)
    session.redo(painter)
    assert answers(session) == ["one", "two"]
    assert session.pictures == shown
    assert [frame.rounds for frame in session.frames] == [0, 1, 2]
    session.undo(painter)
    session.answer(painter, "question 1", "other")
    with pytest.raises(Refused):
        session.redo(painter)
    session.undo(painter)
    assert answers(session) == ["one"]


def test_an_earlier_round_is_changed_in_its_place() -> None:
    session, painter = told("one", "two", "three")
    session.edit(1)
    assert "Round 2 is being changed" in html.notice(session)
    assert html.chat_view(session).count("cp-edited") == 1
    session.answer(painter, "question 1", "other")

    assert answers(session) == ["one", "other", "three"]
    assert session.editing is None
    assert [frame.rounds for frame in session.frames] == [0, 1, 3], "what followed the old round is no longer true"
    session.undo(painter)
    assert answers(session) == ["one", "two", "three"], "undo takes back the change, not the last round"
    session.edit(1)
    session.edit(1)
    assert session.editing is None, "asked again, it is left as it was"
    for wrong in (-1, 3, 10**9):
        session.edit(wrong)
        assert session.editing is None


def test_goes_on_from_any_picture() -> None:
    session, painter = told("one", "two", "three")
    session.branch(painter, 1)
    assert answers(session) == ["one"]
    assert [frame.rounds for frame in session.frames] == [0, 1]
    session.answer(painter, "question 1", "other")
    assert answers(session) == ["one", "other"]
    session.undo(painter)
    session.undo(painter)
    assert answers(session) == ["one", "two", "three"]
    for wrong in (-1, 3, 99):
        session.branch(painter, wrong)
        assert answers(session) == ["one", "two", "three"]


def test_each_picture_carries_its_words_and_seed() -> None:
    session, painter = told("one", "zwei ü")
    for number, png in enumerate(session.pictures):
        text = Image.open(io.BytesIO(png)).text["chatpainter"]  # type: ignore[attr-defined]
        again = Session.opened(Studio.of(painter), text)
        assert (again.dialogue, again.seed, again.choice) == (session.dialogue, 7, number)
        assert again.pictures == session.pictures
    saved = Session.opened(Studio.of(painter), session.saved().decode())
    assert (saved.dialogue, saved.seed, saved.pictures) == (session.dialogue, 7, session.pictures)


def test_a_tab_that_is_loaded_again_has_its_strip_undo_and_redo() -> None:
    """After answers, a change, going on from an earlier picture, and two steps back."""
    session, painter = told("one", "two", "three", "four")
    session.edit(1)
    session.answer(painter, "question 1", "other")
    session.branch(painter, 3)
    session.answer(painter, "question 3", "new")
    session.undo(painter)
    session.undo(painter)
    again = Session.restored(Studio.of(painter), session.remember())
    assert again.past == session.past
    assert again.future == session.future
    assert again.frames == session.frames
    assert len(session.frames) > 2
    for act in (Session.redo, Session.redo, Session.undo, Session.undo, Session.undo, Session.undo):
        act(session, painter)
        act(again, painter)
        assert (again.dialogue, again.pictures, again.frames) == (session.dialogue, session.pictures, session.frames)
    # What is kept in a file or a picture has no history.
    assert "history" not in session.saved().decode()
    assert b"history" not in session.pictures[0]


def test_what_a_tab_remembers_of_the_longest_session_can_be_sent() -> None:
    """Every round is written once, however many dialogues have it."""
    session, painter = told()
    rounds = tuple((f"{n} {'q' * (TEXT_LETTERS - 4)}", f"{n} {'ü' * (TEXT_LETTERS - 4)}") for n in range(MOST_ROUNDS))
    session.dialogue = Dialogue("a red circle", rounds)
    session.past = [Dialogue("a red circle", rounds[:n]) for n in range(MOST_ROUNDS - STEPS, MOST_ROUNDS)]
    session.frames = [Frame(n, []) for n in range(MOST_ROUNDS - FRAMES + 1, MOST_ROUNDS + 1)]
    remembered = session.remember()
    assert len(remembered.encode()) < 2**20  # a request may have 2 MiB
    again = Session.restored(Studio.of(painter), remembered)
    assert again.past == session.past
    assert [frame.rounds for frame in again.frames] == [frame.rounds for frame in session.frames]


def test_where_too_many_wait_the_words_come_back_without_the_strip() -> None:
    session, painter = told("one", "two")
    calls = []

    class Busy(Counting):
        def paint(self, *arguments: Any) -> np.ndarray:
            calls.append(arguments)
            if len(calls) > 1:
                raise Refused("Too many pictures are waiting")
            return painter.paint(*arguments)

    again = Session.restored(Studio.of(Busy()), session.remember())
    assert again.dialogue == session.dialogue
    assert again.past == session.past
    assert [frame.rounds for frame in again.frames] == [2]


def test_what_was_listened_to_is_shown_while_asked_for() -> None:
    session, painter = told()
    assert not session.heard
    session.attend(painter)
    assert [name for _, name, _ in html._listened(session)] == ["caption"]
    session.answer(painter, "what is the ground like", "sand")
    view = html.canvas_view(session)
    assert 'alt="Listened to: top left: caption (60 %), top right: round 1 (100 %)' in view
    assert html._listened(session) == [
        ("#882255", "caption", ""), ("#332288", "round 1", "what is the ground like? sand")
    ]  # fmt: skip
    session.attend(painter)
    assert "cp-heard" not in html.canvas_view(session)
    painter.listens = False
    session.answer(painter, "is it large", "no")
    session.attend(painter)
    assert not session.attending
    assert "cp-listen" not in html.canvas_view(session)


def test_another_model_paints_the_same_words_or_everything_stays() -> None:
    session, painter = told("one")

    class Broken(Counting):
        def paint(self, *_: Any) -> np.ndarray:
            raise ChatPainterError("no weights")

    broken: Any = Broken()
    studio = Studio({"good": lambda: (painter, None), "bad": lambda: (broken, None)})
    assert (studio.known("bad"), studio.known("none"), studio.known("")) == ("bad", "good", "good")
    before = session.pictures
    with pytest.raises(ChatPainterError):
        session.change_model(broken, "bad")
    assert (session.model, session.pictures) == ("model", before)
    session.change_model(painter, "good")
    assert session.model == "good"
    assert json.loads(session.remember())["model"] == "good"
