"""Did a recipe give what it gave before? Figures of an evaluation beside the ranges that stand in a file.

python -m trainer.evaluation.expected expected.yaml
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from store import options, params
from store.errors import ChatPainterError


@dataclass(frozen=True)
class Expected:
    """Ranges of figures, and the recipe that they are of."""

    recipe: str  # `params.digest` of the params
    figures: dict[str, tuple[float, float]]  # name in metrics.json -> least, most

    def __post_init__(self) -> None:
        for name, (least, most) in self.figures.items():
            if least > most:
                raise ValueError(f"{name}: {least:g} to {most:g} is no range")


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
    expected = params.build(Expected, params.read(ranges), str(ranges))
    try:
        found = json.loads(metrics.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChatPainterError(f"{metrics}: cannot be read ({error.strerror}); evaluate first") from None
    except ValueError as error:
        raise ChatPainterError(f"{metrics}: not JSON ({error}); evaluate again") from None
    if (asked := params.digest(params.load(params_file))) != expected.recipe:
        click.echo(f"{params_file} is not the recipe of {ranges} (its digest is {asked}): figures not compared")
        return
    if complaints := compare(expected, found):
        raise ChatPainterError(f"{metrics}: not what this recipe gave before: " + "; ".join(complaints))
    click.echo(f"{len(expected.figures)} figures of {metrics} are where this recipe had them before ({ranges})")


if __name__ == "__main__":
    main()
