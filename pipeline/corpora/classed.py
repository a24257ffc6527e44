"""Pictures of one thing each, a bird or a flower: captions of their own, a class, and no dialogue.

Their archives become what COCO and VisDial are on disk, so that what reads those reads these; the class of every
picture stands beside, in `annotations/classes_SPLIT.json`.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora import json_files, visdial
from pipeline.corpora.folders import replacing_folder
from pipeline.corpora.made_files import folders, write_json
from pipeline.imports.stackgan import class_numbers, file_names
from pipeline.pictures.decode import Unreadable, whole
from store.errors import ChatPainterError, one_line

TEXTS = ("text_c10", "text")
_LARGEST_TEXT = 1 << 20
_OURS = re.compile(
    r"(annotations/(captions|classes)_(train|val|test)\.json|visdial/visdial_1\.0_(train|val|test)\.json"
    r"|images/(train|val|test)/[^/]+\.(png|jpg))"
)

Box = tuple[int, int, int, int]
"""left, top, right, bottom: whole pixels, the last two not in it."""


@dataclass(frozen=True)
class ClassedPicture:
    """One picture of the archive.

    Attributes:
        name: as the archive has it, without its ending: `001.Black_footed_Albatross/Black_Footed_Albatross_0046_18`.
        crop: (width, height) of the picture → what of it is kept; None: all, in the file as it is.
    """

    image_id: int
    name: str
    path: Path
    text: Path
    class_id: int
    crop: Callable[[tuple[int, int]], Box] | None = None


def split_by_pickles(
    source: Path, pictures: Sequence[ClassedPicture], key: Callable[[str], str]
) -> dict[str, list[ClassedPicture]]:
    """StackGAN's splits, `train/filenames.pickle` and `test/filenames.pickle`, checked against `class_info.pickle`.

    Args:
        key: what of a name in the pickles is the picture's name.

    Raises:
        ChatPainterError: a pickle is missing, damaged, names what is not there, or classes that are not the archive's.
    """
    by_name = {key(picture.name): picture for picture in pictures}
    splits: dict[str, list[ClassedPicture]] = {}
    for split in ("train", "test"):
        path = source / split / "filenames.pickle"
        names = file_names(path)
        if unknown := [name for name in names if key(name) not in by_name]:
            raise ChatPainterError(f"{path}: names {unknown[0][:80]!r}, which the archive beside it does not have")
        splits[split] = [by_name[key(name)] for name in names]
        classes = path.with_name("class_info.pickle")
        if classes.exists():
            _check_classes(classes, class_numbers(classes), splits[split])
    for name, count in Counter(picture.name for split in splits.values() for picture in split).items():
        if count > 1:
            raise ChatPainterError(f"{source}: {name} stands in the splits' pickles {count} times; fetch them again")
    return splits


def has_pickles(source: Path) -> bool:
    """Whether StackGAN's splits lie there."""
    return any((source / split / "filenames.pickle").exists() for split in ("train", "test"))


