"""The generalisation gap: the score of pictures painted from training texts, less that of held-out texts."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evidence import results, statistics, worker
from evidence.profile import Job, Profile
from evidence.tables import Table, spread
from store import params
from trainer.evaluation.settings import EvaluateSettings

Scores = dict[str, dict[int, tuple[float, float]]]  # arm -> seed -> of training texts, of held-out texts


def scores(work: Path, score: str, jobs: list[Job], pictures: int, device: str) -> Iterator[tuple[Job, float, float]]:
    """The score of finished trainings on the first `pictures` texts of both splits; what is known is kept.

    A classifier that judges pictures of the training texts is made anew from the same data and seed, so it
    is the held-out texts' one in a file of its own (which says what it was tested on).
    """
    for job in jobs:
        folder = Path("trainings") / job.name
        both = []
        for split in (job.params["splits"][0], job.params["evaluate"]["split"]):
            out = folder / f"{split}-{pictures}"
            with contextlib.chdir(work):
                if not (out / "metrics.json").exists():
                    values = params.load(folder / "params.yaml")
                    settings = params.section(values, "evaluate", EvaluateSettings, str(folder / "params.yaml"))
                    of_split = replace(settings, split=split, pictures=pictures, gallery=0, probes=(), rounds_curve=())
                    classifier = worker.classifier_of(split, job.params["evaluate"]["split"])
                    worker.evaluate(folder, out, of_split, device, classifier)
                both.append(results.figures(out)[score])
        yield job, both[0], both[1]


def table(found: Scores) -> Table:
    """Each arm's scores on both kinds of texts, and the gap between them."""
    rows = []
    for arm, by_seed in found.items():
        training, held_out = zip(*by_seed.values())
        gaps = [seen - unseen for seen, unseen in by_seed.values()]
        rows.append([arm, str(len(gaps)), spread(training), spread(held_out), spread(gaps)])
    return Table(["arm", "seeds", "training texts", "held-out texts", "gap"], rows)


def comparisons(plan: Profile, found: Scores) -> list[dict[str, Any]]:
    """The gaps of the pairs of arms that the profile compares, tested over the seeds that both have."""
    made = []
    for a, b in plan.compare:
        seeds = sorted(found.get(a, {}).keys() & found.get(b, {}).keys())
        if seeds:
            gaps = [[found[arm][seed][0] - found[arm][seed][1] for seed in seeds] for arm in (a, b)]
            made.append({"a": a, "b": b, "over_seeds": statistics.over_seeds(*gaps).as_dict(), "over_scenes": None})
    return made
