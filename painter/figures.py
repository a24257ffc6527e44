"""Pictures set into one file: grids with their words beneath, filmstrips of a growing dialogue, interpolations."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from painter.dialogue import Dialogue
from painter.memory import Remembered
from painter.painter import Painter
from store.errors import ChatPainterError

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

FRAME_MS = 900
LAST_FRAME_MS = 2500
LINES = 48
DIALOGUES = 256
PICTURES = 1024
"""Most that one file shows: each picture is kept until the file is written, and a figure is as wide as its columns."""


def grid(
    painter: Painter,
    dialogues: Sequence[Dialogue],
    out: Path,
    *,
    count: int = 1,
    seed: int = 0,
    truncation: float = 1.0,
    real: np.ndarray | None = None,
    side: int | None = None,
    every_side: bool = False,
) -> None:
    """One column a dialogue (several noises stand below each other), or one column a noise if there is one dialogue.

    Args:
        real: (d, s, s, 3) real pictures to set above.
        side: the size to show; None for the largest.
        every_side: show all sizes that the generator paints.

    Raises:
        ChatPainterError: the generator paints no such size, or there is more to show than one figure holds.
    """
    from trainer.logs.grid import write_grid

    sides = _sides(painter, side, every_side)
    _refuse_more(len(dialogues), count * len(sides))
    by_side = [painter.sides(d.caption, d.rounds, count, seed, truncation) for d in dialogues]
    words = [_words(dialogue) for dialogue in dialogues]
    rows, left = [], []
    if len(dialogues) == 1:
        for each in sides:
            rows.append(by_side[0][each])
            left.append(_label(each if len(sides) > 1 else None, 0, 1))
        if real is not None:
            rows = [np.concatenate([_enlarged(real, row.shape[1]), row]) for row in rows]
        words = _columns(words[0], len(rows[0]))
    else:
        if real is not None:
            rows.append(_enlarged(real, max(sides)))
            left.append("real")
        for each in sides:
            for number in range(count):
                rows.append(np.stack([pictures[each][number] for pictures in by_side]))
                left.append(_label(each if len(sides) > 1 else None, number, count))
    info = _remembered(dialogues[0], seed, truncation) if len(dialogues) == 1 else None
    write_grid(rows, out, below=words, left=left if any(left) else (), lines=LINES, info=info)


def plain(
    painter: Painter, dialogue: Dialogue, out: Path, *, seed: int = 0, truncation: float = 1.0, side: int | None = None
) -> None:
    """The picture itself, without the words beneath.

    Raises:
        ChatPainterError: the generator paints no such size, or the file cannot be written.
    """
    from PIL import Image

    (shown,) = _sides(painter, side, False)
    picture = painter.sides(dialogue.caption, dialogue.rounds, 1, seed, truncation)[shown][0]
    with _written(out) as temporary:
        Image.fromarray(picture).save(temporary, "PNG", pnginfo=_remembered(dialogue, seed, truncation))


def filmstrip(
    painter: Painter,
    dialogue: Dialogue,
    out: Path,
    *,
    count: int = 1,
    seed: int = 0,
    truncation: float = 1.0,
    real: np.ndarray | None = None,
) -> None:
    """One dialogue from its caption alone to all its rounds: columns of a PNG, or moments of a GIF.

    Raises:
        ChatPainterError: it has more rounds than one figure holds.
    """
    from trainer.logs.grid import write_grid

    _refuse_more(1, count * (len(dialogue.rounds) + 1))
    pictures = painter.paint_batch(dialogue.prefixes(), count, seed, truncation)
    captions = [dialogue.caption, *(_round(*each) for each in dialogue.rounds)]
    if out.suffix.lower() == ".gif":
        _save_gif([np.concatenate(list(step), 1) for step in pictures], captions, out)
        return
    rows = list(pictures.swapaxes(0, 1))
    if real is not None:
        rows = [np.concatenate([row, _enlarged(real, row.shape[1])]) for row in rows]
        captions.append("(the real picture)")
    write_grid(rows, out, below=[[text] for text in captions], info=_remembered(dialogue, seed, truncation))


def interpolation(
    painter: Painter,
    first: Dialogue,
    last: Dialogue,
    out: Path,
    *,
    steps: int,
    seeds: tuple[int, int],
    truncation: float = 1.0,
) -> None:
    """From one text (or noise) to another: a row of a PNG, or moments of a GIF that goes there and back."""
    from trainer.logs.grid import write_grid

    pictures = painter.interpolate(first, last, steps, seeds, truncation)
    if out.suffix.lower() == ".gif":
        there_and_back = [*pictures, *pictures[-2:0:-1]]
        _save_gif(there_and_back, [], out, milliseconds=max(40, 2000 // steps))
        return
    ends = [_words(first), *([] for _ in range(steps - 2)), _words(last)]
    if first == last:
        ends = [[*_words(first), f"noise of seed {seeds[0]}"], *ends[1:-1], [f"noise of seed {seeds[1]}"]]
    write_grid([pictures], out, below=ends)


def attended(painter: Painter, dialogue: Dialogue, out: Path, *, seed: int = 0, truncation: float = 1.0) -> list[str]:
    """The picture, the picture coloured by what each place listened to most, and where each round was listened to.

    Returns:
        for every quarter of the picture what it listened to most, in words.

    Raises:
        ChatPainterError: places of this generator's pictures listen to nothing, or there are more rounds than one
            figure shows.
    """
    from trainer.logs.grid import write_grid

    _refuse_more(1, len(dialogue.rounds) + 3)
    heard = painter.attention(dialogue.caption, dialogue.rounds, 1, seed, truncation)
    if not heard:
        raise ChatPainterError(
            "this generator's pictures listen to no single round (model.dialogue: attended does); leave out --attention"
        )
    picture = painter.paint(dialogue.caption, dialogue.rounds, 1, seed, truncation)[0]
    said = {f"round {number}": _round(*each) for number, each in enumerate(dialogue.rounds, 1)}
    said["caption"] = dialogue.caption
    below = [["painted"], heard[0].words(), *([f"{token}:", said.get(token, "")] for token in heard[0].tokens)]
    write_grid([heard[0].strip(picture)], out, below=below, info=_remembered(dialogue, seed, truncation))
    return heard[0].words()


def changes(painter: Painter, dialogue: Dialogue, n: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which round changed what: the picture painted without each round, and how far each pixel moved.

    Returns:
        pictures (r + 1, s, s, 3) uint8 of the first noise: all rounds, then without round 0, 1, …; and the mean
        absolute difference to all rounds over colours and `n` noises, (r, s, s) float32 in [0, 255].
    """
    rounds = len(dialogue.rounds)
    painted = painter.paint_batch([dialogue, *(dialogue.without(i) for i in range(rounds))], n, seed)
    moved = np.abs(painted[1:].astype(np.float32) - painted[:1].astype(np.float32)).mean((1, 4))
    return painted[:, 0], moved


