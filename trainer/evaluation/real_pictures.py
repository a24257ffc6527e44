"""Real pictures at the sides that a generator paints, also where only larger ones are stored.

Systems of several sides are trained from one store, whose pictures are made smaller on their device; so the evaluation
asks for no other.
"""

from pathlib import Path

import numpy as np

from store.jpeg import JpegStore, open_images
from store.manifest import Manifest
from store.reader import Store

HALVINGS = 4  # 76 serves for 19, 304 too


class Smaller:
    """The pictures of a store, filtered to a smaller side as in training (`trainer.feed.augment.at_sides`)."""

    def __init__(self, store: Store | JpegStore, side: int) -> None:
        self.store, self.side = store, side

    @property
    def path(self) -> Path:
        return self.store.path

    @property
    def manifest(self) -> Manifest:
        return self.store.manifest

    def column(self, name: str) -> np.ndarray:
        return self.store.column(name)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(B, side, side, 3) uint8."""
        import torch

        from trainer.feed.augment import at_sides, augment, to_uint8

        whole = torch.from_numpy(self.store.take(rows))
        made: np.ndarray = to_uint8(at_sides(augment(whole, whole.shape[1]), [self.side])[self.side]).numpy()
        return made


RealPictures = Store | JpegStore | Smaller


def open_real(images: Path, side: int) -> RealPictures:
    """The pictures of `side` (as they are stored, 76 for 64) of a split, or the next larger ones made smaller.

    Args:
        images: the split's folder, which has one of pictures for each stored side.

    Raises:
        StoreError: there are none of `side`, nor of two, four, eight or sixteen times it.
    """
    stored = (side << halvings for halvings in range(HALVINGS + 1))
    found = next((each for each in stored if (images / str(each)).is_dir()), side)
    store = open_images(images / str(found))
    return store if found == side else Smaller(store, side)
