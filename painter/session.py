"""One visitor's session on the chat page: what was said, what was painted, and how to take it back.

Nothing here knows of the web; the page calls it and draws what it finds.
"""

import contextlib
import io
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from painter.dialogue import MOST_ROUNDS, Dialogue, Round, is_blank
from painter.interviewer import Interviewer, Question
from painter.memory import History, Remembered, recall
from painter.studio import Paints, Refused, Studio
from store.errors import ChatPainterError
from trainer.logs.attention import AttentionMaps

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

CAPTION_LETTERS = 1000
TEXT_LETTERS = 300
NOISES = 4
FRAMES = 12
STEPS = 50
"""Acts that can be taken back; each keeps the words of a dialogue."""
SEEDS = 2**32


@dataclass(frozen=True)
class Frame:
    """The pictures after so many rounds, as JPEG, one a noise; kept small because every visitor keeps a few."""

    rounds: int
    jpegs: list[bytes]


@dataclass
class Session:
    """What one visitor has said so far and sees now. A new session has said nothing and sees nothing."""

    dialogue: Dialogue | None = None
    seed: int = 0
    truncation: float = 1.0
    choice: int = 0
    pictures: list[bytes] = field(default_factory=list)
    """PNG, one a noise: what the dialogue looks like now."""
    frames: list[Frame] = field(default_factory=list)
    """The newest frames, oldest first; the last one shows `pictures`."""
    skipped: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    truncated: bool = False
    seconds: float = 0.0
    model: str = ""
    past: list[Dialogue] = field(default_factory=list)
    """What was painted before, the newest last: for undo."""
    future: list[Dialogue] = field(default_factory=list)
    """What was taken back, the newest last: for redo."""
    editing: int | None = None
    """Round that the next answer takes the place of."""
    can_listen: bool = False
    attending: bool = False
    """Show what places listened to."""
    heard: list[tuple[bytes, AttentionMaps]] = field(default_factory=list)
    """While `attending`, one a noise: the coloured picture as JPEG, and what it shows."""

    @property
    def rounds(self) -> tuple[Round, ...]:
        return self.dialogue.rounds if self.dialogue else ()

    def begin(self, painter: Paints, caption: str) -> None:
        """Paint a new caption; whatever was said before is forgotten."""
        caption = _typed(caption, CAPTION_LETTERS, "caption")
        if not caption:
            raise Refused("Type a caption first: one sentence that says what is in the picture.")
        self._paint(painter, Dialogue(caption), self.seed, self.truncation, afresh=True)
        self.skipped, self.past, self.future = [], [], []

    def answer(self, painter: Paints, question: str, answer: str) -> None:
        """Add a round, or put it in the place of the one that is being edited, and repaint."""
        if self.dialogue is None:
            raise Refused("Paint a caption first; then the talk about it can begin.")
        question, answer = _typed(question, TEXT_LETTERS, "question"), _typed(answer, TEXT_LETTERS, "answer")
        if not question:
            raise Refused("Type a question, or take another one from the interviewer.")
        if not answer:
            raise Refused("Type an answer to the question, or choose one of those offered.")
        if self.editing is None and len(self.rounds) >= MOST_ROUNDS:
            raise Refused(f"{MOST_ROUNDS} rounds are the most that one picture takes; undo some or start again.")
        number = len(self.rounds) if self.editing is None else self.editing
        self._change(painter, (*self.rounds[:number], (question, answer), *self.rounds[number + 1 :]))

    def edit(self, number: int) -> None:
        """The next answer takes the place of this round; asked again, it does not."""
        self.editing = number if 0 <= number < len(self.rounds) and number != self.editing else None

    def branch(self, painter: Paints, rounds: int) -> None:
        """Go on from the picture after so many rounds; undo brings the later ones back."""
        if self.dialogue is not None and 0 <= rounds < len(self.rounds):
            self._change(painter, self.rounds[:rounds])

    def undo(self, painter: Paints) -> None:
        """Take back what was done last; with nothing left, the last round, and then the caption."""
        if self.dialogue is None:
            raise Refused("There is nothing to take back.")
        if not self.past and not self.rounds:
            self.forget()
            return
        before, now = self.past[-1] if self.past else self.dialogue.without(len(self.rounds) - 1), self.dialogue
        self._paint(painter, before, self.seed, self.truncation)
        self.past, self.future = self.past[:-1], [*self.future, now][-STEPS:]

    def redo(self, painter: Paints) -> None:
        """Do again what was taken back last."""
        if self.dialogue is None or not self.future:
            raise Refused("There is nothing that was taken back.")
        before = self.dialogue
        self._paint(painter, self.future[-1], self.seed, self.truncation)
        self.past, self.future = [*self.past, before][-STEPS:], self.future[:-1]

    def attend(self, painter: Paints) -> None:
        """Show, or no longer show, what places of the pictures listened to."""
        shown = not self.attending and self.can_listen
        self.heard = self._listen(painter, [_decoded(png) for png in self.pictures]) if shown else []
        self.attending = shown

    def change_model(self, painter: Paints, model: str) -> None:
        """Paint the same words with another model."""
        before, self.model = self.model, model
        try:
            if self.dialogue is not None:
                self._paint(painter, self.dialogue, self.seed, self.truncation, afresh=True)
        except ChatPainterError:
            self.model = before
            raise

    def forget(self) -> None:
        """As if nothing had been said; seed and truncation stay."""
        blank = Session(seed=self.seed, truncation=self.truncation, model=self.model)
        vars(self).update(vars(blank))

    def change_noise(self, painter: Paints, seed: int, truncation: float) -> None:
        """Paint the same words with other noises; older frames had the old ones, so the strip begins anew."""
        if not 0 <= truncation <= 3:  # NaN is neither
            raise Refused("The amount of noise lies between 0 and 3.")
        seed %= SEEDS
        if self.dialogue is not None:
            self._paint(painter, self.dialogue, seed, truncation, afresh=True)
        self.seed, self.truncation = seed, truncation

    def choose(self, number: int) -> None:
        """Look at the picture of another noise."""
        if 0 <= number < len(self.pictures):
            self.choice = number

    def next_question(self, interviewer: Interviewer | None, skip: str = "") -> Question | None:
        """What the interviewer would ask now; `skip` is waved aside for the rest of the session."""
        if interviewer is None or self.dialogue is None:
            return None
        if skip.strip() and len(self.skipped) < MOST_ROUNDS:
            self.skipped.append(skip[:TEXT_LETTERS])
        return interviewer.ask(self.dialogue.caption, self.rounds, self.skipped)

    def remembered(self, choice: int) -> Remembered:
        """What the picture of one noise is painted again from; only of a session that has said something."""
        assert self.dialogue is not None
        return Remembered(self.dialogue.caption, self.rounds, self.seed, self.truncation, choice, (), self.model)

    def saved(self) -> bytes:
        """The conversation as a file that can be opened again, and read by `chatpainter-paint --from`."""
        return self.remembered(self.choice).to_file().encode() if self.dialogue else b"{}"

    def remember(self) -> str:
        """All that the session is painted again from, as JSON for `restored`; "" of one that has said nothing."""
        if self.dialogue is None:
            return ""
        history = History.of(self.dialogue, self.past, self.future, (frame.rounds for frame in self.frames))
        return replace(self.remembered(self.choice), skipped=tuple(self.skipped), history=history).to_json()

    @classmethod
    def opened(cls, studio: Studio, text: str) -> "Session":
        """The session that a picture's text, a saved conversation or `remember` holds, painted again.

        What a tab remembers has the strip and what can be undone, too. The text may come from anywhere and is read as
        strictly as what is typed.

        Raises:
            ChatPainterError: it is none, or cannot be painted.
        """
        session = cls()
        kept = recall(text, "what you opened")
        session.model = studio.known(kept.model)
        session.seed, session.choice = kept.seed % SEEDS, kept.choice if 0 <= kept.choice < NOISES else 0
        session.skipped = [text[:TEXT_LETTERS] for text in kept.skipped[:MOST_ROUNDS]]
        if 0 <= kept.truncation <= 3:
            session.truncation = kept.truncation
        words = said(kept.caption, kept.rounds)
        painter = studio.easel(session.model).painter
        session._paint(painter, words, session.seed, session.truncation, afresh=True)
        if kept.history:
            session._remind(painter, words, kept.history)
        return session

    @classmethod
    def restored(cls, studio: Studio, remembered: str) -> "Session":
        """The session that the visitor's tab remembers; a new one where that cannot be had."""
        try:
            return cls.opened(studio, remembered)
        except (ChatPainterError, ValueError):
            return cls()

    def _remind(self, painter: Paints, words: Dialogue, history: History) -> None:
        """What was before `words`, for undo; after them, for redo; and their earlier pictures, painted again."""
        more = tuple(said(words.caption, [pair]).rounds[0] for pair in history.more)
        past, future = replace(history, more=more).dialogues(words)
        self.past, self.future = past[-STEPS:], future[-STEPS:]
        earlier = sorted({rounds for rounds in history.strip if 0 <= rounds < len(words.rounds)})
        with contextlib.suppress(Refused):  # where too many wait, the words are worth more than the strip
            frames = [self._frame(painter, rounds) for rounds in earlier[1 - FRAMES :]]
            self.frames = [*frames, *self.frames]

    def _frame(self, painter: Paints, rounds: int) -> Frame:
        assert self.dialogue is not None
        said = self.dialogue.rounds[:rounds]
        pictures = painter.paint(self.dialogue.caption, said, NOISES, self.seed, self.truncation)
        return Frame(rounds, [encoded(picture, "JPEG") for picture in pictures])

    def _change(self, painter: Paints, rounds: tuple[Round, ...]) -> None:
        """Other rounds under the same caption, so that undo brings these back."""
        assert self.dialogue is not None
        before = self.dialogue
        self._paint(painter, Dialogue(before.caption, rounds), self.seed, self.truncation)
        self.past, self.future = [*self.past, before][-STEPS:], []

    def _paint(self, painter: Paints, dialogue: Dialogue, seed: int, truncation: float, afresh: bool = False) -> None:
        started = time.perf_counter()
        pictures = painter.paint(dialogue.caption, dialogue.rounds, NOISES, seed, truncation)
        notes = painter.read(dialogue)
        can_listen, attending = painter.listens, self.attending and painter.listens
        after = replace(self, dialogue=dialogue, seed=seed, truncation=truncation)
        heard = after._listen(painter, list(pictures)) if attending else []
        seconds = time.perf_counter() - started
        shown = [encoded(picture, "PNG", after.remembered(n).to_png()) for n, picture in enumerate(pictures)]
        frame = Frame(len(dialogue.rounds), [encoded(picture, "JPEG") for picture in pictures])
        alike = 0 if afresh else _alike(self.rounds, dialogue.rounds)
        kept = [] if afresh else [one for one in self.frames if one.rounds <= alike and one.rounds < frame.rounds]
        # Only now, so that a failed painting leaves the session as it was.
        self.dialogue, self.unknown, self.truncated, self.seconds = dialogue, notes.unknown, notes.truncated, seconds
        self.pictures, self.frames, self.editing = shown, [*kept, frame][-FRAMES:], None
        self.can_listen, self.attending, self.heard = can_listen, attending, heard

    def _listen(self, painter: Paints, pictures: list[np.ndarray]) -> list[tuple[bytes, AttentionMaps]]:
        if self.dialogue is None:
            return []
        found = painter.attention(self.dialogue.caption, self.rounds, NOISES, self.seed, self.truncation)
        return [(encoded(one.coloured(seen), "JPEG"), one) for one, seen in zip(found, pictures)]


