"""Pictures to watch a run by: always the same held-out texts and the same noise, the real picture on top.

A column is one text; the first row is the real picture, each further row one noise, the same along the row. So a
column shows what the noise changes, and a row what the text changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from store.errors import ChatPainterError
from store.files import replacing
from trainer.batches import Batch, TrainingData, augment
from trainer.generator import to_uint8

WIDTH = 192  # of a column at least, in pixels: narrower ones leave no room for words
FONT = 12
MARGIN = 6


class Paints(Protocol):
    """What a grid asks of a generator (`trainer.generator.Generator`, in eval mode)."""

    noise_dim: int

    def __call__(
        self, captions: torch.Tensor, dialogues: Any = None, rounds: Any = None, *, noise: torch.Tensor
    ) -> Mapping[int, torch.Tensor]: ...


@dataclass(frozen=True)
class HeldOut:
    """Texts that the run never trains on, with their pictures. n: their number."""

    batch: Batch  # on the CPU
    captions: list[str]  # n
    rounds: list[list[str]]  # n; the rounds, or the one collapsed dialogue

    def __len__(self) -> int:
        return len(self.captions)


def held_out(data: TrainingData, count: int) -> HeldOut:
    """`count` images spread evenly over `data` (fewer when it is smaller), each with its first caption."""
    count = min(count, len(data))
    rows = np.linspace(0, len(data) - 1, count).round().astype(np.int64)
    batch = data.gather(rows, np.zeros(count, np.uint64))
    texts = data.texts(rows)
    return HeldOut(batch, [caption for caption, _ in texts], [rounds for _, rounds in texts])


def paint_grid(generator: Paints, held: HeldOut, path: str | Path, *, noises: int = 3, seed: int = 0) -> Path:
    """Paint every held-out text with `noises` fixed noises, real above painted, and write the PNG `path` atomically.

    Conditioning Augmentation is at its mean. Of a generator with two stages the larger pictures are shown.

    Raises:
        ChatPainterError: the file cannot be written.
    """
    device = next((p.device for p in generator.parameters()), None) if isinstance(generator, torch.nn.Module) else None
    captions = held.batch.captions.to(device)
    dialogues = None if held.batch.dialogues is None else held.batch.dialogues.to(device)
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(noises, 1, generator.noise_dim, generator=stream).to(device)
    rows = []
    with torch.inference_mode():
        for one in noise:
            painted = generator(captions, dialogues, held.batch.rounds, noise=one.expand(len(held), -1))
            rows.append(to_uint8(painted[max(painted)]).cpu().numpy())
    size = rows[0].shape[1]
    real = to_uint8(augment(held.batch.images, min(size, held.batch.images.shape[1]))).numpy()
    labels = ["real"] + [f"noise {number + 1}" for number in range(noises)]
    words = [[caption, *rounds] for caption, rounds in zip(held.captions, held.rounds, strict=True)]
    return write_grid([real, *rows], path, below=words, left=labels)


def write_grid(
    rows: Sequence[np.ndarray],
    path: str | Path,
    below: Sequence[Sequence[str]] = (),
    left: Sequence[str] = (),
    lines: int = 16,
) -> Path:
    """Set rows of uint8 pictures (n, s, s, 3) into one PNG: paragraphs under each column, a word beside each row.

    Small pictures are enlarged by a whole factor, without smoothing. At most `lines` lines stand under a column.

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
            sheet.save(temporary, format="PNG")
    except OSError as error:
        raise ChatPainterError(f"{path}: the grid cannot be written ({error.strerror or error})") from None
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
