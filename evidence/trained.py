"""A finished training, opened again: what it is told, what it makes of that, and what it paints.

All that the report and the probe ask of the trainer's networks stands here.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from evidence.profile import Job
from store import params
from trainer.evaluate import EvaluateSettings
from trainer.generator import Generator
from trainer.grids import write_grid
from trainer.metrics.held_out import Condition, HeldOut, paint
from trainer.metrics.truth import Truth

__all__ = ["Generator", "HeldOut", "Trained", "Truth", "condition", "texts", "until_condition", "write_grid"]

Texts = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]  # captions, dialogues, rounds


class Trained:
    """The generator of a finished job in its work folder."""

    def __init__(self, work: Path, job: Job) -> None:
        self.work = work
        self.file = work / "trainings" / job.name / "run" / "generator.safetensors"
        self.settings = params.section(job.params, "evaluate", EvaluateSettings)

    @cached_property
    def network(self) -> Generator:
        return Generator.load(self.file)

    @property
    def dialogue(self) -> str:
        """How it reads dialogues."""
        return str(self.network.dialogue)

    @property
    def side(self) -> int:
        """Of stage 1's pictures."""
        return int(self.network.model.size)

    def texts(self, split: str) -> HeldOut:
        """A split as this generator is told it."""
        return HeldOut(*_stores(self.work, split), self.dialogue, (self.side,), self.settings.seed)

    def paint(self, held_out: HeldOut, images: np.ndarray) -> np.ndarray:
        """(B, side, side, 3) uint8 of the texts of these images."""
        return paint(self.network, held_out, images, Condition(), self.settings.condition == "sample")[self.side]


def vectors(work: Path, split: str, dialogue: str, side: int) -> HeldOut:
    """A split as generators are told it that use the dialogue so."""
    return HeldOut(*_stores(work, split), dialogue, (side,), seed=0)


def texts(data: HeldOut, images: np.ndarray) -> Texts:
    """The vectors of these images' own texts."""
    return data.texts(images, Condition())


def condition(network: Generator, told: Texts) -> torch.Tensor:
    """(B, c) the mean condition μ that a generator makes of texts."""
    mu: torch.Tensor = network.stage1.ca_net(network.encode_text(*told))[0]
    return mu


def until_condition(network: Generator) -> list[torch.nn.Module]:
    """The layers with weights between a recurrent generator's texts and its condition; each has reset_parameters."""
    encoder = network.dialogue_encoder
    assert encoder is not None
    return [encoder.ahead, encoder.back, network.stage1.ca_net.fc]


def _stores(work: Path, split: str) -> tuple[Path, Path]:
    return work / "data/embeddings" / split, work / "data/images" / split
