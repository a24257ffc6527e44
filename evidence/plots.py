"""Curves over pictures seen and over rounds, and the same texts painted by every arm."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evidence import trained
from evidence.results import Results, label
from store.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = 8  # texts in the picture of all arms
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")


def over_training(path: Path, results: Results) -> Path:
    """The score over pictures seen, one line an arm with its seeds, and the ceilings."""
    score, points = results.plan.score, results.plan.points
    lines = {}
    for arm in results.arms:
        values = [[value for seen in points for value in results.values(score, [job], seen)] for job in results.of(arm)]
        lines[arm] = np.array(points) / 1000, np.array(values)
    ceilings = {
        f"{told} ceiling": value
        for told in ("caption", "chance")
        if (value := results.ceiling(score, told)) is not None
    }
    _draw(path, results.plan.title, "thousand pictures seen", label(score), lines, ceilings)
    return path


def over_rounds(path: Path, results: Results, score: str) -> Path | None:
    """A score over the rounds that were told, one line an arm with its seeds; None where no arm was asked."""
    curves = {arm: results.rounds(score, results.of(arm)) for arm in results.arms}
    lines = {
        arm: (np.array(list(curve)), np.array(list(curve.values())).T)
        for arm, curve in curves.items()
        if curve and len({len(values) for values in curve.values()}) == 1
    }
    if not lines:
        return None
    _draw(path, results.plan.title, "rounds told", label(score), lines, {})
    return path


def pictures(path: Path, results: Results) -> Path | None:
    """The same held-out texts painted by every arm's first seed below the real pictures; None without generators."""
    rows: list[np.ndarray] = []
    words: list[list[str]] = []
    for arm in results.arms:
        one = trained.Trained(results.work, results.of(arm)[0])
        if not one.file.exists():
            return None
        held_out = one.texts(one.settings.split)
        images = np.arange(min(PICTURES, len(held_out)))
        if not rows:
            rows.append(held_out.real(images, one.side))
        rows.append(one.paint(held_out, images))
        captions, rounds = zip(*held_out.words(images))
        if any(rounds) or not words:
            words = [[caption, *said] for caption, said in zip(captions, rounds)]
    trained.write_grid(rows, path, below=words, left=["real", *results.arms])
    return path


def _draw(
    path: Path,
    title: str,
    across: str,
    up: str,
    lines: dict[str, tuple[np.ndarray, np.ndarray]],
    levels: dict[str, float],
) -> None:
    """Lines of (points,) by (seeds, points), the mean drawn thick; `levels`: horizontal lines by name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=150)
    for (name, (at, values)), colour in zip(lines.items(), COLOURS * len(lines)):
        _line(axes, f"{name} ({len(values)} seed{'s' if len(values) > 1 else ''})", at, values, colour)
    for (name, value), style in zip(levels.items(), ("--", ":")):
        axes.axhline(value, color="#777777", linestyle=style, linewidth=1, label=f"{name} {value:.3f}")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.2)
    axes.legend(fontsize=8)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    pyplot.close(figure)


def _line(axes: "Axes", name: str, at: np.ndarray, values: np.ndarray, colour: str) -> None:
    axes.plot(at, values.mean(axis=0), marker="o", color=colour, label=name)
    for row in values:
        axes.plot(at, row, color=colour, alpha=0.25, linewidth=1)
