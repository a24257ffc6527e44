"""Every pair of arms that the profile asks about, tested at the last point: over seeds, and over scenes."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evidence import statistics
from evidence.results import Results, painted_as


def comparisons(results: Results) -> list[dict[str, Any]]:
    """One record a pair of arms that share seeds; `over_scenes` is None of a score that single pictures lack."""
    score, last = results.plan.score, results.last
    made = []
    for first, second in results.plan.compare:
        seeds = sorted({job.seed for job in results.of(first)} & {job.seed for job in results.of(second)})
        if not seeds:
            continue
        pair = [results.of(arm, seeds=seeds) for arm in (first, second)]
        a, b = (results.values(score, jobs, last) for jobs in pair)
        scenes = [_mean_scores([results.folder(job, last) for job in jobs], score) for jobs in pair]
        over_scenes = None
        if scenes[0] is not None and scenes[1] is not None:
            over_scenes = statistics.over_scenes(scenes[0], scenes[1]).as_dict()
        made.append(
            {
                "a": first,
                "b": second,
                "score": score,
                "images_seen": last,
                "seeds": seeds,
                "values_a": a,
                "values_b": b,
                "over_seeds": statistics.over_seeds(a, b).as_dict(),
                "over_scenes": over_scenes,
            }
        )
    return made


def scene_scores(folder: Path, score: str) -> np.ndarray | None:
    """(scenes,) the score of every single picture in pictures_SPLIT.csv; None where it has none.

    Colours and slots: the share of the scene's that are right. Objects and presence: F1 of what is there and painted.
    """
    path, own = next(folder.glob("pictures_*.csv")), painted_as(folder)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    match score:
        case "colour_accuracy":
            return column(f"{own}_colours_right") / np.maximum(1, column("objects"))
        case "slots":
            return column(f"{own}_slots_right") / column("slots")
        case "object_f1" if f"{own}_objects_painted" in rows[0]:
            both = column("objects") + column(f"{own}_objects_painted")
            return 2 * column(f"{own}_colours_right") / np.maximum(1, both)
        case "ground_accuracy":
            return column(f"{own}_ground_right")
        case "classifier_presence_f1" if f"{own}_present_right" in rows[0]:
            both = column("objects") + column(f"{own}_present_painted")
            return 2 * column(f"{own}_present_right") / np.maximum(1, both)
    return None


def _mean_scores(folders: Sequence[Path], score: str) -> np.ndarray | None:
    scores = [each for folder in folders if (each := scene_scores(folder, score)) is not None]
    return np.mean(scores, axis=0) if scores else None
