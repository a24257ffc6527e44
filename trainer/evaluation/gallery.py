"""A gallery of an evaluation, as a page and as one picture: what was told, the real picture, and what was painted.

The page is one file with its pictures inside. Captions and rounds are other people's words and are escaped.
"""

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from store.files import replacing
from trainer.evaluation.settings import EvaluateSettings
from trainer.evaluation.split import Condition, HeldOutSplit, paint
from trainer.logs.grid import write_grid

if TYPE_CHECKING:
    from trainer.systems import Generator

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
       color: #222; background: #fff }
article { display: flex; flex-wrap: wrap; gap: 1.2rem; padding: 1.2rem 0; border-top: 1px solid #ddd }
figure { margin: 0 }
figcaption { font-size: 12px; color: #666 }
img { width: 128px; height: 128px; image-rendering: pixelated; display: block }
.words { flex: 1 1 20rem }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; flex: 2 1 30rem; align-content: flex-start }
ol { margin: .4rem 0; padding-left: 1.6rem; color: #444 }
.score { color: #666; font-size: 13px }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #161616 }
  article { border-color: #333 }
  ol { color: #bbb }
}
"""


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
    sections = choose(scores, len(images), settings.gallery)
    sample = settings.condition == "sample"
    page = ["<!doctype html><html lang=en><meta charset=utf-8><title>ChatPainter: painted pictures</title>"]
    page.append(f"<meta name=viewport content='width=device-width'><style>{STYLE}</style><h1>Painted pictures</h1>")
    page.append(f"<p>{len(images)} images of the split {html.escape(settings.split)}; dialogue: {condition.name}.</p>")
    for number, (heading, rows) in enumerate(sections):
        chosen = images[rows]
        draws = [paint(generator, held_out, chosen, condition, sample, draw) for draw in range(settings.noises)]
        size = max(generator.names)
        columns = {"real": held_out.real(chosen, size)}
        columns |= {name: draws[0][side] for side, name in generator.names.items() if side < size}
        columns |= {f"painted, noise {draw + 1}": pictures[size] for draw, pictures in enumerate(draws)}
        captions, rounds = zip(*held_out.words(chosen))
        page.append(f"<h2>{heading}</h2>")
        for i, row in enumerate(rows):
            score = "" if scores is None else f"<p class=score>score {scores[row]:.2f}</p>"
            said = "".join(f"<li>{html.escape(text)}</li>" for text in rounds[i])
            shown = "".join(
                f"<figure><img alt='{name}' src='data:image/png;base64,{_png(pictures[i])}'>"
                f"<figcaption>{name}</figcaption></figure>"
                for name, pictures in columns.items()
            )
            page.append(
                f"<article><div class=words><b>{html.escape(captions[i])}</b><ol>{said}</ol>{score}</div>"
                f"<div class=pictures>{shown}</div></article>"
            )
        if number == 0:
            words = [[caption, *said] for caption, said in zip(captions, rounds)]
            write_grid(list(columns.values()), out / "gallery.png", below=words, left=list(columns))
    with replacing(out / "gallery.html") as temporary:
        temporary.write_text("\n".join(page) + "</html>\n", encoding="utf-8")


def _png(picture: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
