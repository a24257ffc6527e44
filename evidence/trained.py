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
from trainer.feed.augment import to_uint8
from trainer.feed.data import TrainingData
from trainer.feed.films import film
from trainer.feed.inputs import FIRST_PICTURES, LENGTH, TURN_PICTURES, TURNS, Batch
from trainer.logs.grid import write_grid
from trainer.systems import Generator, named_in, reads
from trainer.systems.chatpainter.networks import ChatPainterGenerator
from trainer.systems.text_reader import text_inputs

__all__ = [
    "ChatPainterGenerator",
    "HeldOutSplit",
    "Trained",
    "Truth",
    "texts",
    "true_film",
    "until_condition",
    "write_grid",
]


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

    @property
    def reads_turns(self) -> bool:
        """Whether it reads a dialogue turn by turn, so that one may end early."""
        return reads(self.network, TURNS.name)

    def paint(self, held_out: HeldOutSplit, images: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """(B, side, side, 3) uint8 of the texts of these images; rounds: of the first so many only."""
        told, sample = Condition("own", rounds), self.settings.condition == "sample"
        return paint(self.network, held_out, images, told, sample, sides=(self.side,))[self.side]


def true_film(work: Path, split: str, image_id: int, side: int) -> np.ndarray:
    """(T + 1, side, side, 3) uint8: the true pictures before the first turn and after each.

    Raises:
        StoreError: the split has no pictures of turns.
    """
    data = TrainingData((TURN_PICTURES, FIRST_PICTURES), *_stores(work, split))
    batch = data.at(np.flatnonzero(data.image_ids == image_id))
    turns = batch[TURN_PICTURES.name][:, : int(batch[TURN_PICTURES.name + LENGTH][0])]
    pictures = torch.cat([batch[FIRST_PICTURES.name][:, None], turns], 1)
    return to_uint8(film(pictures, side)[0]).numpy()


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