def write(
    raw: Path,
    splits: Mapping[str, Sequence[ClassedPicture]],
    info: dict[str, Any],
    class_names: Mapping[int, str],
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Write folder `raw`, all of it or nothing; the pictures of each split.

    Args:
        info: of the captions file, `description` and so on.
        started: called with the number of pictures.
        done: called after each.

    Raises:
        ChatPainterError: a picture or its captions cannot be read, or `raw` holds something else.
    """
    started(sum(map(len, splits.values())))
    with replacing_folder(raw, _OURS, "annotations/classes_*.json") as temporary:
        for split, pictures in splits.items():
            if not pictures:
                raise ChatPainterError(f"{raw}: split {split!r} would hold no picture; name the whole archive")
            _write_split(temporary, split, pictures, info, class_names, done)
    return {split: len(pictures) for split, pictures in splits.items()}


def _write_split(
    raw: Path,
    split: str,
    pictures: Sequence[ClassedPicture],
    info: dict[str, Any],
    class_names: Mapping[int, str],
    done: Callable[[], object],
) -> None:
    place, images, captions = folders(raw, split), [], []
    numbers = itertools.count(1)
    for picture in pictures:
        said = read_captions(picture.text)
        name, (width, height) = _keep(picture, place)
        images.append({"id": picture.image_id, "file_name": name, "width": width, "height": height})
        captions += [{"image_id": picture.image_id, "id": next(numbers), "caption": text} for text in said]
        done()
    write_json(
        raw / "annotations" / f"captions_{split}.json", {"info": info, "images": images, "annotations": captions}
    )
    # What reads COCO looks for dialogues: there are none.
    write_json(raw / "visdial" / f"visdial_1.0_{split}.json", visdial.layout("1.0", split, []))
    classes = [{"id": number, "name": name} for number, name in sorted(class_names.items())]
    owners = [{"image_id": picture.image_id, "class_id": picture.class_id} for picture in pictures]
    write_json(raw / "annotations" / f"classes_{split}.json", {"classes": classes, "images": owners})


def _keep(picture: ClassedPicture, place: Path) -> tuple[str, tuple[int, int]]:
    """Put the picture where `raw` has it: its name there, and its size."""
    stem = picture.name.rpartition("/")[2]
    try:
        image = whole(picture.path)
        if picture.crop is None:
            (place / f"{stem}.jpg").write_bytes(picture.path.read_bytes())
            return f"{stem}.jpg", image.size
        box = picture.crop(image.size)
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ChatPainterError(
                f"{picture.path}: nothing of it lies in its box; take the boxes of this archive, or the picture again"
            )
        image.crop(box).save(place / f"{stem}.png", compress_level=1)
        return f"{stem}.png", (box[2] - box[0], box[3] - box[1])
    except Unreadable as error:
        raise ChatPainterError(f"{picture.path}: cannot be read ({error}); unpack the archive again") from None


def read_captions(path: Path) -> list[str]:
    """The captions of a picture, a line each, empty lines left out.

    Raises:
        ChatPainterError: the file is missing, larger than captions are, not UTF-8, or holds none.
    """
    remedy = "unpack Reed's captions (text_c10) again"
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_TEXT + 1)
        if len(data) > _LARGEST_TEXT:
            raise ChatPainterError(f"{path}: larger than captions of one picture are; {remedy}")
        said = [json_files.fold(line) for line in data.decode("utf-8").split("\n")]
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError as error:
        raise ChatPainterError(f"{path}: not text in UTF-8 ({one_line(error)}); {remedy}") from None
    if not any(said):
        raise ChatPainterError(f"{path}: holds no caption; {remedy}")
    for text in said:
        json_files.check_text(text, str(path))
    return [text for text in said if text]


def texts_folder(source: Path) -> Path:
    """Where Reed's captions lie.

    Raises:
        ChatPainterError: nowhere.
    """
    for name in TEXTS:
        if (source / name).is_dir():
            return source / name
    raise ChatPainterError(f"{source / TEXTS[0]}: no such folder; unpack Reed's captions there, a file a picture")


def _check_classes(path: Path, numbers: Sequence[int], pictures: Sequence[ClassedPicture]) -> None:
    """Raise ChatPainterError unless the pickle parts the pictures as the archive does, by whatever numbers."""
    if len(numbers) != len(pictures):
        raise ChatPainterError(
            f"{path}: classes of {len(numbers):,} pictures, but filenames.pickle beside it names {len(pictures):,}"
        )
    pairs = {(number, picture.class_id) for number, picture in zip(numbers, pictures)}
    if len(pairs) != len({number for number, _ in pairs}) or len(pairs) != len({own for _, own in pairs}):
        raise ChatPainterError(
            f"{path}: parts the pictures otherwise than the archive's classes; take both from one download"
        )
