"""What a system reads: named tensors, each from a store of its own, and the batch that holds them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LENGTH = ".length"
"""Ends the name of the tensor (b,) that says how many of a ragged input's rows are real: `turns.length`."""


@dataclass(frozen=True)
class Input:
    """One named tensor of a batch, and which rows of which store it holds.

    The index of a store has one line or several an image; a line stands for one row, or, where the manifest names a
    column of lengths, for a run of rows (a dialogue's turns). A run is padded with zeros to the longest of the split,
    and its length is a tensor of the batch beside it (`LENGTH`).
    """

    name: str  # in the batch
    store: str  # folder below embeddings/SPLIT or images/SPLIT
    called: str  # one of them, for people: "a caption"
    where: Literal["embeddings", "images"] = "embeddings"
    pick: Literal["first", "drawn"] = "first"  # which of an image's lines; every drawn input draws the same number
    of: Literal["image", "mismatched"] = "image"  # or of the other image that the sampler drew


CAPTIONS = Input("captions", "captions", "a caption", pick="drawn")
WORDS = Input("words", "words", "the words of a caption", pick="drawn")  # a vector each
TOKENS = Input("tokens", "tokens", "the numbers of a caption's words", pick="drawn")
TURNS = Input("turns", "turns", "a dialogue")
COLLAPSED = Input("dialogues", "dialogues", "a dialogue")
# Beside `turns`, row for row: the picture after every turn, and which kinds of objects are in it; and those before.
TURN_PICTURES = Input("turn_pictures", "turn_pictures", "pictures of its turns", where="images")
PRESENCE = Input("presence", "presence", "what its turns show", where="images")
FIRST_PICTURES = Input("first_pictures", "first_pictures", "a first picture", where="images")
FIRST_PRESENCE = Input("first_presence", "first_presence", "what its first picture shows", where="images")
# Scene graphs, ragged by image: kinds, boxes and masks of the objects and of the image itself, and all their relations.
OBJECTS = Input("objects", "objects", "objects", where="images")
BOXES = Input("boxes", "boxes", "boxes", where="images")
MASKS = Input("masks", "masks", "masks", where="images")
TRIPLES = Input("triples", "triples", "relations", where="images")
GRAPH = (OBJECTS, TRIPLES)
# Which kind of thing the whole picture shows, where a corpus says so (birds, flowers): one number an image.
CLASSES = Input("classes", "classes", "a class", where="images")


def conditioning(inputs: Iterable[Input]) -> list[str]:
    """Of these inputs, those that say what to paint beside a caption: dialogues and graphs, not first pictures."""
    return [one.name for one in inputs if one.pick == "first" and (one.where == "embeddings" or one in GRAPH)]


def stored_side(side: int) -> int:
    """Side of the stored pictures that `side` is cropped from: StackGAN's 76 for 64 and 304 for 256."""
    return side * 76 // 64


def pictures(side: int) -> Input:
    """Pictures to crop `side` x `side` from."""
    return Input("images", str(stored_side(side)), "an image", where="images")


def wrong_pictures(side: int) -> Input:
    """As `pictures`, of another image than the row's own."""
    return Input("wrong_images", str(stored_side(side)), "an image", where="images", of="mismatched")


class Batch(Mapping[str, Tensor]):
    """Tensors by name, each with one row an image, in the stores' dtypes.

    `image_id` (b,) int64 is always there; pictures are (b, s, s, 3) uint8; vectors (b, dim). What is ragged is
    (b, T, *row): turns (b, T, dim), their pictures (b, T, s, s, 3), boxes (b, n, 4), with zeros after each last row
    and the number of rows in `NAME.length` (b,) int64.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def size(self) -> int:
        """b: how many images."""
        return len(next(iter(self._tensors.values())))

    def rows(self, part: slice) -> "Batch":
        """Some of the images (for gradient accumulation), without a copy."""
        return self.map(lambda tensor: tensor[part])

    def to(self, device: torch.device | str | None) -> "Batch":
        """The batch on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `change` applied to each of its tensors."""
        return Batch({name: change(tensor) for name, tensor in self._tensors.items()})

    def copy_(self, other: "Batch") -> None:
        """Take over the values of `other`; from pinned memory without waiting."""
        for name, tensor in self._tensors.items():
            tensor.copy_(other[name], non_blocking=True)
