"""A finished training, opened again: what it is told, what it makes of that, and what it paints.

All that the report and the probe ask of the trainer's networks stands here.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from evidence.profile import Job
from store import params
from store.errors import ChatPainterError
from trainer import generator_file
from trainer.evaluation.settings import EvaluateSettings
from trainer.evaluation.split import Condition, HeldOutSplit, paint, told_of
from trainer.evaluation.truth import Truth
from trainer.feed.inputs import Batch
from trainer.logs.grid import write_grid
from trainer.systems import Generator, named_in
from trainer.systems.chatpainter.networks import ChatPainterGenerator
from trainer.systems.reader import text_inputs

__all__ = ["ChatPainterGenerator", "HeldOutSplit", "Trained", "Truth", "texts", "until_condition", "write_grid"]


class Trained:
    """The generator of a finished job in its work folder."""

    def __init__(self, work: Path, job: Job) -> None:
        self.work = work
        self.file = work / "trainings" / job.name / "run" / "generator.safetensors"
        self.settings = params.section(job.params, "evaluate", EvaluateSettings)

    @cached_property
    def network(self) -> Generator:
        """Of any system."""
        return generator_file.load(self.file)

    @property
    def chatpainter(self) -> ChatPainterGenerator:
        """The same, of ChatPainter.

        Raises:
            ChatPainterError: it is another system's.
        """
        if not isinstance(self.network, ChatPainterGenerator):
            raise ChatPainterError(f"{self.file}: of {named_in(self.network.settings)}; ChatPainter's can be probed")
        return self.network

    @property
    def dialogue(self) -> str:
        """How it reads dialogues, of ChatPainter."""
        return self.chatpainter.model.dialogue

    @property
    def side(self) -> int:
        """Of the smallest pictures that are judged."""
        return min(self.settings.sides or self.network.names)

    def texts(self, split: str) -> HeldOutSplit:
        """A split as this generator is told it."""
        embeddings, images = _stores(self.work, split)
        inputs = told_of(self.network, images)
        return HeldOutSplit(embeddings, images, inputs, (self.side,), self.settings.seed)

    def paint(self, held_out: HeldOutSplit, images: np.ndarray) -> np.ndarray:
        """(B, side, side, 3) uint8 of the texts of these images."""
        return paint(
            self.network, held_out, images, Condition(), self.settings.condition == "sample", sides=(self.side,)
        )[self.side]


def vectors(work: Path, split: str, dialogue: str, side: int) -> HeldOutSplit:
    """A split as generators are told it that use the dialogue so."""
    return HeldOutSplit(*_stores(work, split), text_inputs(dialogue), (side,), seed=0)  # type: ignore[arg-type]


def texts(data: HeldOutSplit, images: np.ndarray) -> Batch:
    """The vectors of these images' own texts."""
    return data.texts(images, Condition())


def until_condition(network: ChatPainterGenerator) -> list[torch.nn.Module]:
    """The layers with weights between a recurrent generator's texts and its condition; each has reset_parameters."""
    encoder = network.dialogue_encoder
    assert encoder is not None
    return [encoder.ahead, encoder.back, network.first.ca_net.fc]


def _stores(work: Path, split: str) -> tuple[Path, Path]:
    return work / "data/embeddings" / split, work / "data/images" / split
