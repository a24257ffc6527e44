"""What was painted and seen, and what is known of its world: that which figures are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.evaluation.parts import Arrays
from trainer.evaluation.scenes import Reading
from trainer.evaluation.truth import Head, Truth


@dataclass(frozen=True)
class Evaluated:
    """What was painted and seen. n pictures; arrays are named as `Judges` names them."""

    ids: np.ndarray  # (n,) image_id
    painted: Arrays
    real: Arrays
    names: dict[int, str]  # what the figures call the pictures of each size, smallest first
    seed: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the pictures, smallest first."""
        return tuple(self.names)


@dataclass(frozen=True)
class KnownWorld:
    """A world whose truth is known, with its classifier."""

    truth: Truth
    sha256: str  # of the classifier's file
    held_out: dict[str, float]  # the classifier's own scores on real pictures that it did not learn from

    @property
    def heads(self) -> Sequence[Head]:
        return self.truth.heads()


def reading(arrays: Arrays, size: int) -> Reading | None:
    """What the exact reader saw at this size, if this world has places."""
    if f"{size}/scene/colours" not in arrays:
        return None
    return Reading(arrays[f"{size}/scene/colours"], arrays[f"{size}/scene/grounds"])
