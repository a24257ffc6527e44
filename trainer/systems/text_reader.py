"""What a generator makes of captions and dialogues before it paints, for all systems that listen as ours do."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from trainer.feed.inputs import CAPTIONS, COLLAPSED, LENGTH, TURNS, Batch, Input
from trainer.networks.attention import Tokens, first, one_each
from trainer.networks.text import DialogueEncoder, Standardise
from trainer.systems.dialogue import DialogueArm, ReadsTexts

if TYPE_CHECKING:
    from trainer.feed.data import TrainingData

STANDARDISE_ROWS = 4096


def text_inputs(dialogue: DialogueArm) -> tuple[Input, ...]:
    """What each arm reads: the caption, and one vector a turn, one a dialogue, or none."""
    said = {"none": (), "collapsed": (COLLAPSED,), "recurrent": (TURNS,), "attended": (TURNS,)}
    return CAPTIONS, *said[dialogue]


class TextReader(nn.Module):
    """The part of a `trainer.systems.Generator` that reads: a generator inherits it, and adds what paints.

    Attributes:
        inputs, dims: what it reads, and the width of each.
        text_dim: width of `text`, the caption's vector and what the arm makes of the dialogue beside it.
        token_dims: width of each kind of token where places of the picture listen, else None.
    """

    dialogue_encoder: DialogueEncoder | None

    def __init__(self, reads: ReadsTexts, caption_dim: int, dialogue_dim: int | None) -> None:
        super().__init__()
        attended, wide = reads.dialogue == "attended", dialogue_dim or 0
        self.reads, self.inputs = reads, text_inputs(reads.dialogue)
        self.dims: dict[str, int] = {one.name: dim for one, dim in zip(self.inputs, (caption_dim, wide))}
        recurrent = 2 * reads.lstm_hidden
        joined = reads.dialogue == "recurrent" or (attended and reads.attention.condition == "dialogue")
        states = attended and reads.attention.tokens == "states"
        self.text_dim = caption_dim + (wide if reads.dialogue == "collapsed" else recurrent if joined else 0)
        self.token_dims = None
        if attended:
            self.token_dims = {CAPTIONS.name: caption_dim, TURNS.name: recurrent if states else wide}
        self.standardise = nn.ModuleDict()
        if reads.standardise:
            self.standardise["captions"] = Standardise(caption_dim)
            if reads.dialogue != "none":
                self.standardise["dialogues"] = Standardise(wide)
        self.dialogue_encoder = DialogueEncoder(wide, reads.lstm_hidden) if joined or states else None

    @property
    def silence(self) -> dict[str, Tensor]:
        """Vectors that stand for nothing said, of inputs that always have one: the average dialogue, or zeros."""
        if self.reads.dialogue != "collapsed":
            return {}
        if self.reads.standardise:
            average: Tensor = self.standardise["dialogues"].get_buffer("mean")
            return {COLLAPSED.name: average}
        return {COLLAPSED.name: torch.zeros(self.dims[COLLAPSED.name])}

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs by name, any float dtype: captions (B, dc), turns (B, T, dd) or dialogues (B, dd) → text (B, T)."""
        captions = texts[CAPTIONS.name]
        captions = self.standardise["captions"](captions) if self.reads.standardise else captions.float()
        if self.reads.dialogue == "none":
            return {"text": captions}
        said = texts[self.inputs[1].name]
        said = self.standardise["dialogues"](said) if self.reads.standardise else said.float()
        if self.reads.dialogue == "attended":
            return self._encode_tokens(captions, said, texts[TURNS.name + LENGTH])
        if self.dialogue_encoder is not None:
            said = self.dialogue_encoder(said, texts[TURNS.name + LENGTH])
        return {"text": torch.cat([captions, said.float()], 1)}

    def _encode_tokens(self, captions: Tensor, turns: Tensor, rounds: Tensor) -> dict[str, Tensor]:
        """captions (B, dc), turns (B, T, dd), rounds (B,) → text (B, ·), and caption and turns as they are attended."""
        text, tokens = captions, turns
        if self.dialogue_encoder is not None:
            if self.reads.attention.condition == "dialogue":
                text = torch.cat([captions, self.dialogue_encoder(turns, rounds).float()], 1)
            if self.reads.attention.tokens == "states":
                tokens = self.dialogue_encoder.states(turns, rounds).float()
        there = first(rounds, turns.shape[1])
        # Standardised padding is not zero, and what lies after the last round may be anything.
        tokens = tokens.masked_fill(~there[..., None], 0.0)
        return {"text": text, CAPTIONS.name: captions, TURNS.name: tokens, TURNS.name + LENGTH: rounds}

    def tokens(self, encoded: Mapping[str, Tensor]) -> dict[str, Tokens] | None:
        """What places of the picture listen to, of what `encode` gave; None where they do not."""
        if self.token_dims is None:
            return None
        turns = encoded[TURNS.name]
        there = first(encoded[TURNS.name + LENGTH], turns.shape[1])
        return {CAPTIONS.name: one_each(encoded[CAPTIONS.name]), TURNS.name: Tokens(turns, there)}


class _Standardised(Protocol):
    """A generator that standardises."""

    inputs: tuple[Input, ...]
    standardise: nn.ModuleDict
    reads: ReadsTexts


def standardise(generator: _Standardised, data: "TrainingData") -> None:
    """Fit the standardisation to rows spread evenly over the training data: the same rows every time."""
    if not generator.reads.standardise:
        return
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), STANDARDISE_ROWS)).astype(np.int64))
    sample = data.at(rows, rows.astype(np.uint64))
    for one, module in zip(generator.inputs, generator.standardise.values()):
        vectors = sample[one.name]
        if one.name + LENGTH in sample:
            vectors = vectors[torch.arange(vectors.shape[1]) < sample[one.name + LENGTH][:, None]]
        module.fit(vectors)  # type: ignore[operator]


def cut_dialogues(texts: Batch, share: float, draws: Tensor) -> Batch:
    """A share of the dialogues ends after some first rounds, from 0 to all; draws (b, 2), uniform.

    Few rounds come more often than many (at most k of n with a chance of sqrt((k + 1) / (n + 1))): what the caption
    or a first round says alone is said again by whole dialogues, and is not learned from them.
    """
    rounds = texts[TURNS.name + LENGTH]
    fewer = (draws[:, 1].square() * (rounds + 1)).long()
    return Batch({**texts, TURNS.name + LENGTH: torch.where(draws[:, 0] < share, fewer, rounds)})


def parameter_count(module: Any) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())