def _alike(first: tuple[Round, ...], second: tuple[Round, ...]) -> int:
    """How many rounds both begin with."""
    return next((n for n, (one, other) in enumerate(zip(first, second)) if one != other), min(len(first), len(second)))


def said(caption: Any, rounds: Any) -> Dialogue:
    """A caption and (question, answer) pairs from outside, within the limits of what may be typed.

    Raises:
        Refused: they are not, or they are no texts.
    """
    pairs = list(rounds) if isinstance(rounds, list | tuple) else None
    if pairs is None or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise Refused("Rounds are pairs of a question and its answer.")
    if not all(isinstance(text, str) for text in (caption, *(text for pair in pairs for text in pair))):
        raise Refused("Caption, questions and answers are texts.")
    if len(pairs) > MOST_ROUNDS:
        raise Refused(f"{len(pairs):,} rounds; {MOST_ROUNDS} are the most that one picture takes.")
    typed = _typed(caption, CAPTION_LETTERS, "caption")
    if not typed:
        raise Refused("There is no caption: one sentence that says what is in the picture.")
    return Dialogue(
        typed,
        tuple((_typed(question, TEXT_LETTERS, "question"), _typed(answer, TEXT_LETTERS, "answer"))
              for question, answer in pairs),
    )  # fmt: skip


def _typed(text: str | None, most: int, what: str) -> str:
    """What was typed, folded as everywhere; "" where it shows nothing."""
    folded = Dialogue(text or "").caption
    if len(folded) > most:
        raise Refused(f"That {what} has {len(folded):,} characters; at most {most:,} are read. Please shorten it.")
    return "" if is_blank(folded) else folded


def encoded(picture: np.ndarray, kind: str, text: "PngInfo | None" = None) -> bytes:
    """A picture as a PNG, with its text, or JPEG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **({"pnginfo": text} if kind == "PNG" else {"quality": 88}))
    return file.getvalue()


def _decoded(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)))
