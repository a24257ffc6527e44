"""Pictures to watch a run by: always the same held-out texts and the same noise, the real picture on top.

A column is one text; the first row is the real picture, each further row one noise, the same along the row. So a
column shows what the noise changes, and a row what the text changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from store.errors import ChatPainterError
from store.files import replacing, unwritten
from trainer.feed.augment import augment, to_uint8
from trainer.feed.data import TrainingData
from trainer.feed.inputs import Batch
from trainer.systems import Generator, device_of

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

TEXTS = 8
WIDTH = 192  # of a column at least, in pixels: narrower ones leave no room for words
FONT = 12
MARGIN = 6


@dataclass(frozen=True)
class HeldOutTexts:
    """Texts that the run never trains on, with their pictures. n: their number."""

    batch: Batch  # on the CPU
    words: list[tuple[str, list[str]]]  # n; the caption, and the rounds or the one collapsed dialogue

    @classmethod
    def spread_over(cls, data: TrainingData, count: int) -> "HeldOutTexts":
        """`count` images spread evenly over `data` (fewer when it is smaller), each with its first caption."""
        count = min(count, len(data))
        images = np.linspace(0, len(data) - 1, count).round().astype(np.int64)
        return cls(data.at(images), data.words(images))


def paint_grid(generator: Generator, held: HeldOutTexts, path: str | Path, *, noises: int = 3, seed: int = 0) -> Path:
    """Paint every held-out text with `noises` fixed noises, real above painted, and write the PNG `path` atomically.

    Conditioning Augmentation is at its mean. The largest pictures are shown.

    Raises:
        ChatPainterError: the file cannot be written.
    """
    device = device_of(generator)
    texts = held.batch.to(device)
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(noises, 1, generator.noise_dim, generator=stream).to(device)
    rows = []
    with torch.inference_mode():
        for one in noise:
            painted = generator.paint(texts, one.expand(texts.size, -1))
            rows.append(to_uint8(painted[max(painted)]).cpu().numpy())
    real = held.batch["images"]
    shown = to_uint8(augment(real, min(rows[0].shape[1], real.shape[1]))).numpy()
    labels = ["real"] + [f"noise {number + 1}" for number in range(noises)]
    words = [[caption, *rounds] for caption, rounds in held.words]
    return write_grid([shown, *rows], path, below=words, left=labels)


def write_grid(
    rows: Sequence[np.ndarray],
    path: str | Path,
    below: Sequence[Sequence[str]] = (),
    left: Sequence[str] = (),
    lines: int = 16,
    info: "PngInfo | None" = None,
) -> Path:
    """Set rows of uint8 pictures (n, s, s, 3) into one PNG: paragraphs under each column, a word beside each row.

    Small pictures are enlarged by a whole factor, without smoothing. At most `lines` lines stand under a column. `info`
    is text that the file carries.

    Raises:
        ChatPainterError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(FONT)
    columns = len(rows[0])
    cell = max(-(-WIDTH // row.shape[1]) * row.shape[1] for row in rows)
    wrapped = [wrap(words, cell, font.getlength, lines) for words in below]
    leading = FONT + 3
    beside = int(max((font.getlength(word) for word in left), default=-MARGIN)) + MARGIN
    width = MARGIN + beside + columns * (cell + MARGIN)
    height = MARGIN + len(rows) * (cell + MARGIN) + max((len(text) for text in wrapped), default=0) * leading + MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = MARGIN + number * (cell + MARGIN)
        if left:
            draw.text((MARGIN, top + cell // 2), left[number], fill="black", font=font, anchor="lm")
        for column, picture in enumerate(row):
            enlarged = Image.fromarray(picture).resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (MARGIN + beside + column * (cell + MARGIN), top))
    for column, text in enumerate(wrapped):
        for number, line in enumerate(text):
            place = (
                MARGIN + beside + column * (cell + MARGIN),
                MARGIN + len(rows) * (cell + MARGIN) + number * leading,
            )
            draw.text(place, line, fill="black", font=font)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            sheet.save(temporary, format="PNG", pnginfo=info)
    except OSError as error:
        raise ChatPainterError(f"{path}: {unwritten(error, 'name another folder')}") from None
    return path


def wrap(paragraphs: Sequence[str], width: int, length: Any, most: int) -> list[str]:
    """Paragraphs as lines no wider than `width`; what does not fit in `most` lines ends in an ellipsis."""
    lines: list[str] = []
    for paragraph in paragraphs:
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and length(longer) > width:
                lines.append(line)
                longer = word
            while length(longer) > width:
                longer = longer[:-1]
            line = longer
        lines.append(line)
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and length(last + " …") > width:
        last = last[:-1]
    return [*lines[: most - 1], last.rstrip() + " …"]
