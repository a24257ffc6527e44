"""Scores of pictures by what a detector sees in them, as GeNeVA publishes them (El-Nouby et al., 2019, section 5).

A detector looks at the painted **and** at the real picture; what it finds in the real one is what should be there. Each
score is of one pair, and a mean over all pairs. n pairs, k kinds of objects.
"""

from typing import Any, NamedTuple

import numpy as np

from trainer.evaluation import classifier as domain
from trainer.evaluation.evaluated import Evaluated, KnownWorld
from trainer.evaluation.figures import Figures
from trainer.evaluation.truth import Truth


class Detections(NamedTuple):
    """What a detector finds in n pictures, of k kinds of objects."""

    there: np.ndarray  # (n, k) bool
    places: np.ndarray  # (n, k, 2) float64: x and y in fractions of the side; of what is not there they mean nothing


def sample_scores(found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Precision, recall, F1 and Jaccard index of every pair, (n, k) bool, averaged over the pairs.

    A pair whose divisor is 0 (nothing found, nothing wanted) counts as 0, as scikit-learn counts it.
    """
    both, either = (found & wanted).sum(1), (found | wanted).sum(1)
    each = {
        "precision": _shares(both, found.sum(1)),
        "recall": _shares(both, wanted.sum(1)),
        "f1": _shares(2 * both, found.sum(1) + wanted.sum(1)),
        "jaccard": _shares(both, either),
    }
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in each.items()}


def directions(places: np.ndarray) -> np.ndarray:
    """places (m, 2) → (2, m, m): on each axis the sign of object i's place less object j's.

    On the diagonal the picture's middle stands for j, so that a single object is somewhere, too.
    """
    others = np.repeat(places[None], len(places), axis=0)
    others[np.arange(len(places)), np.arange(len(places))] = 0.5
    return np.sign(places[:, None] - others).transpose(2, 0, 1)


def relational_similarity(found: Detections, wanted: Detections) -> np.ndarray:
    """GeNeVA's rsim of every pair, (n,): the share of equal directions among objects in both, times the recall.

    0 where the pictures have no object in common.
    """
    similar = np.zeros(len(found.there))
    for row, common in enumerate(found.there & wanted.there):
        if common.any():
            agree = directions(found.places[row, common]) == directions(wanted.places[row, common])
            similar[row] = agree.mean() * common.sum() / wanted.there[row].sum()
    return similar


def at_places(kinds: np.ndarray, count: int, centres: np.ndarray) -> Detections:
    """Detections of a world whose objects lie at known places.

    Of several objects of one kind the first one counts: a detector of GeNeVA's has one place for each kind.

    Args:
        kinds: (n, places) which kind of object lies at each place, or a negative number where none does.
        count: of kinds.
        centres: (places, 2).
    """
    there = (kinds[:, :, None] == np.arange(count)).transpose(0, 2, 1)  # (n, count, places)
    return Detections(there.any(2), centres[there.argmax(2)])


def of_kinds(truth: Truth, there: np.ndarray, middles: np.ndarray) -> Detections:
    """Detections of a world of sprites: of several that show one kind of object the first one counts.

    Args:
        there: (n, sprites) bool.
        middles: (n, sprites, 2).
    """
    kinds = list(dict.fromkeys(truth.kind_of.values()))
    found = np.zeros((len(there), len(kinds)), dtype=bool)
    places = np.zeros((len(there), len(kinds), 2))
    rows = np.arange(len(there))
    for number, kind in enumerate(kinds):
        mine = [column for column, sprite in enumerate(truth.sprites) if truth.kind_of[sprite] == kind]
        found[:, number] = there[:, mine].any(1)
        places[:, number] = middles[:, mine][rows, there[:, mine].argmax(1)]
    return Detections(found, places)


def similarity_to_truth(truth: Truth, answers: np.ndarray, middles: np.ndarray | None, ids: np.ndarray) -> float | None:
    """Mean rsim of what the classifier finds in pictures of these images against what is there by the truth.

    None where one of the two does not say where sprites stand.

    Args:
        answers: (n, heads). middles: (n, heads, 2).
    """
    if middles is None or not truth.located:
        return None
    wanted = of_kinds(truth, truth.targets(ids) > 0, truth.middles(ids))
    return float(relational_similarity(of_kinds(truth, answers > 0, middles), wanted).mean())


def figures_of(figures: Figures, world: KnownWorld, it: Evaluated) -> None:
    """Add them, with the world's classifier as the detector; rsim where it is known where objects are."""
    protocol = (
        "sample-averaged as GeNeVA's, the world's classifier in the detector's place, real pictures read by it too"
    )
    for size in it.sizes:
        painted, real = (
            detections(
                world,
                domain.answers(arrays[f"{size}/domain/log_posteriors"], world.heads),
                arrays.get(f"{size}/domain/middles"),
            )
            for arrays in (it.painted, it.real)
        )
        about: dict[str, Any] = {"classifier": world.sha256, "resize": domain.RESIZE, "seed": it.seed}
        name = f"{it.names[size]}_detected"
        figures.add_all(name, sample_scores(painted.there, real.there), protocol, len(it.ids), ("f1",), **about)
        if world.truth.places or f"{size}/domain/middles" in it.painted:
            similar = float(relational_similarity(painted, real).mean())
            figures.add(f"{name}_rsim", similar, protocol, len(it.ids), **about)
        else:
            figures.skip(f"{name}_rsim", "the truth file does not say where objects stand; make the world again")


def detections(world: KnownWorld, answers: np.ndarray, middles: np.ndarray | None = None) -> Detections:
    """What the classifier's answers (n, heads) say: kinds are colours of shapes, or of clip-arts.

    Args:
        middles: (n, heads, 2) where it sees clip-arts; None: it does not know, and their places mean nothing.
    """
    truth = world.truth
    if not truth.places:
        return of_kinds(truth, answers > 0, np.zeros((*answers.shape, 2)) if middles is None else middles)
    columns = {head.name: number for number, head in enumerate(world.heads)}
    colours, shapes = (
        np.stack([answers[:, columns[f"{place}: {kind}"]] - 1 for place in truth.places], 1)
        for kind in ("colour", "shape")
    )
    kinds = np.where((colours < 0) | (shapes < 0), -1, colours * len(truth.shapes) + shapes)
    centres = np.array([place.centre for place in truth.places.values()])
    return at_places(kinds, len(truth.colours) * len(truth.shapes), centres)


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
