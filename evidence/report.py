"""What the finished trainings show: JSON with everything, a CSV of all points, Markdown tables, curves, pictures."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from evidence import plots, tables
from evidence.comparison import comparisons
from evidence.results import Results, label, metric
from store import machine
from store.files import replacing


def write(out: Path, name: str, results: Results) -> list[Path]:
    """Write OUT/NAME.json, .csv, .md, curves and, where the generators still lie there, pictures."""
    out.mkdir(parents=True, exist_ok=True)
    plan, compared = results.plan, comparisons(results)
    record = {
        "title": plan.title,
        "profile": asdict(plan),
        "machine": machine.describe(),
        "trainings": [results.training(job) for job in results.jobs],
        "comparisons": compared,
    }
    written = [out / f"{name}.json", out / f"{name}.csv", out / f"{name}.md"]
    _text(written[0], json.dumps(record, indent=1) + "\n")
    with replacing(written[1]) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("arm", "without", "seed", "images_seen", "figure", "value"))
        writer.writerows(results.rows())
    _text(written[2], markdown(results, compared))
    drawn = [
        plots.over_training(out / f"{name}.png", results),
        plots.pictures(out / f"{name}-pictures.png", results),
        *(
            plots.over_rounds(out / f"{name}-{metric(score)}-by-round.png", results, score)
            for score in scores_by_round(results)
        ),
    ]
    return [*written, *(path for path in drawn if path)]


def markdown(results: Results, compared: list[dict[str, Any]]) -> str:
    """The tables, ready to be read or included."""
    surroundings = jinja2.Environment(
        loader=jinja2.PackageLoader("evidence", "."),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    surroundings.filters |= {"table": tables.markdown, "count": tables.count, "probability": tables.probability}
    return surroundings.get_template("report.md.jinja").render(
        plan=results.plan,
        last=results.last,
        score=label(results.plan.score),
        arms=tables.arms(results),
        costs=tables.costs(results),
        ceilings=tables.ceilings(results),
        over_training=tables.over_training(results),
        reached={label(name): tables.reached(results, name, values) for name, values in results.plan.reach.items()},
        tests=tables.tests(compared),
        least=2 / 2 ** len(results.plan.seeds),
        floors=tables.floors(results),
        probes={label(score): tables.probes(results, score) for score in scores_by_round(results)},
        reversed_rounds=tables.reversed_rounds(results),
        by_round={label(score): tables.by_round(results, score) for score in scores_by_round(results)},
        ablations=[tables.ablations(results, group) for group in results.plan.ablations],
    )


def scores_by_round(results: Results) -> tuple[str, ...]:
    """Scores to be shown after every round: the profile's own, and those that it names."""
    return (results.plan.score, *results.plan.by_round)


def _text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
