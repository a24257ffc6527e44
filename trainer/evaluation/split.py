"""One split as the evaluation meets it: texts, their vectors and the real pictures, joined by image_id.

Everything that chance decides (which caption, which noise, whose dialogue) is a function of the seed and the image,
not of batches, processes or devices: the same image is painted from the same numbers wherever and whenever it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from store.errors import ChatPainterError
from trainer.evaluation.real_pictures import RealPictures, open_real
from trainer.feed.data import TrainingData
from trainer.feed.inputs import FIRST_PICTURES, LENGTH, TURNS, Batch, Input, conditioning, pictures, stored_side

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.systems import Generator

CAPTION_DRAW, NOISE_DRAW = 0, 1  # what a random stream of an image is for


@dataclass(frozen=True)
class Condition:
    """What the generator is told besides the image's own caption."""

    dialogue: Literal["own", "shuffled", "reversed"] = "own"
    rounds: int | None = None  # only the first so many; None: all

    @property
    def name(self) -> str:
        return self.dialogue + ("" if self.rounds is None else f"-{self.rounds}-rounds")


class HeldOutSplit:
    """Images that have everything that a generator reads, in order of image_id.

    Args:
        embeddings, images: the split's folders.
        inputs: what the generator reads of a text.
        sides: of the real pictures to compare with, smallest first.

    Raises:
        StoreError: a store is missing, or no image is in all of them.
    """

    def __init__(
        self, embeddings: Path, images: Path, inputs: Sequence[Input], sides: Sequence[int], seed: int
    ) -> None:
        self.seed = seed
        self.inputs = tuple(inputs)
        # Training crops at random; the evaluation takes the middle of the same pictures.
        self._pictures = {side: open_real(images, stored_side(side)) for side in sides}
        smallest = replace(pictures(min(sides)), store=self._pictures[min(sides)].path.name)
        self.data = TrainingData(inputs, embeddings, images, beside=(smallest,))
        self.image_ids = self.data.image_ids
        self.sides = tuple(sides)
        self._rows = {side: _rows(store, self.image_ids) for side, store in self._pictures.items()}

    def __len__(self) -> int:
        return len(self.image_ids)

    def numbers(self, images: np.ndarray) -> np.ndarray:
        """(B,) uint64: which of its captions each image is painted from, modulo how many it has."""
        return np.array(
            [_random(self.seed, self.image_ids[i], CAPTION_DRAW).integers(2**62) for i in images], dtype=np.uint64
        )

    def chosen(self, images: np.ndarray) -> np.ndarray:
        """(B,) which of its captions, in the order of its store, each image is painted from; 0 where none are read."""
        if "captions" not in self.data:
            return np.zeros(len(images), np.int64)
        return self.data.chosen("captions", images, self.numbers(images))

    def donors(self, images: np.ndarray) -> np.ndarray:
        """Whose dialogue each image is given when they are shuffled: always another image's."""
        order = np.random.default_rng(self.seed).permutation(len(self))
        after = np.empty(len(self), dtype=np.int64)
        after[order] = np.roll(order, -1)
        return after[images]

    def texts(self, images: np.ndarray, condition: Condition) -> Batch:
        """What the generator reads of these images, b rows on the CPU.

        Raises:
            ChatPainterError: the condition asks for what this generator does not read.
        """
        batch = self.data.at(images, self.numbers(images))
        if condition == Condition():
            return batch
        said = conditioning(self.inputs)
        if not said:
            raise ChatPainterError(f"{condition.name}: this generator reads no dialogue; it paints the caption alone")
        tensors = dict(batch)
        if condition.dialogue == "shuffled":
            other = self.data.at(self.donors(images), self.numbers(images))
            tensors |= {name: tensor for name, tensor in other.items() if name.removesuffix(LENGTH) in said}
        if condition.rounds is not None or condition.dialogue == "reversed":
            if TURNS.name not in said:
                raise ChatPainterError(
                    f"{condition.name}: this generator reads each dialogue as one vector, whose rounds cannot be "
                    "taken apart; embed the shorter or reversed dialogues and evaluate on those"
                )
            turns, lengths = _change(tensors[TURNS.name], tensors[TURNS.name + LENGTH], condition)
            tensors |= {TURNS.name: turns, TURNS.name + LENGTH: lengths}
        return Batch(tensors)

    def noise(self, images: np.ndarray, dims: tuple[int, int], draw: int = 0) -> "tuple[Tensor, Tensor]":
        """Noise (B, z) and condition noise (B, c) of the `draw`-th picture of each image."""
        import torch

        rows = [
            _random(self.seed, self.image_ids[i], NOISE_DRAW, draw).standard_normal(sum(dims), dtype=np.float32)
            for i in images
        ]
        values = torch.from_numpy(np.stack(rows))
        return values[:, : dims[0]].contiguous(), values[:, dims[0] :].contiguous()

    def real(self, images: np.ndarray, size: int) -> np.ndarray:
        """(B, size, size, 3) uint8: the middle of the stored pictures."""
        return middle(self._pictures[size].take(self._rows[size][images]), size)

    def checksums(self) -> list[str]:
        """What the data are, for telling whether finished work still holds: of every shard that is read."""
        stores = [*self._pictures.values(), *self.data.stores.values()]
        return [shard.sha256 for store in stores for shard in store.manifest.shards]

    def words(self, images: np.ndarray) -> list[tuple[str, list[str]]]:
        """The caption that each image is painted from, and its rounds (or its one collapsed dialogue)."""
        return self.data.words(images, self.numbers(images))


