"""Pictures set on sheets: grids with their words beneath, film strips of a growing dialogue, walks between texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from painter.dialogue import Dialogue
from painter.painter import Painter
from store.errors import ChatPainterError

FRAME_MS = 900
LAST_FRAME_MS = 2500
LINES = 48


def grid(
    painter: Painter,
    dialogues: Sequence[Dialogue],
    out: Path,
    *,
    count: int = 1,
    seed: int = 0,
    truncation: float = 1.0,
    real: np.ndarray | None = None,
    stage: str | None = None,
    plain: bool = False,
) -> None:
    """One column a dialogue (several noises stand below each other), or one column a noise if there is one dialogue.

    Args:
        real: (d, s, s, 3) real pictures to set above.
        stage: "1", "2", "both", or None for the last.

    Raises:
        ChatPainterError: the generator has no stage 2, or `plain` with more than one picture.
    """
    from trainer.grids import write_grid

    if stage in ("2", "both") and painter.generator.stage == 1:
        raise ChatPainterError("this generator is of stage 1; --stage 2 needs one that training of stage 2 left behind")
    by_size = [painter.stages(d.caption, d.rounds, count, seed, truncation) for d in dialogues]
    every = list(painter.generator.sizes)
    sizes = {"1": every[:1], "both": every}.get(stage or "", every[-1:])
    if plain:
        if len(dialogues) * count * len(sizes) > 1:
            raise ChatPainterError("--plain writes one picture; leave out -n, --from and --stage both")
        _save(by_size[0][sizes[0]][0], out)
        return
    words = [_words(dialogue) for dialogue in dialogues]
    rows, left = [], []
    if len(dialogues) == 1:
        for stage_number, size in enumerate(sizes, 1):
            rows.append(by_size[0][size])
            left.append(f"stage {stage_number}" if len(sizes) > 1 else "")
        if real is not None:
            rows = [np.concatenate([_enlarged(real, row.shape[1]), row]) for row in rows]
        words = _columns(words[0], len(rows[0]))
    else:
        if real is not None:
            rows.append(_enlarged(real, max(sizes)))
            left.append("real")
        for stage_number, size in enumerate(sizes, 1):
            for number in range(count):
                rows.append(np.stack([pictures[size][number] for pictures in by_size]))
                left.append(_label(stage_number if len(sizes) > 1 else None, number, count))
    write_grid(rows, out, below=words, left=left if any(left) else (), lines=LINES)


def film(
    painter: Painter,
    dialogues: Sequence[Dialogue],
    out: Path,
    *,
    count: int = 1,
    seed: int = 0,
    truncation: float = 1.0,
    real: np.ndarray | None = None,
) -> None:
    """Every dialogue from its caption alone to all its rounds: columns of a PNG strip, or moments of a GIF."""
    from trainer.grids import write_grid

    if len(dialogues) > 1:
        raise ChatPainterError(f"--every-round shows one dialogue, {len(dialogues)} were given; name one")
    (dialogue,) = dialogues
    pictures = painter.paint_batch(dialogue.prefixes(), count, seed, truncation)
    captions = [dialogue.caption, *(_round(*each) for each in dialogue.rounds)]
    if out.suffix.lower() == ".gif":
        _save_film([np.concatenate(list(step), 1) for step in pictures], captions, out)
        return
    rows = list(pictures.swapaxes(0, 1))
    if real is not None:
        rows = [np.concatenate([row, _enlarged(real, row.shape[1])]) for row in rows]
        captions.append("(the real picture)")
    write_grid(rows, out, below=[[text] for text in captions])


def walk(
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
    from trainer.grids import write_grid

    pictures = painter.between(first, last, steps, seeds, truncation)
    if out.suffix.lower() == ".gif":
        there_and_back = [*pictures, *pictures[-2:0:-1]]
        _save_film(there_and_back, [], out, milliseconds=max(40, 2000 // steps))
        return
    ends = [_words(first), *([] for _ in range(steps - 2)), _words(last)]
    if first == last:
        ends = [[*_words(first), f"noise of seed {seeds[0]}"], *ends[1:-1], [f"noise of seed {seeds[1]}"]]
    write_grid([pictures], out, below=ends)


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


def said_of(data: Path, split: str, image_ids: Sequence[int]) -> list[Dialogue]:
    """Words of images of a split, in the order asked, from its corpus; of several captions the first.

    Raises:
        ChatPainterError: no such split, or the image is not in it.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = data / "corpus" / f"{split}.parquet"
    try:
        table = parquet.read_table(
            path,
            columns=["image_id", "captions", "rounds", "visdial_caption"],
            filters=[("image_id", "in", list(image_ids))],
        )
    except (OSError, pa.ArrowException, KeyError) as error:
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.parquet"))) or "none"
        raise ChatPainterError(f"{path}: no corpus of split {split!r} (there are: {there}): {error}") from None
    rows = {row["image_id"]: row for row in table.to_pylist()}
    found = []
    for image_id in image_ids:
        if image_id not in rows:
            raise ChatPainterError(f"{path}: no image {image_id} in split {split!r}; its column image_id lists them")
        row = rows[image_id]
        caption = row["captions"][0]["text"] if row["captions"] else row["visdial_caption"] or ""
        rounds = tuple((turn["question"], turn["answer"] or "") for turn in row["rounds"] or [])
        found.append(Dialogue(caption, rounds, image_id))
    return found


