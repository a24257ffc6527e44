"""CUB-200-2011: birds, with Reed's ten captions a picture, as the archives unpack.

    SOURCE/CUB_200_2011/{images.txt,bounding_boxes.txt,image_class_labels.txt,train_test_split.txt,images/CLASS/NAME.jpg}
    SOURCE/text_c10/CLASS/NAME.txt
    SOURCE/{train,test}/{filenames.pickle,class_info.pickle}      StackGAN's split by class; else CUB's own

What is kept of a picture is StackGAN's square around the bird.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipeline.corpora import classed
from pipeline.corpora.classed import Box, ClassedPicture
from store.errors import ChatPainterError
from store.files import inside

FOLDER = "CUB_200_2011"
REMEDY = f"unpack {FOLDER}.tgz again"
REACH = 0.75  # of the box's longer side: half the side of the square
INFO = {
    "description": "CUB-200-2011 (Wah et al., 2011) with captions of Reed et al., 2016, cropped around the birds",
    "url": "https://www.vision.caltech.edu/datasets/cub_200_2011/",
}
_LARGEST = 1 << 24
_NUMBERS = range(1, 1_000_000)


def make(
    source: Path,
    raw: Path,
    crop: bool = True,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Write the birds as folder `raw`, splits train and test; the pictures of each.

    Args:
        crop: keep the square around the bird alone.
        started, done: as `classed.write`.

    Raises:
        ChatPainterError: names the file, the line, and what was expected.
    """
    folder, texts = source / FOLDER, classed.texts_folder(source)
    names = {number: row[0] for number, row in table(folder / "images.txt", 1).items()}
    classes = _one_each(folder / "image_class_labels.txt", names)
    boxes = table(folder / "bounding_boxes.txt", 4)
    pictures = []
    for number, name in names.items():
        where = f"{folder / 'images.txt'}: image {number}"
        path, stem = inside(folder / "images", name, where), name.rpartition(".")[0]
        if number not in boxes:
            raise ChatPainterError(f"{folder / 'bounding_boxes.txt'}: no box of image {number}; {REMEDY}")
        box = _box(boxes[number], f"{folder / 'bounding_boxes.txt'}: image {number}")
        text = inside(texts, f"{stem}.txt", where)
        pictures.append(
            ClassedPicture(number, stem, path, text, classes[number], partial(square, box) if crop else None)
        )
    stems = {picture.name.rpartition("/")[2] for picture in pictures}
    if len(stems) < len(pictures):
        raise ChatPainterError(f"{folder / 'images.txt'}: two pictures have one name, folders aside; {REMEDY}")
    if classed.has_pickles(source):
        splits = classed.split_by_pickles(source, pictures, lambda name: name)
    else:
        trained = _one_each(folder / "train_test_split.txt", names, range(2))
        splits = {
            split: [picture for picture in pictures if trained[picture.image_id] == kind]
            for split, kind in (("train", 1), ("test", 0))
        }
    class_names = {classes[picture.image_id]: picture.name.partition("/")[0] for picture in pictures}
    return classed.write(raw, splits, INFO, class_names, started, done)


def square(box: Sequence[float], size: tuple[int, int]) -> Box:
    """What StackGAN keeps: a square around the box's middle, half its side three quarters of the longer side.

    Whole pixels as there: the box loses its fractions first, middle and reach are rounded down, and what lies outside
    the picture is cut off, so the square is one no more then.

    Args:
        box: left, top, width, height.
        size: width and height of the picture.
    """
    left, top, wide, high = map(int, box)
    x, y = (2 * left + wide) // 2, (2 * top + high) // 2
    reach = int(max(wide, high) * REACH)
    return max(0, x - reach), max(0, y - reach), min(size[0], x + reach), min(size[1], y + reach)


def table(path: Path, columns: int) -> dict[int, list[str]]:
    """A text file of lines `NUMBER VALUE …`: number → the values.

    Raises:
        ChatPainterError: it is missing, not text, or a line is not so.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        lines = data.decode("utf-8").split("\n")
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from None
    except UnicodeDecodeError:
        raise ChatPainterError(f"{path}: not text in UTF-8; {REMEDY}") from None
    if len(data) > _LARGEST:
        raise ChatPainterError(f"{path}: larger than such a list is; {REMEDY}")
    found: dict[int, list[str]] = {}
    for place, line in enumerate(lines, 1):
        if not (values := line.split()):
            continue
        number = _whole(values[0], _NUMBERS)
        if number is None or len(values) != columns + 1:
            what = "a number and " + ("a value" if columns == 1 else f"{columns} values")
            raise ChatPainterError(f"{path}, line {place}: expected {what}, found {line[:80]!r}; {REMEDY}")
        if number in found:
            raise ChatPainterError(f"{path}, line {place}: image {number} a second time; {REMEDY}")
        found[number] = values[1:]
    if not found:
        raise ChatPainterError(f"{path}: holds no line; {REMEDY}")
    return found


def _one_each(path: Path, names: dict[int, str], allowed: range = _NUMBERS) -> dict[int, int]:
    """Of every image a whole number."""
    rows, found = table(path, 1), {}
    for number in names:
        value = _whole(rows[number][0], allowed) if number in rows else None
        if value is None:
            what = f"{rows[number][0][:40]!r}" if number in rows else "nothing"
            raise ChatPainterError(f"{path}: {what} of image {number}, expected a whole number; {REMEDY}")
        found[number] = value
    return found


def _whole(text: str, allowed: range) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) in allowed else None


def _box(values: Sequence[str], where: str) -> list[float]:
    try:
        box = [float(value) for value in values]
    except ValueError:
        box = [math.nan]
    if not all(math.isfinite(value) and 0 <= value < 1e6 for value in box) or min(box[2:]) < 1:
        raise ChatPainterError(
            f"{where}: {' '.join(values)[:80]!r} is no box of left, top, width and height in pixels; {REMEDY}"
        )
    return box
