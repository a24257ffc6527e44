"""One visitor's session on the chat page: what was said, what was painted, and how to take it back.

Nothing here knows of the web; the page calls it and draws what it finds.
"""

import io
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np

from painter.dialogue import ROUNDS, Dialogue, Round, is_blank, to_visdial
from painter.encoding import Notes
from painter.interviewer import Interviewer, Question
from store import params
from store.errors import ChatPainterError

CAPTION_LETTERS = 1000
TEXT_LETTERS = 300
NOISES = 4
FRAMES = 12
WAITING = 64
SEEDS = 2**32


class Refused(ChatPainterError):
    """Something that a visitor asked for and cannot have, said so that the visitor can put it right."""


class Paints(Protocol):
    """What a session asks of a `painter.painter.Painter`."""

    def paint(self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float) -> np.ndarray: ...

    def read(self, dialogue: Dialogue) -> Notes: ...


class OneAtATime:
    """A painter that paints one dialogue at a time, whichever way the requests come; `waiting` of them may wait.

    Two at once would only slow each other down on the same cores, and each takes memory.
    """

    def __init__(self, painter: Paints, waiting: int = WAITING):
        self._painter = painter
        self._turn = threading.Lock()
        self._room = threading.BoundedSemaphore(waiting + 1)

    def paint(self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float) -> np.ndarray:
        """As `Painter.paint`.

        Raises:
            Refused: too many are waiting already.
        """
        if not self._room.acquire(blocking=False):
            raise Refused("Too many pictures are waiting to be painted; try again in a minute.")
        try:
            with self._turn:
                return self._painter.paint(caption, rounds, n, seed, truncation)
        finally:
            self._room.release()

    def read(self, dialogue: Dialogue) -> Notes:
        """As `Painter.read`."""
        return self._painter.read(dialogue)


@dataclass(frozen=True)
class Frame:
    """The pictures after so many rounds, as JPEG, one a noise; kept small because every visitor keeps a few."""

    rounds: int
    jpegs: list[bytes]


@dataclass(frozen=True)
class Remembered:
    """What a session is painted again from, after the page was reloaded or the server forgot it."""

    caption: str
    rounds: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    truncation: float = 1.0
    choice: int = 0
    skipped: tuple[str, ...] = ()


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

    @property
    def rounds(self) -> tuple[Round, ...]:
        return self.dialogue.rounds if self.dialogue else ()

    def begin(self, painter: Paints, caption: str) -> None:
        """Paint a new caption; whatever was said before is forgotten."""
        caption = _typed(caption, CAPTION_LETTERS, "caption")
        if not caption:
            raise Refused("Type a caption first: one sentence that says what is in the picture.")
        self._paint(painter, Dialogue(caption), self.seed, self.truncation, afresh=True)
        self.skipped = []

    def answer(self, painter: Paints, question: str, answer: str) -> None:
        """Add a round and repaint."""
        if self.dialogue is None:
            raise Refused("Paint a caption first; then the talk about it can begin.")
        question, answer = _typed(question, TEXT_LETTERS, "question"), _typed(answer, TEXT_LETTERS, "answer")
        if not question:
            raise Refused("Type a question, or take another one from the interviewer.")
        if not answer:
            raise Refused("Type an answer to the question, or choose one of those offered.")
        if len(self.rounds) >= ROUNDS:
            raise Refused(f"{ROUNDS} rounds are the most that one picture takes; undo some or start again.")
        grown = Dialogue(self.dialogue.caption, (*self.rounds, (question, answer)))
        self._paint(painter, grown, self.seed, self.truncation)

    def undo(self, painter: Paints) -> None:
        """Take the last round back; with no round left, take the caption back."""
        if self.dialogue is None:
            raise Refused("There is nothing to take back.")
        if self.rounds:
            self._paint(painter, self.dialogue.without(len(self.rounds) - 1), self.seed, self.truncation)
        else:
            self.forget()

    def forget(self) -> None:
        """As if nothing had been said; seed and truncation stay."""
        blank = Session(seed=self.seed, truncation=self.truncation)
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
        if skip.strip() and len(self.skipped) < ROUNDS:
            self.skipped.append(skip[:TEXT_LETTERS])
        return interviewer.ask(self.dialogue.caption, self.rounds, self.skipped)

    def visdial(self) -> bytes:
        """The conversation so far in VisDial's layout, as JSON."""
        return json.dumps(to_visdial([self.dialogue] if self.dialogue else []), indent=2).encode()

    def remember(self) -> str:
        """All that the session is painted again from, as JSON for `restored`; "" of one that has said nothing."""
        if self.dialogue is None:
            return ""
        kept = Remembered(
            self.dialogue.caption, self.rounds, self.seed, self.truncation, self.choice, tuple(self.skipped)
        )
        return json.dumps(asdict(kept), ensure_ascii=False)

    @classmethod
    def restored(cls, painter: Paints, remembered: str) -> "Session":
        """The session that `remember` wrote down, painted again; a new one where that cannot be done.

        Earlier frames are not painted again. The text comes from the visitor's browser and is read as strictly as
        what is typed.
        """
        session = cls()
        try:
            kept = params.build(Remembered, json.loads(remembered), "remembered")
            session.seed, session.choice = kept.seed % SEEDS, kept.choice if 0 <= kept.choice < NOISES else 0
            session.skipped = [text[:TEXT_LETTERS] for text in kept.skipped[:ROUNDS]]
            if 0 <= kept.truncation <= 3:
                session.truncation = kept.truncation
            caption = _typed(kept.caption, CAPTION_LETTERS, "caption")
            if not caption:
                return cls()
            rounds = tuple(
                (_typed(question, TEXT_LETTERS, "question"), _typed(answer, TEXT_LETTERS, "answer"))
                for question, answer in kept.rounds[:ROUNDS]
            )
            session._paint(painter, Dialogue(caption, rounds), session.seed, session.truncation, afresh=True)
        except (ChatPainterError, ValueError, RecursionError):
            return cls()
        return session

    def _paint(self, painter: Paints, dialogue: Dialogue, seed: int, truncation: float, afresh: bool = False) -> None:
        started = time.perf_counter()
        pictures = painter.paint(dialogue.caption, dialogue.rounds, NOISES, seed, truncation)
        notes = painter.read(dialogue)
        self.seconds = time.perf_counter() - started
        shown = [_encoded(picture, "PNG") for picture in pictures]
        frame = Frame(len(dialogue.rounds), [_encoded(picture, "JPEG") for picture in pictures])
        kept = [] if afresh else [frame for frame in self.frames if frame.rounds < len(dialogue.rounds)]
        # Only now, so that a failed painting leaves the session as it was.
        self.dialogue, self.unknown, self.truncated = dialogue, notes.unknown, notes.truncated
        self.pictures, self.frames = shown, [*kept, frame][-FRAMES:]


def _typed(text: str | None, most: int, what: str) -> str:
    """What was typed, folded as everywhere; "" where it shows nothing."""
    folded = Dialogue(text or "").caption
    if len(folded) > most:
        raise Refused(f"That {what} has {len(folded):,} characters; at most {most:,} are read. Please shorten it.")
    return "" if is_blank(folded) else folded


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, quality=88)
    return file.getvalue()
