"""Did a recipe give what it gave before? Figures of an evaluation beside the ranges that stand in a file.

python -m trainer.evaluation.expected expected.yaml
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from store import options, params
from store.errors import ChatPainterError

NOT_OF_THE_RECIPE = ("embed", "evaluate")  # how fast, and what is counted


@dataclass(frozen=True)
class Expected:
    """Ranges of figures, and the recipe that they are of."""

    recipe: str  # `recipe` of the params
    figures: dict[str, tuple[float, float]]  # name in metrics.json -> least, most

    def __post_init__(self) -> None:
        for name, (least, most) in self.figures.items():
            if least > most:
                raise ValueError(f"{name}: {least:g} to {most:g} is no range")


def recipe(values: dict[str, Any]) -> str:
    """sha256 of all params that decide the figures."""
    of_recipe = {name: value for name, value in values.items() if name not in NOT_OF_THE_RECIPE}
    return hashlib.sha256(json.dumps(of_recipe, sort_keys=True).encode()).hexdigest()


def compare(expected: Expected, found: dict[str, Any]) -> list[str]:
    """The figures that are outside their range or missing, in words."""
    complaints = []
    for name, (least, most) in expected.figures.items():
        value = found.get(name)
        if not isinstance(value, int | float) or not least <= value <= most:
            shown = f"{value:.4f}" if isinstance(value, int | float) else "not there"
            complaints.append(f"{name}: {shown}, expected {least:g} to {most:g}")
    return complaints


@click.command(context_settings=options.CONTEXT)
@click.argument("ranges", type=click.Path(path_type=Path))
@options.params_option
@click.option("--metrics", type=click.Path(path_type=Path), default=Path("runs/evaluate/metrics.json"),
              show_default=True, help="What the evaluation found.")  # fmt: skip
def main(ranges: Path, params_file: Path, metrics: Path) -> None:
    """Compare an evaluation's figures with the RANGES that its recipe gave before."""
    try:
        expected = params.build(Expected, params.parse(ranges.read_text(encoding="utf-8"), str(ranges)), str(ranges))
        found = json.loads(metrics.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChatPainterError(f"{error.filename}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ChatPainterError(f"{metrics}: not JSON ({error}); evaluate again") from None
    if (asked := recipe(params.load(params_file))) != expected.recipe:
        click.echo(f"{params_file} is not the recipe of {ranges} ({asked[:12]}): figures not compared")
        return
    if complaints := compare(expected, found):
        raise ChatPainterError(f"{metrics}: not what this recipe gave before: " + "; ".join(complaints))
    click.echo(f"{len(expected.figures)} figures of {metrics} are where this recipe had them before ({ranges})")


if __name__ == "__main__":
    main()