def real_pictures(data: Path, split: str, image_ids: Sequence[int | None]) -> np.ndarray | None:
    """(n, s, s, 3) uint8 real pictures of a split, from its largest image store; None if it has no images.

    Raises:
        ChatPainterError: an image is in no store.
    """
    from store.jpeg import open_images

    folder = data / "images" / split
    sizes = sorted(int(path.parent.name) for path in folder.glob("*/manifest.json") if path.parent.name.isdigit())
    if not sizes:
        return None
    store = open_images(folder / str(sizes[-1]))
    row_of = dict(zip(store.column("image_id").tolist(), store.column("row").tolist()))
    if missing := [image_id for image_id in image_ids if image_id not in row_of]:
        raise ChatPainterError(f"{store.path}: no picture of image {missing[0]}; prepare the images of {split!r} again")
    return store.take(np.array([row_of[image_id] for image_id in image_ids if image_id is not None], np.int64))


def _words(dialogue: Dialogue) -> list[str]:
    return [dialogue.caption, *(_round(*each) for each in dialogue.rounds)]


def _columns(paragraphs: list[str], columns: int) -> list[list[str]]:
    """The paragraphs set as a newspaper sets them: down a column, then on in the next."""
    each = -(-len(paragraphs) // columns)
    return [paragraphs[start : start + each] for start in range(0, columns * each, each)]


def _round(question: str, answer: str) -> str:
    return f"{question.rstrip(' ?')}? {answer}".strip()


def _label(stage: int | None, number: int, count: int) -> str:
    parts = [f"stage {stage}"] if stage else []
    return ", ".join([*parts, *([f"noise {number + 1}"] if count > 1 else [])])


def _enlarged(pictures: np.ndarray, size: int) -> np.ndarray:
    """(n, r, r, 3) → (n, size, size, 3)."""
    from PIL import Image

    scaled = [Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS) for picture in pictures]
    return np.stack([np.asarray(picture) for picture in scaled])


def _save(picture: np.ndarray, out: Path) -> None:
    from PIL import Image

    from store.files import replacing

    try:
        with replacing(out) as temporary:
            Image.fromarray(picture).save(temporary, "PNG")
    except OSError as error:
        raise ChatPainterError(f"{out}: cannot be written ({error.strerror or error}); choose another -o") from None


def _save_film(frames: Sequence[np.ndarray], captions: Sequence[str], out: Path, milliseconds: int = FRAME_MS) -> None:
    """An endless GIF; each frame has its words on a band below, as high as the longest of them needs."""
    from PIL import Image, ImageDraw, ImageFont

    from store.files import replacing
    from trainer.grids import FONT, wrap

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
    try:
        with replacing(out) as temporary:
            moments[0].save(temporary, "GIF", save_all=True, append_images=moments[1:], duration=times, loop=0)
    except OSError as error:
        raise ChatPainterError(f"{out}: cannot be written ({error.strerror or error}); choose another -o") from None
