"""python -m evidence.order REPORT...: what painters lose of their margin when the rounds are reversed.

The margin is what a painter has above one who copies the start, so that it counts what was done, and not what was left
alone. Several reports (of SCONE's domains, say) are taken together by the means of their margins, seed by seed: a
domain where little is won then weighs little.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from store.errors import ChatPainterError, one_line
from store.options import CONTEXT

SCORES = ("slots", "object_f1", "scene_accuracy")
HEAD = ("seeds", "own rounds", "a copy of the start", "rounds reversed", "of the margin lost", "by seed")


class Margin(NamedTuple):
    """One training's score, a copy's of the start, and the training's with its rounds reversed."""

    score: float
    copy: float
    reversed: float


def margins(points: Sequence[Mapping[str, float]], score: str) -> list[Margin]:
    """Of the figures of several trainings, those of a score that have all three."""
    names = score, f"copy_start_{score}", f"reversed_{score}"
    return [Margin(*(point[name] for name in names)) for point in points if all(name in point for name in names)]


def together(domains: Sequence[Sequence[Margin]]) -> list[Margin]:
    """The means over domains, each a list by seed of one length."""
    return [Margin(*(sum(values) / len(values) for values in zip(*seed))) for seed in zip(*domains, strict=True)]


def lost(found: Sequence[Margin]) -> float | None:
    """The share of the margin over the copy that goes when rounds are reversed; None where there is no margin."""
    above = sum(one.score - one.copy for one in found)
    return sum(one.score - one.reversed for one in found) / above if above > 0 else None


def cells(found: Sequence[Margin]) -> list[str]:
    """A row of `HEAD`."""
    means = (sum(values) / len(found) for values in zip(*found))
    by_seed = ", ".join(_percent(lost([one])) for one in found)
    return [str(len(found)), *(f"{mean:.3f}" for mean in means), _percent(lost(found)), by_seed]


def read(path: Path) -> tuple[str, dict[str, dict[int, Mapping[str, float]]]]:
    """A report's title, and arm -> seed -> the figures of the whole recipe after most pictures.

    Raises:
        ChatPainterError: no report (NAME.json) of `python -m evidence`.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        arms: dict[str, dict[int, Mapping[str, float]]] = {}
        for training in report["trainings"]:
            if training["without"] is None:
                points = training["points"]
                arms.setdefault(training["arm"], {})[training["seed"]] = points[max(points, key=int)]
        return report["title"], arms
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ChatPainterError(
            f"{path}: not a report of python -m evidence ({one_line(error)}); give NAME.json of docs/evidence"
        ) from None


@click.command(context_settings=CONTEXT)
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--score", type=click.Choice(SCORES), default=SCORES[0], show_default=True)
def main(reports: tuple[Path, ...], score: str) -> None:
    """Print of every arm of REPORTS (NAME.json) what it loses of its margin over a copy of the start when its rounds
    are reversed; and of those in all of them, with the same seeds, what it loses together.
    """
    from evidence.tables import Table, markdown

    rows, found = [], list[dict[str, dict[int, Margin]]]()
    for path in reports:
        title, arms = read(path)
        found.append({})
        for arm, seeds in arms.items():
            of = {seed: one for seed, point in sorted(seeds.items()) for one in margins([point], score)}
            if of:
                found[-1][arm] = of
                rows.append([title, arm, *cells(list(of.values()))])
    if not rows:
        raise ChatPainterError(f"{', '.join(map(str, reports))}: no {score} with rounds reversed and of a copied start")
    for arm in found[0] if len(reports) > 1 else ():
        if all(arm in of and of[arm].keys() == found[0][arm].keys() for of in found):
            rows.append(["together", arm, *cells(together([list(of[arm].values()) for of in found]))])
    click.echo(markdown(Table(["report", "arm", *HEAD], rows)))


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return "all" if share >= 1 else f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
