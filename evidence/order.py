"""python -m evidence.order REPORT...: what painters lose of their margin when the rounds are reversed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from evidence.margins import HEAD, SCORES, Margin, cells, margins, together
from store.errors import ChatPainterError, one_line
from store.options import CONTEXT


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


if __name__ == "__main__":
    main()
