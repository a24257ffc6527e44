"""A gallery of an evaluation, as a page and as one picture: what was told, the real picture, and what was painted.

The page is one file with its pictures inside. Captions and rounds are other people's words and are escaped.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from store import templates
from store.files import replacing
from trainer.evaluation.settings import EvaluateSettings
from trainer.evaluation.split import Condition, HeldOutSplit, paint
from trainer.logs.attention import AttentionMaps, attend
from trainer.logs.grid import write_grid
from trainer.systems import device_of

if TYPE_CHECKING:
    from trainer.systems import Generator

LISTENED = "listened to"


@dataclass(frozen=True)
class Article:
    """One article of the page."""

    caption: str
    rounds: list[str]  # or the one collapsed dialogue
    score: float | None
    pictures: dict[str, np.ndarray]  # by what stands below each, (s, s, 3) uint8
    listened: list[str]  # what the quarters of the first painted picture listened to; [] where they do not


@dataclass(frozen=True)
class Section:
    """Articles below one heading."""

    heading: str
    shown: list[Article]


def choose(scores: np.ndarray | None, count: int, number: int) -> list[tuple[str, np.ndarray]]:
    """Which of `count` pictures to show, under which heading; without scores only evenly spread ones."""
    number = min(number, count)
    if scores is None:
        return [("Spread evenly over the split", np.linspace(0, count - 1, number).round().astype(np.int64))]
    share = max(1, number // 3)
    order = np.argsort(-scores, kind="stable")
    best, worst = order[:share], order[::-1][:share]
    rest = np.setdiff1d(np.arange(count), np.r_[best, worst])
    spread = rest[np.linspace(0, len(rest) - 1, min(len(rest), max(0, number - 2 * share))).round().astype(np.int64)]
    sections = [("Spread evenly over the split", spread), ("Best by score", best), ("Worst by score", worst)]
    return [(heading, rows) for heading, rows in sections if len(rows)]


def write(
    out: Path,
    generator: "Generator",
    held_out: HeldOutSplit,
    images: np.ndarray,
    condition: Condition,
    scores: np.ndarray | None,
    settings: EvaluateSettings,
) -> None:
    """Write gallery.html and gallery.png into `out`; nothing with `gallery: 0`."""
    if not settings.gallery:
        return
    sample = settings.condition == "sample"
    sections = []
    for number, (heading, rows) in enumerate(choose(scores, len(images), settings.gallery)):
        chosen = images[rows]
        draws = [paint(generator, held_out, chosen, condition, sample, draw) for draw in range(settings.noises)]
        size = max(held_out.sides)
        columns = {"real": held_out.real(chosen, size)}
        columns |= {generator.names[side]: draws[0][side] for side in held_out.sides if side < size}
        columns |= {f"painted, noise {draw + 1}": pictures[size] for draw, pictures in enumerate(draws)}
        heard = _attention(generator, held_out, chosen, condition)
        if heard:
            columns[LISTENED] = np.stack([one.coloured(seen) for one, seen in zip(heard, draws[0][size])])
        told = held_out.words(chosen)
        shown = [
            Article(
                caption,
                rounds,
                None if scores is None else float(scores[row]),
                {name: pictures[i] for name, pictures in columns.items()},
                heard[i].words() if heard else [],
            )
            for i, (row, (caption, rounds)) in enumerate(zip(rows, told))
        ]
        sections.append(Section(heading, shown))
        if number == 0:
            words = [[caption, *rounds] for caption, rounds in told]
            write_grid(list(columns.values()), out / "gallery.png", below=words, left=list(columns))
    environment = templates.environment(Path(__file__).parent)
    environment.filters["base64_png"] = _base64_png
    page = environment.get_template("gallery.html.jinja").render(
        images=len(images), split=settings.split, dialogue=condition.name, sections=sections
    )
    with replacing(out / "gallery.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _attention(
    generator: "Generator", held_out: HeldOutSplit, images: np.ndarray, condition: Condition
) -> list[AttentionMaps]:
    """What places of the first noise's pictures listen to; [] of a generator whose places do not."""
    noise, _ = held_out.noise(images, (generator.noise_dim, generator.condition_dim))
    device = device_of(generator)
    return attend(generator, held_out.texts(images, condition).to(device), noise.to(device))


def _base64_png(picture: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
