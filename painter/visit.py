"""One visitor's conversation on the chat page: what was said, what was painted, and how to take it back.

Nothing here knows of the web; the page calls it and draws what it finds.
"""

import io
import json
import time
from dataclasses import dataclass, field

import numpy as np

from painter.dialogue import Dialogue, Round, to_visdial
from painter.interviewer import Interviewer, Question
from painter.painter import Painter
from store.errors import ChatPainterError

CAPTION_LETTERS = 1000
TEXT_LETTERS = 300
ROUNDS = 500
NOISES = 4
FRAMES = 12
WAITING = 64
SEEDS = 2**32


class Refused(ChatPainterError):
    """Something a visitor typed that cannot be painted, said so that the visitor can put it right."""


@dataclass(frozen=True)
class Frame:
    """The pictures after so many rounds, as JPEG, one a noise; kept small because every visitor keeps a few."""

    rounds: int
    jpegs: list[bytes]


@dataclass
class Visit:
    """What one visitor has said so far and sees now. A new visit has said nothing and sees nothing."""

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

    def begin(self, painter: Painter, caption: str) -> None:
        """Paint a new caption; whatever was said before is forgotten."""
        caption = _said(caption, CAPTION_LETTERS, "caption")
        if not caption:
            raise Refused("Type a caption first: one sentence that says what is in the picture.")
        self._paint(painter, Dialogue(caption), self.seed, self.truncation, afresh=True)
        self.skipped = []

    def answer(self, painter: Painter, question: str, answer: str) -> None:
        """Add a round and repaint."""
        if self.dialogue is None:
            raise Refused("Paint a caption first; then the talk about it can begin.")
        question, answer = _said(question, TEXT_LETTERS, "question"), _said(answer, TEXT_LETTERS, "answer")
        if not question:
            raise Refused("Type a question, or take another one from the interviewer.")
        if not answer:
            raise Refused("Type an answer to the question, or choose one of those offered.")
        if len(self.rounds) >= ROUNDS:
            raise Refused(f"{ROUNDS} rounds are the most that one picture takes; undo some or start again.")
        grown = Dialogue(self.dialogue.caption, (*self.rounds, (question, answer)))
        self._paint(painter, grown, self.seed, self.truncation)

    def undo(self, painter: Painter) -> None:
        """Take the last round back; with no round left, take the caption back."""
        if self.dialogue is None:
            raise Refused("There is nothing to take back.")
        if not self.rounds:
            self.__init__(seed=self.seed, truncation=self.truncation)  # type: ignore[misc]
            return
        self._paint(painter, self.dialogue.without(len(self.rounds) - 1), self.seed, self.truncation)

    def noises(self, painter: Painter, seed: int, truncation: float) -> None:
        """Paint the same words with other noises; older frames had the old ones, so the strip begins anew."""
        seed, truncation = seed % SEEDS, min(max(truncation, 0.0), 3.0)
        if self.dialogue is not None:
            self._paint(painter, self.dialogue, seed, truncation, afresh=True)
        self.seed, self.truncation = seed, truncation

    def choose(self, number: int) -> None:
        """Look at the picture of another noise."""
        if 0 <= number < len(self.pictures):
            self.choice = number

    def next_question(self, interviewer: Interviewer | None, skip: str = "") -> Question | None:
        """What the interviewer would ask now; `skip` is waved aside for the rest of the visit."""
        if interviewer is None or self.dialogue is None:
            return None
        if skip.strip() and len(self.skipped) < ROUNDS:
            self.skipped.append(skip[:TEXT_LETTERS])
        return interviewer.ask(self.dialogue.caption, self.rounds, self.skipped)

    def visdial(self) -> bytes:
        """The conversation so far in VisDial's layout, as JSON."""
        return json.dumps(to_visdial([self.dialogue] if self.dialogue else []), indent=2).encode()

    def _paint(self, painter: Painter, dialogue: Dialogue, seed: int, truncation: float, afresh: bool = False) -> None:
        started = time.perf_counter()
        pictures = painter.paint(dialogue.caption, dialogue.rounds, NOISES, seed, truncation)
        notes = painter.read(dialogue)
        self.seconds = time.perf_counter() - started
        # Only now, so that a failed painting leaves the visit as it was.
        self.dialogue, self.unknown, self.truncated = dialogue, notes.unknown, notes.truncated
        self.pictures = [_encoded(picture, "PNG") for picture in pictures]
        kept = [] if afresh else [frame for frame in self.frames if frame.rounds < len(dialogue.rounds)]
        frame = Frame(len(dialogue.rounds), [_encoded(picture, "JPEG") for picture in pictures])
        self.frames = [*kept, frame][-FRAMES:]


def _said(text: str | None, most: int, what: str) -> str:
    # Control characters and line breaks would be bytes the encoders never saw.
    said = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    if len(said) > most:
        raise Refused(f"That {what} has {len(said):,} characters; at most {most:,} are read. Please shorten it.")
    return said


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, quality=88)
    return file.getvalue()
