"""Every picture's class: the store `classes` beside the pictures, where `annotations/classes_SPLIT.json` states it."""

from pathlib import Path

import numpy as np

from pipeline import ragged
from pipeline.corpora import corpus as corpora
from pipeline.corpora import json_files
from store.errors import ChatPainterError
from store.files import sha256_file
from store.writer import remove_store

NAME = "classes"
REMEDY = "write it again with whatever made it, or name another folder with --raw"


def prepare(corpus: Path, raw: Path, split: str, out: Path) -> tuple[int, int] | None:
    """Write the store `out`/classes, a row (1,) int32 an image of the corpus; (images, distinct classes).

    None, and the store is removed, where no such file lies in `raw`. Names stand in the manifest, `made_from.classes`.

    Raises:
        ChatPainterError: the file is damaged, or lacks an image of the corpus.
    """
    path = raw / "annotations" / f"classes_{split}.json"
    if not path.is_file():
        remove_store(out / NAME)
        return None
    content = json_files.read_object(path, REMEDY)
    names = {
        str(json_files.field(entry, "id", int, f"{path}: classes[{place}]", 0, 2**31 - 1)): json_files.field(
            entry, "name", str, f"{path}: classes[{place}]"
        )
        for place, entry in enumerate(json_files.field(content, "classes", list, str(path)))
    }
    classes: dict[int, int] = {}
    for place, entry in enumerate(json_files.field(content, "images", list, str(path))):
        where = f"{path}: images[{place}]"
        image_id = json_files.field(entry, "image_id", int, where)
        classes[image_id] = json_files.field(entry, "class_id", int, where, 0, 2**31 - 1)
    ids = corpora.read(corpus)["image_id"].to_pylist()
    if lacking := [image_id for image_id in ids if image_id not in classes]:
        raise ChatPainterError(f"{path}: no class of image {lacking[0]} of {corpus}; {REMEDY}")
    rows = [np.array([[classes[image_id]]], np.int32) for image_id in ids]
    ragged.write(out / NAME, NAME, split, ids, rows, {"corpus": sha256_file(corpus), "classes": names}, lengths=None)
    return len(ids), len({classes[image_id] for image_id in ids})
