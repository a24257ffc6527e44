"""The report's tables, as rows of words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from evidence import margins, statistics
from evidence.profile import Ablations, Job
from evidence.results import LABELS, Results, label, metric

PROBES = ("own", "shuffled", "reversed")


class Table(NamedTuple):
    """A head, and rows as long as it."""

    head: list[str]
    rows: list[list[str]]


def arms(results: Results) -> Table:
    """Every figure that these worlds have, at the last point."""
    last = results.last
    shown = [figure for figure in LABELS if results.values(figure, results.jobs, last)]
    rows = [
        [arm, str(len(jobs)), *(spread(results.values(figure, jobs, last)) for figure in shown)]
        for arm, jobs in _by_arm(results)
    ]
    return Table(["arm", "seeds", *map(label, shown)], rows)


def costs(results: Results) -> Table:
    """How large each arm's networks are, and how fast they learn."""
    rows = []
    for arm, jobs in _by_arm(results):
        sizes: dict[str, int] = results.done[jobs[0].name]["parameters"]
        opponents = sum(size for part, size in sizes.items() if part.startswith("discriminator"))
        speeds = [results.speeds[job.name] for job in jobs]
        rows.append([arm, jobs[0].system, count(sum(sizes.values()) - opponents), count(opponents), spread(speeds)])
    return Table(["arm", "system", "parameters", "of discriminators", "pictures a second"], rows)


def ceilings(results: Results) -> list[tuple[str, str, float]]:
    """(figure's label, what was told, the best that this allows)."""
    found = [
        (label(figure), told, results.ceiling(figure, told)) for figure in LABELS for told in ("chance", "caption")
    ]
    return [(name, told, value) for name, told, value in found if value is not None]


def floors(results: Results) -> list[tuple[str, str, float]]:
    """(figure's label, who does not listen, what they score), of worlds whose rounds change the scene."""
    names = {"copy_start": "a copy of the start", "empty": "an empty picture"}
    found = [(label(figure), names[who], results.floor(figure, who)) for figure in LABELS for who in names]
    return [(name, who, value) for name, who, value in found if value is not None]


def over_training(results: Results) -> Table:
    """The score at every point."""
    rows = [
        [arm, *(spread(results.values(results.plan.score, jobs, seen)) for seen in results.plan.points)]
        for arm, jobs in _by_arm(results)
    ]
    return Table(["arm", *map(count, results.plan.points)], rows)


def reached(results: Results, figure: str, values: Sequence[float]) -> Table:
    """How many pictures and minutes of training until a figure is so high, at the first evaluated point that is."""
    rows = []
    for arm, jobs in _by_arm(results):
        for value in values:
            first = {job: _first(results, job, figure, value) for job in jobs}
            there = [(job, seen) for job, seen in first.items() if seen is not None]
            minutes = [results.minutes[job.name].get(seen) for job, seen in there]
            rows.append(
                [
                    arm,
                    f"{value:g}",
                    f"{len(there)} of {len(jobs)}",
                    between([count(seen) for _, seen in sorted(there, key=lambda pair: pair[1])]),
                    between([f"{each:.1f}" for each in sorted(each for each in minutes if each is not None)]),
                ]
            )
    return Table(["arm", label(figure), "seeds", "pictures", "minutes"], rows)


def tests(compared: Sequence[dict[str, Any]]) -> Table:
    """Differences between arms with their intervals and p values."""
    head = ["arms", "difference", "seeds", "95 % (seeds, t)", "p (t)", "p (exact sign flips)"]
    head += ["95 % (scenes, bootstrap)", "p (scenes, sign flips)"]
    rows = []
    for entry in compared:
        seeds, scenes = entry["over_seeds"], entry["over_scenes"]
        row = [f"{entry['a']} − {entry['b']}", f"{seeds['difference']:+.3f}", str(seeds["pairs"])]
        row += [interval(seeds), probability(seeds["p_t"]), probability(seeds["p_sign_flip"])]
        row += [interval(scenes), probability(scenes["p_sign_flip"])] if scenes else ["-", "-"]
        rows.append(row)
    return Table(head, rows)


def probes(results: Results, score: str) -> Table:
    """A score with the image's own dialogue, another image's, and its own reversed; arms that read a dialogue."""
    rows = []
    for arm, jobs in _by_arm(results):
        names = [f"{probe}_{metric(score)}" for probe in PROBES]
        values = [results.values(name, jobs, results.last) for name in names]
        if values[PROBES.index("shuffled")]:
            rows.append([arm, *map(spread, values)])
    return Table(["arm", "own dialogue", "another image's", "rounds reversed"], rows)


def reversed_rounds(results: Results) -> Table:
    """What is lost of what painters have above a copy of the start when their rounds are reversed."""
    rows = []
    for arm, jobs in _by_arm(results):
        for score in margins.SCORES:
            found = margins.margins([results.points[job.name][results.last] for job in jobs], score)
            if found:
                rows.append([arm, label(score), *margins.cells(found)])
    return Table(["arm", "score", *margins.HEAD], rows)


def by_round(results: Results, score: str) -> Table:
    """A score of pictures painted after so many rounds."""
    curves = {arm: results.rounds(score, jobs) for arm, jobs in _by_arm(results)}
    rounds = sorted({given for curve in curves.values() for given in curve})
    rows = [[arm, *(spread(curve.get(given, [])) for given in rounds)] for arm, curve in curves.items() if curve]
    return Table(["arm", *map(str, rounds)], rows)


def ablations(results: Results, group: Ablations) -> Table:
    """Changes of the recipe, each alone, beside the whole recipe with the same seeds."""
    points = group.points or results.plan.points
    rows = []
    for arm in group.arms:
        for change in (None, *group.changes):
            jobs = results.of(arm, change, group.seeds)
            if jobs:
                name = "the recipe" if change is None else f"without {change}"
                scores = [spread(results.values(results.plan.score, jobs, seen)) for seen in points]
                rows.append([arm, name, str(len(jobs)), *scores])
    return Table(["arm", "recipe", "seeds", *map(count, points)], rows if _changed(results, group) else [])


def markdown(table: Table) -> str:
    """A table as Markdown has it."""
    head, *rows = (f"| {' | '.join(cells)} |" for cells in (table.head, *table.rows))
    return "\n".join([head, "|" + "---|" * len(table.head), *rows])


def spread(values: Sequence[float]) -> str:
    """Mean ± sd; the value alone of a single one."""
    if not values:
        return "-"
    mean, deviation = statistics.mean_and_sd(values)
    digits = 3 if abs(mean) < 10 else 1
    return f"{mean:.{digits}f}" if len(values) == 1 else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def interval(found: dict[str, Any]) -> str:
    """A 95 % interval."""
    return "-" if found["low"] is None else f"[{found['low']:+.3f}, {found['high']:+.3f}]"


def probability(value: float | None) -> str:
    """A p value."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def count(number: int) -> str:
    """12,000"""
    return f"{number:,}"


def between(ordered: Sequence[str]) -> str:
    """The first and the last of ordered words, or the one that all are."""
    if not ordered:
        return "-"
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def _by_arm(results: Results) -> list[tuple[str, list[Job]]]:
    return [(arm, results.of(arm)) for arm in results.arms]


def _changed(results: Results, group: Ablations) -> bool:
    return any(results.of(arm, change) for arm in group.arms for change in group.changes)


def _first(results: Results, job: Job, figure: str, value: float) -> int | None:
    return next((seen for seen in job.points if any(v >= value for v in results.values(figure, [job], seen))), None)
