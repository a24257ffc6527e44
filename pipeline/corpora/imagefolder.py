"""Pictures of one's own, with captions and dialogues, laid out as COCO and VisDial are.

The folder is an image folder as Hugging Face's `datasets` knows it: pictures, and `metadata.csv` or `metadata.jsonl`
with a `file_name` a row; or pictures with a text beside each (`imagefolder_files`).
"""

import hashlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.corpora import coco, imagefolder_files, made_files, visdial
from pipeline.corpora.folders import replacing_folder
from pipeline.corpora.imagefolder_files import PictureRow
from pipeline.pictures.decode import Unreadable, whole
from pipeline.pictures.files import spellings
from pipeline.pictures.pool import quietly
from store import machine
from store.errors import ChatPainterError, one_line, short
from store.files import inside, sha256_file

SPLITS = ("train", "val", "validation", "dev", "test")
MARKER = "imagefolder.json"
_OURS = re.compile(
    rf"(annotations/captions_[^/]+\.json|visdial/visdial_1\.0_[^/]+\.json|images/[^/]+/.+|{re.escape(MARKER)})"
)


@dataclass
class Picture:
    """A picture and all that its rows say.

    Attributes:
        where: the first of its rows.
        name: of its file, in the source folder.
        kept: of its file, in the split's folder.
        split: "" until it is known.
        dialogues: by name, (caption of its first row that has one, rounds).
    """

    where: str
    name: str
    path: Path
    kept: str
    split: str = ""
    captions: list[str] = field(default_factory=list)
    dialogues: dict[str, tuple[str, list[tuple[str, str]]]] = field(default_factory=dict)

    def add(self, told: PictureRow) -> None:
        """Take over what a row says; a caption that is said again counts once, and a split need be said once."""
        if told.split and self.split and told.split != self.split:
            raise ChatPainterError(
                f"{told.where}: {short(self.name)} is of split {short(told.split)} here, and of {short(self.split)} "
                f"in a row before ({self.where}); a picture belongs to one"
            )
        self.split = self.split or told.split or ""
        self.captions += [text for text in dict.fromkeys(told.captions) if text not in self.captions]
        if told.rounds:
            caption, rounds = self.dialogues.get(told.dialogue, ("", []))
            self.dialogues[told.dialogue] = (caption or next(iter(told.captions), ""), rounds + told.rounds)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        splits: by name, how many (pictures, captions, dialogues, rounds).
        unread: columns or keys that nothing reads.
    """

    splits: dict[str, tuple[int, int, int, int]]
    unread: list[str]


def make(
    source: Path,
    raw: Path,
    val_share: float | None = None,
    seed: int = 0,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> Written:
    """Write the pictures of `source` and what is said of them as folder `raw`, all of it or nothing.

    A picture with several dialogues becomes several images with one file, since VisDial has one dialogue an image; all
    of them lie in one split.

    Args:
        val_share: this share of the pictures is `val`, the rest `train`, drawn by `seed` from the pictures' bytes, so
            that equal pictures never part. None: splits are those that the rows state, or else the pictures' folders.
        started: called with the number of pictures.
        done: called after each was read.

    Raises:
        ChatPainterError: names the file, the row, and what was expected; or `raw` holds something else.
    """
    read = imagefolder_files.read(source)
    pictures = _pictures(source, read.told)
    started(len(pictures))
    looked = _look(pictures, done)
    if val_share is not None:
        _draw(pictures, [checksum for checksum, _ in looked], val_share, seed, source)
    else:
        _by_folder(pictures)
    sizes = {picture.name: size for picture, (_, size) in zip(pictures, looked)}
    splits: dict[str, list[Picture]] = {}
    for picture in pictures:
        splits.setdefault(picture.split, []).append(picture)
    made, first_id = {}, 1
    with replacing_folder(raw, _OURS, MARKER) as temporary:
        for split, there in splits.items():
            made[split] = _write_split(temporary, split, there, sizes, first_id)
            first_id += sum(max(1, len(picture.dialogues)) for picture in there)
        about = {"source": str(source), "val_share": val_share, "seed": seed, "pictures": len(pictures)}
        made_files.write_json(temporary / MARKER, about)
    return Written(made, read.unread)


def _pictures(source: Path, told: Iterable[PictureRow]) -> list[Picture]:
    """The pictures in the order of their first rows."""
    pictures: dict[str, Picture] = {}
    for row in told:
        if row.split:
            coco.check_split(row.split, row.where)
        inside(source, row.file_name, stated_in=row.where)
        path = next((source / name for name in spellings(row.file_name) if (source / name).is_file()), None)
        if path is None:
            raise ChatPainterError(
                f"{row.where}: {source / row.file_name}: no such file; put it there, or remove the row"
            )
        name = path.relative_to(source).as_posix()
        pictures.setdefault(name, Picture(row.where, name, path, name)).add(row)
    return list(pictures.values())


def _look(pictures: Sequence[Picture], done: Callable[[], object]) -> list[tuple[str, tuple[int, int]]]:
    """(sha256 of its file, width and height) of every picture, each decoded whole."""

    def look(picture: Picture) -> tuple[str, tuple[int, int]]:
        try:
            found = sha256_file(picture.path), whole(picture.path).size
        except (Unreadable, OSError) as error:
            raise ChatPainterError(
                f"{picture.where}: {picture.path}: cannot be read ({one_line(error)}); put a whole picture there, or "
                "remove its rows"
            ) from None
        done()
        return found

    with quietly(), ThreadPoolExecutor(machine.cores()) as threads:  # decoders and hashes let go of the GIL
        return list(threads.map(look, pictures))


def _draw(pictures: Sequence[Picture], checksums: Sequence[str], share: float, seed: int, source: Path) -> None:
    """Make those `val` whose bytes, with the seed, have the least hashes."""
    if stated := next((picture for picture in pictures if picture.split), None):
        raise ChatPainterError(f"{stated.where}: states a split; leave out --val-share, or the column")
    ranks = [hashlib.sha256(f"{seed} {checksum}".encode()).hexdigest() for checksum in checksums]
    last = sorted(ranks)[max(1, round(share * len(ranks))) - 1]
    for picture, rank in zip(pictures, ranks):
        picture.split = "val" if rank <= last else "train"
    if max(ranks) <= last:
        raise ChatPainterError(
            f"{source}: of {len(ranks):,} pictures ({len(set(ranks)):,} of them different) nothing is left to train "
            "on; give more pictures, or a smaller --val-share"
        )


def _by_folder(pictures: Sequence[Picture]) -> None:
    """Splits as stated; where no row states one, by the first folder of each picture's name."""
    if any(picture.split for picture in pictures):
        if without := next((picture for picture in pictures if not picture.split), None):
            raise ChatPainterError(f"{without.where}: {short(without.name)} has no split, though others have; write it")
        return
    for picture in pictures:
        folder, _, rest = picture.name.partition("/")
        if not rest or folder not in SPLITS:
            raise ChatPainterError(
                f"{picture.where}: of which split is {short(picture.name)}? Write a column `split`, put pictures into "
                f"folders ({', '.join(SPLITS)}), or have it drawn: --val-share 0.1"
            )
        picture.split, picture.kept = folder, rest


