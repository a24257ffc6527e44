"""Exact scores of painted scenes, from pixels and the truth alone: no learned judge.

A picture is read by voting. Every pixel votes for the nearest colour of the world's palette (objects and grounds) in
CIELAB; within the cell of a place (half way to the next place) the object colours' votes are counted, and the place
is taken to hold an object of the colour with the most votes if those cover at least half the area of the smallest
object. Voting in the whole cell, and not only at its centre, keeps the reading right under StackGAN's random crops,
which move the scene by up to 8 % of its side. Real pictures must read without error; what they score is printed
beside the painted.
"""

from dataclasses import dataclass

import numpy as np

from trainer.evaluation.truth import NOTHING, Truth

# A triangle, square or circle of radius r covers 2.2 to 3.2 r²; half the smallest must be seen.
LEAST_AREA = 1.1
READ_AT = 64  # larger pictures are averaged down to this side, smaller ones repeated: the same decision for all


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (…, 3) in [0, 255] to CIELAB (D65, 2°), float64 (…, 3). IEC 61966-2-1 and CIE 15."""
    value = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


@dataclass(frozen=True)
class Reading:
    """What was read off n pictures."""

    colours: np.ndarray  # (n, places) int64, index into the world's colours or NOTHING
    grounds: np.ndarray  # (n,) int64


class SceneReader:
    """Reads colours and ground off pictures of a world with places.

    Args:
        truth: the world.
        kept: the share of the whole picture's side that the crop kept (64 of 76), taken from its middle.
    """

    def __init__(self, truth: Truth, kept: float) -> None:
        assert truth.places
        self.colours, self.grounds = len(truth.colours), len(truth.grounds)
        levels = np.arange(64) * 4 + 1.5
        cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
        palette = to_lab(np.array(list(truth.colours.values()) + list(truth.grounds.values())))
        nearest = ((to_lab(cube)[:, None, :] - palette) ** 2).sum(axis=2).argmin(axis=1)
        self._nearest = nearest.astype(np.uint8).reshape(64, 64, 64)
        centres = np.array([place.centre for place in truth.places.values()])
        apart = np.abs(centres[:, None] - centres).max(axis=2)
        half = apart[apart > 0].min() / 2 if len(centres) > 1 else 0.5
        self._windows = []
        for centre in centres:
            edges = [(c + sign * half - 0.5) / kept + 0.5 for c in centre for sign in (-1, 1)]
            left, right, top, bottom = (int(np.clip(round(edge * READ_AT), 0, READ_AT)) for edge in edges)
            self._windows.append((slice(top, bottom), slice(left, right)))
        radii = [item.radius for scene in truth.scenes.values() for item in scene.objects if item.radius]
        self._least = LEAST_AREA * (min(radii) * READ_AT / kept) ** 2 if radii else 1.0

    def read(self, pictures: np.ndarray) -> Reading:
        """(n, s, s, 3) uint8, s a multiple of 64 or a part of it -> Reading."""
        n, side = pictures.shape[:2]
        assert side % READ_AT == 0 or READ_AT % side == 0
        if side < READ_AT:
            pictures = pictures.repeat(READ_AT // side, axis=1).repeat(READ_AT // side, axis=2)
        if side > READ_AT:
            step = side // READ_AT
            pictures = pictures.reshape(n, READ_AT, step, READ_AT, step, 3).sum(axis=(2, 4), dtype=np.uint16) // step**2
        parts = pictures >> 2
        votes = self._nearest[parts[..., 0], parts[..., 1], parts[..., 2]]
        colours = np.full((n, len(self._windows)), NOTHING, dtype=np.int64)
        for place, window in enumerate(self._windows):
            cell = votes[:, window[0], window[1]].reshape(n, -1)
            counts = np.stack([(cell == colour).sum(axis=1) for colour in range(self.colours)], axis=1)
            best = counts.argmax(axis=1)
            colours[:, place] = np.where(counts.max(axis=1) >= self._least, best, NOTHING)
        flat = votes.reshape(n, -1)
        grounds = np.stack([(flat == self.colours + i).sum(axis=1) for i in range(self.grounds)], axis=1).argmax(axis=1)
        return Reading(colours, grounds)


def right(reading: Reading, truth: Truth, image_ids: np.ndarray) -> np.ndarray:
    """(n, places + 1) bool: is each place (its colour, or that nothing is there), and the ground, as the truth says?"""
    places = reading.colours == truth.colour_labels(image_ids)
    wanted = truth.ground_labels(image_ids)
    return np.concatenate([places, ((reading.grounds == wanted) | (wanted == NOTHING))[:, None]], axis=1)


def slots_right(right: np.ndarray, truth: Truth) -> np.ndarray:
    """(n, slots) bool from `right`: a slot (a person, say) is right if every place of it (shirt, hat) is."""
    return np.stack([right[:, list(slot)].all(axis=1) for slot in truth.slots], axis=1)


def floors(truth: Truth, image_ids: np.ndarray) -> dict[str, dict[str, float]]:
    """What who does not listen scores: `copy_start` paints the scene before anything changes, `empty` nothing.

    {} where rounds change nothing.
    """
    if any(int(one) not in truth.films for one in image_ids):
        return {}
    start, grounds = truth.at_start().colour_labels(image_ids), truth.ground_labels(image_ids)
    painted = {"copy_start": start, "empty": np.full_like(start, NOTHING)}
    return {who: scores(Reading(colours, grounds), truth, image_ids) for who, colours in painted.items()}


def scores(reading: Reading, truth: Truth, image_ids: np.ndarray) -> dict[str, float]:
    """Every exact score of n pictures.

    colour_accuracy: of the places that hold an object, those painted in its colour (empty counts as wrong).
    presence_*: is there something at a place? Precision, recall, F1 over all places. object_*: objects as (place,
    colour) pairs, precision, recall, F1 over all pairs. presence_accuracy: of all places, those rightly painted or left
    empty, whatever the colour. slots: of all slots, empty ones too, those of which every place is right.
    ground_accuracy (of those that are told); scene_accuracy (every colour, every empty place and the ground); rsim
    (`relational_similarity`, mean).
    """
    wanted = truth.colour_labels(image_ids)
    found = reading.colours
    occupied, painted = wanted != NOTHING, found != NOTHING
    same = occupied & (wanted == found)
    fact, grounds = right(reading, truth, image_ids), truth.ground_labels(image_ids)
    result = {
        "colour_accuracy": _share(same.sum(), occupied.sum()),
        "ground_accuracy": _share((reading.grounds == grounds).sum(), (grounds != NOTHING).sum()),
        "scene_accuracy": float(fact.all(axis=1).mean()),
        "presence_accuracy": float((occupied == painted).mean()),
        "slots": float(slots_right(fact, truth).mean()),
        **precision_recall_f1("presence", (occupied & painted).sum(), painted.sum(), occupied.sum()),
        **precision_recall_f1("object", same.sum(), painted.sum(), occupied.sum()),
    }
    centres = np.array([place.centre for place in truth.places.values()])
    result["rsim"] = float(np.mean([relational_similarity(w, f, centres) for w, f in zip(wanted, found)]))
    return result


def relational_similarity(wanted: np.ndarray, found: np.ndarray, centres: np.ndarray) -> float:
    """How alike two scenes are laid out, whatever the exact places: GeNeVA's rsim (El-Nouby et al., 2019) with an
    object's identity being its colour.

    Objects of the same colour are matched, at the same place first, the rest in reading order. Over all pairs of
    matched objects, the share of (left/right, above/below) relations that agree, times the recall of objects. With
    fewer than two matched objects there is no relation to get wrong and the recall stands alone.

    Args:
        wanted, found: (places,) colour index or NOTHING.
        centres: (places, 2) x, y of the places.
    """
    if np.array_equal(wanted, found):
        return 1.0  # as below, which takes as long as painting the scene
    matches: list[tuple[int, int]] = []
    for colour in np.unique(wanted[wanted != NOTHING]):
        here, there = np.flatnonzero(wanted == colour), np.flatnonzero(found == colour)
        both = np.intersect1d(here, there)
        matches += [(int(place), int(place)) for place in both]
        matches += [(int(a), int(b)) for a, b in zip(np.setdiff1d(here, both), np.setdiff1d(there, both))]
    objects = int((wanted != NOTHING).sum())
    if not objects:
        return 1.0 if not (found != NOTHING).any() else 0.0
    recall = len(matches) / objects
    if len(matches) < 2:
        return recall
    a, b = centres[[m[0] for m in matches]], centres[[m[1] for m in matches]]
    first, second = np.triu_indices(len(matches), k=1)
    agree = np.sign(a[first] - a[second]) == np.sign(b[first] - b[second])
    return recall * float(agree.mean())


def ceilings(truth: Truth) -> dict[str, dict[str, float]]:
    """The best that a painter can score on these very scenes who is told nothing (`chance`) or one caption (`caption`).

    A caption names one object in full and how many there are, or nothing of them where the truth says so; colours and
    grounds are uniform and independent.
    The world states the same analytically, over all scenes it could make (`Truth.ceilings`).
    """
    counts = np.array([len(scene.objects) for scene in truth.scenes.values()])
    places, colours, grounds = len(truth.places), 1 / len(truth.colours), 1 / len(truth.grounds)
    empty = places - counts
    presence = float(max(counts.mean(), empty.mean()) / places)
    told = {
        "colour_accuracy": float((1 + (counts - 1) * colours).sum() / max(1, counts.sum())),
        "presence_accuracy": float((1 + np.maximum(counts - 1, empty)).mean() / places),
    }
    chance = {"colour_accuracy": colours, "ground_accuracy": grounds, "presence_accuracy": presence}
    return {
        score: {"chance": value, "caption": told.get(score, value) if truth.captions_tell else value}
        for score, value in chance.items()
    }


def precision_recall_f1(name: str, hits: int, found: int, wanted: int) -> dict[str, float]:
    """Precision, recall and F1 from counts; 0 where nothing was found or wanted."""
    precision, recall = _share(hits, found), _share(hits, wanted)
    return {
        f"{name}_precision": precision,
        f"{name}_recall": recall,
        f"{name}_f1": _share(2 * precision * recall, precision + recall),
    }


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
