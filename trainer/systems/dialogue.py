"""How a caption-to-image system listens to a dialogue: settings that ChatPainter brought and others take over."""

from dataclasses import dataclass
from typing import Literal, Protocol

from trainer.config import at_least_one

DialogueArm = Literal["none", "collapsed", "recurrent", "attended"]


@dataclass(frozen=True)
class Attention:
    """How places of the picture listen to the caption and the turns (`dialogue: attended`; docs/paper.md)."""

    sides: tuple[int, ...] = (8, 16)  # of the first picture's features that attend; none: only D matches
    width: int = 64  # of keys and values, and of the space in which D matches regions and tokens
    tokens: Literal["turns", "states"] = "turns"  # each turn's vector, or the BiLSTM's state at it
    condition: Literal["caption", "dialogue"] = "caption"  # what Conditioning Augmentation is made from

    def __post_init__(self) -> None:
        at_least_one(self, "width")
        if any(side < 8 or side & (side - 1) for side in self.sides):
            raise ValueError("attention.sides must be powers of two from 8 on")


@dataclass(frozen=True)
class Matching:
    """The discriminator matches regions of the picture with what was said (`dialogue: attended`)."""

    pooled: float = 1.0  # weight: texts find their picture and pictures their text
    single: float = 1.0  # weight: every turn finds its picture
    side: int = 8  # of D's features whose places are the regions
    hidden: int = 64  # channels by which a region knows its neighbours; 0: it knows itself alone
    focus: float = 1.6  # log of how sharply a turn picks its regions, learned from there
    pooling: float = 5.0  # how near the pooled score comes to the best turn's
    scale: float = 2.3  # log of what multiplies scores, learned from there

    def __post_init__(self) -> None:
        if min(self.pooled, self.single) < 0:
            raise ValueError("a weight of matching cannot be negative")
        if self.side < 4 or self.side & (self.side - 1):
            raise ValueError("matching.side must be a power of two from 4 on")


class ReadsTexts(Protocol):
    """What a model's settings say of the texts that it reads."""

    @property
    def dialogue(self) -> DialogueArm:
        """How the dialogue is read."""
        ...

    @property
    def lstm_hidden(self) -> int:
        """Width of the dialogue's LSTM, each way."""
        ...

    @property
    def standardise(self) -> bool:
        """Whether vectors are standardised by their store's statistics."""
        ...

    @property
    def attention(self) -> Attention:
        """How places listen, where they do."""
        ...


def cannot_cut(dialogue: DialogueArm) -> str:
    """Why dialogues cannot end early in training; nothing if they can."""
    if dialogue in ("none", "collapsed"):
        return f"cut_dialogues: with model.dialogue: {dialogue} no rounds are read that could be cut"
    return ""
