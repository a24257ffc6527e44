"""Which rows of a batch make mismatched pairs: a picture with the text of another image."""

import torch
from torch import Tensor


def mismatched_rows(image_ids: Tensor, number: int = 1) -> tuple[Tensor, Tensor]:
    """For each row the next `number` rows (cyclically) that show another image, (B, number), and whether there is one.

    Taking the whole row's condition gives another image's caption and dialogue together (paper 4.3). Where fewer rows
    show another image, the first of them stands for the missing ones; where none does, its number means nothing.

    Args:
        image_ids: (B,).
    """
    b = len(image_ids)
    rows = torch.arange(b, device=image_ids.device)
    candidates = (rows[:, None] + rows[None, :]) % b  # column 0 is the row itself
    differs = image_ids[candidates] != image_ids[:, None]
    # Stable: those that differ first, each kind in the order of the rows.
    order = (~differs).int().argsort(stable=True, dim=1)[:, :number]
    others, differing = candidates.gather(1, order), differs.gather(1, order)
    return torch.where(differing, others, others[:, :1]), differs.any(1)