def _remembered(dialogue: Dialogue, seed: int, truncation: float) -> "PngInfo":
    """What the picture was painted from, for its file: `--from` and the page read it back."""
    return Remembered(dialogue.caption, dialogue.rounds, seed, truncation).to_png()


def _sides(painter: Painter, side: int | None, every_side: bool) -> list[int]:
    there = sorted(painter.generator.names)
    if side is not None and side not in there:
        shown = " and ".join(f"{each} × {each}" for each in there)
        raise ChatPainterError(f"this generator paints {shown}, not {side} × {side}; choose one of these for --size")
    return there if every_side else [side or there[-1]]


def _refuse_more(dialogues: int, pictures_each: int) -> None:
    if dialogues > DIALOGUES:
        raise ChatPainterError(f"{dialogues:,} dialogues; one figure shows at most {DIALOGUES}; name fewer of them")
    if dialogues * pictures_each > PICTURES:
        raise ChatPainterError(
            f"{dialogues * pictures_each:,} pictures; one figure shows at most {PICTURES:,}; lower -n, or name less"
        )


def _words(dialogue: Dialogue) -> list[str]:
    return [dialogue.caption, *(_round(*each) for each in dialogue.rounds)]


def _columns(paragraphs: list[str], columns: int) -> list[list[str]]:
    """The paragraphs set as a newspaper sets them: down a column, then on in the next."""
    each = -(-len(paragraphs) // columns)
    return [paragraphs[start : start + each] for start in range(0, columns * each, each)]


def _round(question: str, answer: str) -> str:
    return f"{question.rstrip(' ?')}? {answer}".strip()


def _label(side: int | None, number: int, count: int) -> str:
    parts = [f"{side} × {side}"] if side else []
    return ", ".join([*parts, *([f"noise {number + 1}"] if count > 1 else [])])


def _enlarged(pictures: np.ndarray, size: int) -> np.ndarray:
    """(n, r, r, 3) → (n, size, size, 3)."""
    from PIL import Image

    scaled = [Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS) for picture in pictures]
    return np.stack([np.asarray(picture) for picture in scaled])


@contextlib.contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A temporary name that becomes `out`, in a folder that is made where it is missing."""
    from store.files import replacing, unwritten

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary:
            yield temporary
    except OSError as error:
        raise ChatPainterError(f"{out}: {unwritten(error, 'choose another -o')}") from None


def _save_gif(frames: Sequence[np.ndarray], captions: Sequence[str], out: Path, milliseconds: int = FRAME_MS) -> None:
    """An endless GIF; each frame has its words on a band below, as high as the longest of them needs."""
    from PIL import Image, ImageDraw, ImageFont

    from trainer.logs.grid import FONT, wrap

    font = ImageFont.load_default(FONT)
    width, margin, leading = frames[0].shape[1], 8, FONT + 4
    lines = [wrap([text], width - 2 * margin, font.getlength, 6) for text in captions]
    band = max(map(len, lines)) * leading + 2 * margin if lines else 0
    # One palette for all frames: a palette each would make the ground flicker.
    palette = Image.fromarray(np.concatenate(list(frames), 1)).quantize(255, dither=Image.Dither.NONE)
    moments = []
    for number, frame in enumerate(frames):
        sheet = Image.new("RGB", (width, frame.shape[0] + band), "white")
        sheet.paste(Image.fromarray(frame), (0, 0))
        for row, line in enumerate(lines[number] if lines else []):
            place = (margin, frame.shape[0] + margin + row * leading)
            ImageDraw.Draw(sheet).text(place, line, fill="black", font=font)
        moments.append(sheet.quantize(palette=palette, dither=Image.Dither.NONE))
    times = [milliseconds] * len(moments)
    if captions:
        times[-1] = LAST_FRAME_MS
    with _written(out) as temporary:
        moments[0].save(temporary, "GIF", save_all=True, append_images=moments[1:], duration=times, loop=0)
