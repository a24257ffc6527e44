"""A split's corpus made from raw files, with a report of what was lacking and of what may be wrong."""

import collections
import dataclasses
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.corpora import coco, corpus, releases, visdial
from pipeline.corpora.join import CorpusSettings, join
from pipeline.pictures.files import PictureFiles
from store.errors import ChatPainterError
from store.files import in_words, replacing


def prepare(
    raw: Path, split: str, out: Path, settings: CorpusSettings, visdial_version: str | None
) -> tuple[Path, dict[str, Any]]:
    """Join the captions, dialogues and pictures of a split into `{out}/{split}.parquet`; (its path, the report).

    The report is also written, as `{out}/{split}.report.json`. The same files and settings give the same bytes.

    Raises:
        ChatPainterError: a file is missing or damaged, says of itself that it is another, an image may have one of
            several files, or not one image is left; nothing is written.
    """
    captions_path = coco.captions_file(raw, split)
    release = releases.find(raw, split, visdial_version)
    images = coco.read(captions_path)
    said = visdial.read(release.path)
    odd = releases.check(release, said, split)
    pictures = PictureFiles(raw, split, (image.file_name for image in images.values()))
    alone, prefixes = not releases.covers_others(release, said, split), releases.prefixes(release, said)
    rows, counts = join(images, said.dialogues, pictures, settings, alone, prefixes)
    lacking = {name: dataclasses.asdict(getattr(counts, name)) for name in dataclasses.asdict(settings)}
    if not rows:
        why = ", ".join(f"{lack['count']:,} {name.replace('_', ' ')}" for name, lack in lacking.items())
        names = f": {_some(list(chain(*counts.looked_for.values())))}"
        raise ChatPainterError(
            f"{captions_path}, {release.path}: no image is left ({why}; pictures looked for in "
            f"{', '.join(map(str, pictures.folders))}{names if counts.looked_for else ''}); "
            "see `corpus` in params.yaml for what may stay"
        )
    report = {
        "split": split,
        "captions_file": str(captions_path),
        "dialogues_file": str(release.path),
        "images": len(rows),
        "captions": sum(len(row.captions) for row in rows),
        "rounds": sum(len(row.rounds) for row in rows),
        "captions_per_image": _histogram(len(row.captions) for row in rows),
        "rounds_per_dialogue": _histogram(len(row.rounds) for row in rows),
        "lacking": lacking,
        "looked_for": {str(image_id): names for image_id, names in counts.looked_for.items()},
        "dialogues_of_other_splits": counts.other_splits,
        "files_of_several_images": counts.one_file,
        "odd": odd,
    }
    with in_words(out):
        out.mkdir(parents=True, exist_ok=True)
    path = out / f"{split}.parquet"
    corpus.write(rows, path)
    _write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", out / f"{split}.report.json")
    return path, report


def in_lines(report: dict[str, Any]) -> Iterator[str]:
    """What a report has to say to whoever made the corpus, a line each; nothing where all is as it should be."""
    for name, lack in report["lacking"].items():
        if lack["count"]:
            fate = {"drop": "left out", "keep": "kept"}[lack["fate"]]
            names = list(chain(*report["looked_for"].values())) if name == "without_image" else []
            files = f", looked for {_some(names)}" if names else ""
            first = _some(lack["first"], lack["count"])
            yield f"{name.replace('_', ' ')}: {lack['count']:,}, {fate} (images {first}){files}"
    if report["dialogues_of_other_splits"]:
        yield f"dialogues of other splits, not read: {report['dialogues_of_other_splits']:,}"
    if files := report["files_of_several_images"]:
        shown = "; ".join(f"{name}: images {_some(ids)}" for name, ids in list(files.items())[:5])
        yield f"files that several images name: {len(files):,} ({shown}{'; ...' if len(files) > 5 else ''})"
    if report["odd"]:
        yield report["odd"]


def _some(values: list[Any], count: int | None = None) -> str:
    """The first five of so many, with a mark where there are more."""
    more = (len(values) if count is None else count) > 5
    shown = (str(value) if str(value).isprintable() else ascii(value) for value in values[:5])
    return ", ".join(shown) + (", ..." if more else "")


def _histogram(values: Iterable[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(collections.Counter(values).items())}


def _write_text(text: str, path: Path) -> None:
    with in_words(path), replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
