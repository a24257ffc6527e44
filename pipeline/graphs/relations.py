"""sg2im's six relations between two objects of a picture (Johnson et al., 2018), decided without rounding an angle."""

import numpy as np

PREDICATES = ("__in_image__", "left of", "right of", "above", "below", "inside", "surrounding")


def centres(boxes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Where objects lie: the mean of each mask's pixels, the outer ones on the box; its middle where the mask is empty.

    Args:
        boxes: (n, 4) x0, y0, x1, y1.
        masks: (n, s, s) bool.

    Returns:
        (n, 2) float64, x and y.
    """
    boxes = boxes.astype(np.float64)
    along = np.linspace(0, 1, masks.shape[1])
    pixels = masks.sum((1, 2))
    shares = np.stack([(masks.sum(1) * along).sum(1), (masks.sum(2) * along).sum(1)], 1)
    middle = np.where(pixels[:, None] > 0, shares / np.maximum(pixels, 1)[:, None], 0.5)
    return boxes[:, :2] + middle * (boxes[:, 2:] - boxes[:, :2])


def table(boxes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(n, n) int16: index into `PREDICATES` of row's relation to column; the diagonal has none, -1.

    A box strictly round the other decides first. Else the direction from the object's centre to the subject's does (y
    grows downwards), by quarters of 90 degrees whose limits are diagonals: both diagonals of the left belong to "left
    of", the upper one of the right to "right of" and the lower one to "below"; equal centres are "right of".
    """
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    round_ = (x0[:, None] < x0) & (x1[:, None] > x1) & (y0[:, None] < y0) & (y1[:, None] > y1)
    dx, dy = np.moveaxis(centre[:, None] - centre[None], 2, 0)
    found = np.select(
        [
            round_,
            round_.T,
            (dx < 0) & (np.abs(dy) <= -dx),
            (dy < 0) & (np.abs(dx) < -dy),
            (dx > 0) & (dy < dx) | (dx == 0) & (dy == 0),
        ],
        [6, 5, 1, 3, 2],
        4,
    ).astype(np.int16)
    np.fill_diagonal(found, -1)
    return found


def triples(boxes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(m, 3) int16: subject's row, index into `PREDICATES`, object's row; m = n (n - 1) + n of n objects.

    All ordered pairs, by subject and then by object, and after them that each object is in the image, which is row n.
    sg2im draws one pair for each object and each time that the picture is seen; whoever trains draws it from here.
    """
    n = len(boxes)
    found = table(boxes, centres(boxes, masks))
    subject, object_ = np.nonzero(found >= 0)
    pairs = np.stack([subject, found[subject, object_], object_], 1)
    within = np.stack([np.arange(n), np.zeros(n, int), np.full(n, n)], 1)
    return np.concatenate([pairs, within]).astype(np.int16)
