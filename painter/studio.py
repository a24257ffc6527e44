"""The models that a page paints with: one picture at a time over all, each loaded when it is first asked for."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from painter.dialogue import Dialogue, Round
from painter.encoding import Notes
from painter.interviewer import Interviewer
from store.errors import ChatPainterError
from trainer.logs.attention import AttentionMaps

WAITING = 64


class Refused(ChatPainterError):
    """Something that a visitor asked for and cannot have, said so that the visitor can put it right."""


class Paints(Protocol):
    """What the page asks of a `painter.painter.Painter`."""

    @property
    def about(self) -> str: ...

    @property
    def text_trained(self) -> bool: ...

    @property
    def listens(self) -> bool: ...

    def paint(self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float) -> np.ndarray: ...

    def attention(
        self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float
    ) -> list[AttentionMaps]: ...

    def read(self, dialogue: Dialogue) -> Notes: ...


class Turns:
    """One at a time, whichever way the requests come; `waiting` of them may wait.

    Two at once would only slow each other down on the same cores, and each takes memory.
    """

    def __init__(self, waiting: int = WAITING):
        self._turn = threading.RLock()
        self._room = threading.BoundedSemaphore(waiting + 1)

    def __enter__(self) -> None:
        if not self._room.acquire(blocking=False):
            raise Refused("Too many pictures are waiting to be painted; try again in a minute.")
        self._turn.acquire()

    def __exit__(self, *_: Any) -> None:
        self._turn.release()
        self._room.release()


class OneAtATime:
    """A painter that paints when it is its turn."""

    def __init__(self, painter: Paints, turns: Turns | None = None):
        self._painter = painter
        self._turns = turns or Turns()
        self.about, self.text_trained, self.listens = painter.about, painter.text_trained, painter.listens

    def paint(self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float) -> np.ndarray:
        """As `Painter.paint`.

        Raises:
            Refused: too many are waiting already.
        """
        with self._turns:
            return self._painter.paint(caption, rounds, n, seed, truncation)

    def attention(
        self, caption: str, rounds: Sequence[Round], n: int, seed: int, truncation: float
    ) -> list[AttentionMaps]:
        """As `Painter.attention`.

        Raises:
            Refused: too many are waiting already.
        """
        with self._turns:
            return self._painter.attention(caption, rounds, n, seed, truncation)

    def read(self, dialogue: Dialogue) -> Notes:
        """As `Painter.read`."""
        return self._painter.read(dialogue)


LoadModel = Callable[[], tuple[Paints, Interviewer | None]]


@dataclass(frozen=True)
class Easel:
    """One model, ready to paint, and who asks the questions for it."""

    painter: OneAtATime
    interviewer: Interviewer | None


class Studio:
    """Models by name; the first one is there from the start."""

    def __init__(self, models: dict[str, LoadModel], turns: Turns | None = None):
        self.names = tuple(models)
        self._load, self._turns = models, turns or Turns()
        self._ready: dict[str, Easel] = {}
        self.easel("")

    @classmethod
    def of(cls, painter: Paints, interviewer: Interviewer | None = None, name: str = "model") -> "Studio":
        """One model."""
        return cls({name: lambda: (painter, interviewer)})

    def known(self, name: str) -> str:
        """The name itself, or the first one where there is no such model."""
        return name if name in self._load else self.names[0]

    def easel(self, name: str) -> Easel:
        """The model of this name, or the first one where there is none.

        Raises:
            Refused: too many are waiting already.
            ChatPainterError: it cannot be loaded.
        """
        name = self.known(name)
        if name not in self._ready:
            with self._turns:
                if name not in self._ready:
                    painter, interviewer = self._load[name]()
                    self._ready[name] = Easel(OneAtATime(painter, self._turns), interviewer)
        return self._ready[name]
