"""One split as the evaluation meets it: texts, their vectors and the real pictures, joined by image_id.

Everything that chance decides (which caption, which noise, whose dialogue) is a function of the seed and the image,
not of batches, processes or devices: the same image is painted from the same numbers wherever and whenever it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from store.errors import ChatPainterError
from store.jpeg import JpegStore, open_images
from store.reader import Store
from trainer.batches import TrainingData
from trainer.config import stored_size

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.generator import Generator


@dataclass(frozen=True)
class Condition:
    """What the generator is told besides the image's own caption."""

    dialogue: Literal["own", "shuffled", "reversed"] = "own"
    rounds: int | None = None  # only the first so many; None: all

    @property
    def name(self) -> str:
        return self.dialogue + ("" if self.rounds is None else f"-{self.rounds}-rounds")


class HeldOut:
    """Images that have everything a generator with this use of the dialogue needs, in order of image_id.

    Raises:
        StoreError: a store is missing, or no image is in all of them.
    """

    def __init__(self, embeddings: Path, images: Path, dialogue: Any, sizes: tuple[int, ...], seed: int) -> None:
        self.seed = seed
        self.dialogue = dialogue
        # Training crops at random; the evaluation takes the middle of the same pictures.
        self.stored = {size: images / str(stored_size(size)) for size in sizes}
        self.data = TrainingData(embeddings, self.stored[min(sizes)], dialogue)
        self.image_ids = self.data.image_ids
        kinds = ["captions"] + {"none": [], "collapsed": ["dialogues"], "recurrent": ["turns"]}[dialogue]
        self._texts = [Store(embeddings / kind) for kind in kinds]
        self._pictures = {size: open_images(path) for size, path in self.stored.items()}
        self._rows = {size: _rows(store, self.image_ids) for size, store in self._pictures.items()}

    def __len__(self) -> int:
        return len(self.image_ids)

    def numbers(self, images: np.ndarray) -> np.ndarray:
        """(B,) uint64: which of its captions each image is painted from, modulo how many it has."""
        return np.array([_random(self.seed, self.image_ids[i], 0).integers(2**62) for i in images], dtype=np.uint64)

    def donors(self, images: np.ndarray) -> np.ndarray:
        """Whose dialogue each image is given when they are shuffled: always another image's."""
        order = np.random.default_rng(self.seed).permutation(len(self))
        after = np.empty(len(self), dtype=np.int64)
        after[order] = np.roll(order, -1)
        return after[images]

    def texts(self, images: np.ndarray, condition: Condition) -> "tuple[Tensor, Tensor | None, Tensor | None]":
        """captions (B, dc), dialogues (B, dd) or (B, T, dd) or None, rounds (B,) or None, on the CPU.

        Raises:
            ChatPainterError: the condition asks for what this generator does not read.
        """
        batch = self.data.gather(images, self.numbers(images))
        dialogues, rounds = batch.dialogues, batch.rounds
        if self.dialogue == "none" and condition != Condition():
            raise ChatPainterError(f"{condition.name}: this generator reads no dialogue; it paints the caption alone")
        if condition.dialogue == "shuffled":
            other = self.data.gather(self.donors(images), self.numbers(images))
            dialogues, rounds = other.dialogues, other.rounds
        if dialogues is not None and (condition.rounds is not None or condition.dialogue == "reversed"):
            if rounds is None:
                raise ChatPainterError(
                    f"{condition.name}: this generator reads each dialogue as one vector, whose rounds cannot be "
                    "taken apart; embed the shorter or reversed dialogues and evaluate on those"
                )
            dialogues, rounds = _change(dialogues, rounds, condition)
        return batch.captions, dialogues, rounds

    def noise(self, images: np.ndarray, dims: tuple[int, int], draw: int = 0) -> "tuple[Tensor, Tensor]":
        """Noise (B, z) and condition noise (B, c) of the `draw`-th picture of each image."""
        import torch

        rows = [
            _random(self.seed, self.image_ids[i], 1, draw).standard_normal(sum(dims), dtype=np.float32) for i in images
        ]
        values = torch.from_numpy(np.stack(rows))
        return values[:, : dims[0]].contiguous(), values[:, dims[0] :].contiguous()

    def real(self, images: np.ndarray, size: int) -> np.ndarray:
        """(B, size, size, 3) uint8: the middle of the stored pictures."""
        return middle(self._pictures[size].take(self._rows[size][images]), size)

    def checksums(self) -> list[str]:
        """What the data are, for telling whether finished work still holds: of every shard that is read."""
        stores = [*self._pictures.values(), *self._texts]
        return [shard.sha256 for store in stores for shard in store.manifest.shards]

    def all_words(self, images: np.ndarray) -> tuple[list[str], list[list[str]]]:
        """The caption that each image is painted from, and its rounds (or its one collapsed dialogue); n each."""
        index = self._texts[0].index.select(["image_id", "text"]).to_pydict()
        captions: dict[int, list[str]] = {}
        for image_id, text in zip(index["image_id"], index["text"]):
            captions.setdefault(image_id, []).append(text)
        mine = [captions[int(i)] for i in self.image_ids[images]]
        chosen = [texts[int(number % len(texts))] for texts, number in zip(mine, self.numbers(images).tolist())]
        if self.dialogue == "none":
            return chosen, [[] for _ in images]
        column = "text" if self.dialogue == "collapsed" else "texts"
        index = self._texts[1].index.select(["image_id", column]).to_pydict()
        rounds = {i: [said] if isinstance(said, str) else said for i, said in zip(index["image_id"], index[column])}
        return chosen, [rounds[int(i)] for i in self.image_ids[images]]


def middle(pictures: np.ndarray, kept: int) -> np.ndarray:
    """The middle (n, kept, kept, 3) of (n, s, s, 3)."""
    start = (pictures.shape[1] - kept) // 2
    return np.ascontiguousarray(pictures[:, start : start + kept, start : start + kept])


def paint(
    generator: "Generator",
    held_out: HeldOut,
    images: np.ndarray,
    condition: Condition,
    sample_condition: bool,
    draw: int = 0,
    only_stage1: bool = False,
) -> dict[int, np.ndarray]:
    """Pictures of these images by size, each (B, s, s, 3) uint8.

    sample_condition: draw the condition from its Gaussian as StackGAN does when it samples; else paint its mean.
    only_stage1: leave stage 2 out of a generator that has one.
    """
    import torch

    from trainer.generator import to_uint8

    device = next(generator.parameters()).device
    captions, dialogues, rounds = (
        None if value is None else value.to(device) for value in held_out.texts(images, condition)
    )
    noise, epsilon = (
        value.to(device) for value in held_out.noise(images, (generator.noise_dim, generator.condition_dim), draw)
    )
    assert captions is not None
    with torch.inference_mode():
        if only_stage1 and generator.stage == 2:
            text = generator.encode_text(captions, dialogues, rounds)
            picture = generator.stage2.STAGE1_G(text, noise, epsilon if sample_condition else None).picture
            return {min(generator.sizes): to_uint8(picture).cpu().numpy()}
        painted = generator(
            captions, dialogues, rounds, noise=noise, condition_noise=epsilon if sample_condition else None
        )
        return {size: to_uint8(picture).cpu().numpy() for size, picture in painted.items()}


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

    def __init__(self, store: Store | JpegStore) -> None:
        self._store, self._rows = store, store.column("row").astype(np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, places: np.ndarray) -> np.ndarray:
        """(B,) places in the index -> (B, s, s, 3) uint8."""
        return self._store.take(self._rows[places])


def _rows(store: Store | JpegStore, image_ids: np.ndarray) -> np.ndarray:
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
