"""Which COCO categories each image shows, for the auxiliary loss (paper section 6)."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from store.errors import ChatPainterError


class Labels:
    """Which of `classes` categories each image shows, on the device.

    Args:
        image_ids: (n,) in any order.
        labels: (n, classes) of 0 and 1.
    """

    def __init__(self, image_ids: Tensor, labels: Tensor) -> None:
        order = image_ids.argsort()
        self.image_ids, self.labels = image_ids[order], labels[order].float()

    @property
    def classes(self) -> int:
        """How many categories there are."""
        return self.labels.shape[1]

    def __call__(self, image_ids: Tensor) -> Tensor:
        """image_ids (B,) → (B, classes) of 0 and 1."""
        return self.labels[torch.searchsorted(self.image_ids, image_ids)]


def read_labels(path: Path, image_ids: np.ndarray, device: torch.device) -> Labels:
    """Which categories each of `image_ids` (n,) shows, from a COCO instances file.

    Raises:
        ChatPainterError: the file is missing, is not a COCO instances file, or is another split's.
    """
    row = {int(image_id): i for i, image_id in enumerate(image_ids)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        column = {category["id"]: i for i, category in enumerate(content["categories"])}
        pairs = [(_whole(note["image_id"]), column[note["category_id"]]) for note in content["annotations"]]
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); see auxiliary.instances") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ChatPainterError(f"{path}: not a COCO instances file ({error}); see auxiliary.instances") from None
    labels = torch.zeros(len(image_ids), len(column))
    known = [(row[image_id], category) for image_id, category in pairs if image_id in row]
    if not known:
        raise ChatPainterError(
            f"{path}: none of its {len(pairs):,} annotations is of an image of the training split; "
            "name the instances file of that split in auxiliary.instances"
        )
    for image, category in known:
        labels[image, category] = 1
    return Labels(torch.from_numpy(np.asarray(image_ids, np.int64)).to(device), labels.to(device))


def _whole(image_id: object) -> int:
    if not isinstance(image_id, int) or isinstance(image_id, bool):
        raise TypeError(f"image_id {image_id!r} is not a whole number")
    return image_id