def _write_split(
    raw: Path, split: str, pictures: Sequence[Picture], sizes: Mapping[str, tuple[int, int]], first_id: int
) -> tuple[int, int, int, int]:
    """Write a split; how many pictures, captions, dialogues and rounds."""
    place, images, captions, dialogues = made_files.folders(raw, split), [], [], []
    ids, caption_ids = itertools.count(first_id), itertools.count(1)
    for picture in pictures:
        target = place / picture.kept
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture.path, target)
        width, height = sizes[picture.name]
        first = next(iter(picture.captions), "")
        for caption, rounds in picture.dialogues.values() or [("", [])]:
            image_id = next(ids)
            images.append({"id": image_id, "file_name": picture.kept, "width": width, "height": height})
            captions += [{"image_id": image_id, "id": next(caption_ids), "caption": text} for text in picture.captions]
            if rounds:
                dialogues.append(visdial.DialogueRecord(image_id, caption or first, rounds))
    made_files.write_json(raw / "annotations" / f"captions_{split}.json", {"images": images, "annotations": captions})
    made_files.write_json(raw / "visdial" / f"visdial_1.0_{split}.json", visdial.layout("1.0", split, dialogues))
    rounds_said = sum(len(dialogue.rounds) for dialogue in dialogues)
    return len(pictures), sum(len(picture.captions) for picture in pictures), len(dialogues), rounds_said