def told_of(generator: "Generator", images: Path) -> tuple[Input, ...]:
    """What a generator is told of the split whose pictures lie in `images`: each film begins with its own first one."""
    from trainer.systems import PaintsFilms

    films = isinstance(generator, PaintsFilms) and (images / FIRST_PICTURES.store).is_dir()
    return (*generator.inputs, FIRST_PICTURES) if films else generator.inputs


def middle(pictures: np.ndarray, kept: int) -> np.ndarray:
    """The middle (n, kept, kept, 3) of (n, s, s, 3)."""
    start = (pictures.shape[1] - kept) // 2
    return np.ascontiguousarray(pictures[:, start : start + kept, start : start + kept])


def paint(
    generator: "Generator",
    held_out: HeldOutSplit,
    images: np.ndarray,
    condition: Condition,
    sample_condition: bool,
    draw: int = 0,
    sides: tuple[int, ...] | None = None,
) -> dict[int, np.ndarray]:
    """Pictures of these images by side, each (B, s, s, 3) uint8.

    Args:
        sample_condition: draw the condition from its Gaussian as StackGAN does when it samples; else paint its mean.
        sides: which are asked for; all by default.
    """
    import torch

    from trainer.feed.augment import to_uint8

    texts, noise, epsilon = _told(generator, held_out, images, condition, sample_condition, draw)
    with torch.inference_mode():
        painted = generator.paint(texts, noise, epsilon, sides)
        return {side: to_uint8(picture).cpu().numpy() for side, picture in painted.items()}


def paint_rounds(
    generator: "Generator", held_out: HeldOutSplit, images: np.ndarray, rounds: Sequence[int], sample_condition: bool
) -> dict[int, np.ndarray]:
    """What a painter of films paints, as `paint`, of `Condition("own", n)`, by n of `rounds`, all from one film."""
    import torch

    from trainer.feed.augment import to_uint8
    from trainer.systems import PaintsFilms

    assert isinstance(generator, PaintsFilms)
    own, none = Condition(), Condition("own", 0)
    with torch.inference_mode():
        (start,) = generator.paint(*_told(generator, held_out, images, none, sample_condition)).values()
        film = generator.film(*_told(generator, held_out, images, own, sample_condition))
        pictures = [start, *film.unbind(1)]
        return {n: to_uint8(pictures[min(n, film.shape[1])]).cpu().numpy() for n in rounds}


def _told(
    generator: "Generator",
    held_out: HeldOutSplit,
    images: np.ndarray,
    condition: Condition,
    sample: bool,
    draw: int = 0,
) -> "tuple[Batch, Tensor, Tensor | None]":
    """What the generator paints from, on its device: texts, noise and the condition's noise, None for its mean."""
    from trainer.systems import device_of

    device = device_of(generator)
    noise, epsilon = held_out.noise(images, (generator.noise_dim, generator.condition_dim), draw)
    texts = held_out.texts(images, condition).to(device)
    return texts, noise.to(device), epsilon.to(device) if sample else None


def _change(dialogues: "Tensor", rounds: "Tensor", condition: Condition) -> "tuple[Tensor, Tensor]":
    """Turns (B, T, d) cut to the first rounds, then reversed within each dialogue; zero after the last round."""
    import torch

    if condition.rounds is not None:
        rounds = rounds.clamp(max=condition.rounds)
    positions = torch.arange(dialogues.shape[1])
    there = positions < rounds[:, None]
    if condition.dialogue == "reversed":
        back = torch.where(there, rounds[:, None] - 1 - positions, positions)
        dialogues = dialogues.gather(1, back[..., None].expand_as(dialogues))
    return dialogues * there[..., None], rounds


def _random(seed: int, image_id: int, use: int, draw: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, int(image_id), use, draw])


class InOrder:
    """An image store's pictures by their place in the index, however they are kept."""

    def __init__(self, store: RealPictures) -> None:
        self._store, self._rows = store, store.column("row").astype(np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, places: np.ndarray) -> np.ndarray:
        """(B,) places in the index -> (B, s, s, 3) uint8."""
        return self._store.take(self._rows[places])


def _rows(store: RealPictures, image_ids: np.ndarray) -> np.ndarray:
    """Rows of an image store by image_id.

    Raises:
        ChatPainterError: an image is missing.
    """
    ids = store.column("image_id")
    order = np.argsort(ids, kind="stable")
    at = np.clip(np.searchsorted(ids, image_ids, sorter=order), 0, max(0, len(ids) - 1))
    found = ids[order[at]] == image_ids
    if not found.all():
        raise ChatPainterError(
            f"{store.path}: lacks image {image_ids[~found][0]}, which a smaller size has; make the pictures again"
        )
    rows: np.ndarray = store.column("row").astype(np.int64)[order[at]]
    return rows
