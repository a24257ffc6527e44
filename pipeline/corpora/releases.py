"""Which VisDial file holds a split's dialogues, and whether what the file says of itself agrees.

VisDial has splits of its own: v0.9's `train` is COCO's train2014 and its `val` is val2014; v1.0's `train` is both
together, while its `val` and `test` are new pictures that no COCO split has, numbered anew (val2018, test2018).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpora.visdial import VisDial
from pipeline.pictures import files
from store.errors import ChatPainterError, short

# COCO 2017 drew its splits anew from the pictures of 2014, which v1.0 calls train.
_COVERS = {
    ("0.9", "train"): ("train2014",),
    ("0.9", "train2014"): ("train2014",),
    ("0.9", "val"): ("val2014",),
    ("0.9", "val2014"): ("val2014",),
    ("1.0", "train"): ("train2014", "val2014", "train2017", "val2017"),
    ("1.0", "val"): ("val2018",),
    ("1.0", "val2018"): ("val2018",),
    ("1.0", "test"): ("test2018",),
    ("1.0", "test2018"): ("test2018",),
}
# Splits that somebody published under this name: a file cannot be of one of these and of another.
_PUBLISHED = {"train", "val", "test", "test2014", "test2015", "test2017"}.union(*_COVERS.values())
_NAME = re.compile(r"visdial_([^_]+)_(.+)\.json")


@dataclass(frozen=True)
class Release:
    """A file of dialogues as its name has it: visdial_{version}_{part}.json."""

    path: Path
    version: str
    part: str


def find(raw: Path, split: str, version: str | None) -> Release:
    """Where the dialogues of a split lie: `visdial_{version}_{split}.json`, or the published file that covers it.

    Args:
        version: None takes the only version that lies there.

    Raises:
        ChatPainterError: there is none, or more than one version to choose from.
    """
    folder = raw / "visdial"
    there = [Release(path, *name.groups()) for path in sorted(folder.glob("visdial_*.json"))
             if (name := _NAME.fullmatch(path.name))]  # fmt: skip
    fitting = [release for release in there if version in (None, release.version) and _fits(release, split)]
    if len({release.version for release in fitting}) > 1:
        several = ", ".join(release.path.name for release in fitting)
        raise ChatPainterError(f"{folder}: {several}: say which with --visdial-version")
    if not fitting:
        expected = folder / f"visdial_{version or '1.0'}_{split}.json"
        names = ", ".join(release.path.name for release in there) or "nothing of that kind"
        raise ChatPainterError(f"{expected}: no such file for split {split!r}; found there: {names}")
    return min(fitting, key=lambda release: release.part != split)


def covers_others(release: Release, found: VisDial, split: str) -> bool:
    """Does the file hold dialogues of other splits too? (v1.0's train, whatever it was renamed to.)"""
    part = found.split or release.part
    return part != split and len(_covered(release, part)) > 1


def check(release: Release, found: VisDial, split: str) -> str | None:
    """Compare what was asked for with what the file says of itself; None, or what people should know of it.

    Raises:
        ChatPainterError: the file is of another version or of another split than its name says: its dialogues would
            be joined, by their numbers, to other people's pictures.
    """
    if found.version is not None and found.version != release.version:
        raise ChatPainterError(
            f"{release.path}: says that its version is {short(found.version)}, its name says {release.version!r}; "
            "rename it, or write the right version into it"
        )
    said = found.split
    if said in (None, split):
        return None
    covered = _covered(release, said)
    if split in covered or (covered and covered == _covered(release, split)):
        return None
    # COCO 2017's pictures keep the numbers that they had in 2014.
    if split in _PUBLISHED and not (split in ("train2017", "val2017") and release.version == "0.9"):
        of = " or ".join(covered)
        raise ChatPainterError(
            f"{release.path}: says that its split is {short(said)}{f' ({of})' if of else ''}, but was found for split "
            f"{split!r}: other pictures; take the file of that split, or, if it is, write the split into it"
        )
    return f"{release.path} says of itself that its split is {short(said)}"


def prefixes(release: Release, found: VisDial) -> tuple[str, ...]:
    """The beginnings of the names under which the pictures of a file's dialogues were published."""
    covered = _covered(release, found.split or release.part)
    if covered == ("val2018",):
        return files.VISDIAL_VAL
    return files.VISDIAL_TEST if covered == ("test2018",) else files.COCO


def _fits(release: Release, split: str) -> bool:
    return release.part == split or split in _covered(release, release.part)


def _covered(release: Release, part: str | None) -> tuple[str, ...]:
    return _COVERS.get((release.version, str(part)), ())
