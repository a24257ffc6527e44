"""What finished trainings left behind, as the report reads it."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from evidence.profile import Job, Profile
from evidence.worker import DONE
from store.errors import ChatPainterError, one_line
from trainer.logs.log import read_log

Points = dict[int, dict[str, float]]
"""Pictures seen -> figure -> value. Figures of the smallest pictures judged bear no name of who painted them."""

# What the figures are called in tables and curves; those of a table are shown in this order, where the world has them.
LABELS = {
    "slots": "slots",
    "scene_accuracy": "whole scenes",
    "colour_accuracy": "colour accuracy",
    "object_f1": "object F1",
    "ground_accuracy": "ground accuracy",
    "rsim": "rsim",
    "classifier_shape_accuracy": "shape accuracy",
    "classifier_size_accuracy": "size accuracy",
    "classifier_presence_f1": "presence F1 (classifier)",
    "told": "told",
    "kept": "kept",
    "settled": "settled",
    "domain_is": "IS (domain)",
    "domain_fid": "FID (domain)",
    "domain_kid": "KID (domain)",
    "domain_r_precision": "R-precision (domain)",
    "damsm_r_precision": "R-precision (DAMSM)",
}


@dataclass(frozen=True)
class Results:
    """Every number of every evaluated point of the finished `jobs` of a profile."""

    plan: Profile
    work: Path
    jobs: list[Job]
    points: dict[str, Points]  # by the job's name
    minutes: dict[str, dict[int, float]]  # of training alone, until each point; by the job's name
    speeds: dict[str, float]  # pictures a second of training alone, the log's median; by the job's name
    done: dict[str, dict[str, Any]]  # what the worker said at the end; by the job's name

    @property
    def arms(self) -> list[str]:
        """The arms with finished trainings, in the profile's order."""
        return [arm for arm in self.plan.arms if self.of(arm)]

    @property
    def last(self) -> int:
        """The pictures that every whole training saw."""
        return self.plan.points[-1]

    def of(self, arm: str, change: str | None = None, seeds: Sequence[int] | None = None) -> list[Job]:
        """An arm's finished trainings, of the whole recipe or with one change, by seed."""
        found = [job for job in self.jobs if (job.arm, job.change) == (arm, change)]
        return sorted((job for job in found if seeds is None or job.seed in seeds), key=lambda job: job.seed)

    def values(self, figure: str, jobs: Sequence[Job], seen: int) -> list[float]:
        """One figure of these trainings after so many pictures, of those that have it."""
        found = (self.points[job.name].get(seen, {}).get(figure) for job in jobs)
        return [value for value in found if value is not None]

    def folder(self, job: Job, seen: int) -> Path:
        """Where the evaluation of a training after so many pictures lies."""
        return self.work / "trainings" / job.name / f"{seen:09d}"

    def ceiling(self, figure: str, told: str) -> float | None:
        """How well one can do at a figure who is told nothing ("chance") or the caption ("caption")."""
        name = f"{told}_ceiling_{metric(figure)}"
        return next((value for job in self.jobs for value in self.values(name, [job], job.points[-1])), None)

    def floor(self, figure: str, who: str) -> float | None:
        """What who does not listen scores: "copy_start" paints the scene before the first round, "empty" nothing."""
        return next((v for job in self.jobs for v in self.values(f"{who}_{figure}", [job], job.points[-1])), None)

    def rounds(self, score: str, jobs: Sequence[Job]) -> dict[int, list[float]]:
        """A score of pictures painted after 0, 1, 2 ... rounds at the last point: rounds -> values over seeds."""
        pattern = re.compile(rf"own_(\d+)_rounds_{re.escape(metric(score))}")
        found: dict[int, list[float]] = {}
        for job in jobs:
            for name, value in self.points[job.name][job.points[-1]].items():
                if match := pattern.fullmatch(name):
                    found.setdefault(int(match[1]), []).append(value)
        return dict(sorted(found.items()))

    def rows(self) -> Iterator[tuple[str, str, int, int, str, float]]:
        """arm, change (or nothing), seed, pictures seen, figure, value: everything, one number a row."""
        for job in self.jobs:
            for seen, figures in self.points[job.name].items():
                for figure, value in figures.items():
                    yield job.arm, job.change or "", job.seed, seen, figure, value

    def training(self, job: Job) -> dict[str, object]:
        """One training as the report's JSON has it."""
        return {
            "name": job.name,
            "arm": job.arm,
            "without": job.change,
            "seed": job.seed,
            "system": job.system,
            "seconds": self.done[job.name]["seconds"],
            "training_minutes": self.minutes[job.name],
            "pictures_per_second": self.speeds[job.name],
            "sizes": self.done[job.name]["parameters"],
            "points": self.points[job.name],
            "parameters": {name: job.params.get(name) for name in ("model", job.system)},
        }


def read(plan: Profile, work: Path, jobs: list[Job]) -> Results:
    """The results of finished jobs.

    Raises:
        ChatPainterError: a training's folder is damaged, or was left by another version; or the profile's score is
            none of the figures.
    """
    points, minutes, speeds, done = {}, {}, {}, {}
    for job in jobs:
        folder = work / "trainings" / job.name
        try:
            points[job.name] = {seen: figures(folder / f"{seen:09d}") for seen in job.points}
            log = [record for record in read_log(folder / "run") if "seconds" in record]
            minutes[job.name] = _minutes(log, job)
            speeds[job.name] = job.pictures_each * median(record["img_per_s"] for record in log)
            done[job.name] = json.loads((folder / DONE).read_text(encoding="utf-8"))
            for name in ("seconds", "parameters"):
                done[job.name][name]
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise ChatPainterError(
                f"{folder}: not what this version leaves of a finished training ({one_line(error)}); report it with "
                "the version that ran it, or remove the folder and run it again"
            ) from None
    there = {name for of in points.values() for measured in of.values() for name in measured}
    if jobs and plan.score not in there:
        raise ChatPainterError(f"score: {plan.score} was measured by no training; there are {', '.join(sorted(there))}")
    return Results(plan, work, jobs, points, minutes, speeds, done)


def figures(evaluation: Path) -> dict[str, float]:
    """Figure -> value of the folder of an evaluation, named as `Points` has them."""
    values, own = _evaluated(evaluation)
    return {figure["name"].removeprefix(f"{own}_"): figure["value"] for figure in values["figures"]}


def painted_as(evaluation: Path) -> str:
    """What the figures of an evaluation call the smallest pictures judged: stage1, branch2 ..."""
    return _evaluated(evaluation)[1]


def metric(figure: str) -> str:
    """A figure's name without who judged the pictures."""
    return figure.removeprefix("classifier_")


def label(figure: str) -> str:
    """What people call a figure."""
    return LABELS.get(figure, metric(figure).replace("_", " "))


def _evaluated(folder: Path) -> tuple[dict[str, Any], str]:
    values = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    pictures = values["evaluated"][0]["pictures"]
    return values, min(pictures, key=pictures.get)


def _minutes(log: Sequence[dict[str, Any]], job: Job) -> dict[int, float]:
    """Minutes of training until each point, by the run's log; evaluations are left out, points not logged too."""
    seconds = {record["images"] * job.pictures_each: record["seconds"] for record in log}
    return {seen: seconds[seen] / 60 for seen in job.points if seen in seconds}
