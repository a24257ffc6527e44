"""The sample world on disk, laid out as COCO and VisDial are."""

import dataclasses
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.corpora.sample_pictures import Painter
from pipeline.corpora.sample_words import captions, dialogue
from pipeline.corpora.sample_world import (
    COLOURS,
    GROUNDS,
    HALF,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    WorldSettings,
    ceilings,
    outline,
    scene,
)
from store.errors import ChatPainterError
from store.files import in_words

SPLITS = ("train", "val")
CAPTIONS = 5
# Ids are unique over both splits, as COCO's are.
FIRST_ID = {"train": 1, "val": 1_000_001}
_OURS = re.compile(
    r"(annotations/(captions|instances)_(train|val)\.json|visdial/visdial_1\.0_(train|val)\.json"
    r"|images/(train|val)/SAMPLE_(train|val)_\d{12}\.jpg|truth_(train|val)\.json)"
)


def make(raw: Path, settings: WorldSettings, done: Callable[[], object] = lambda: None) -> None:
    """Write the sample world as folder `raw`: all of it or nothing; the same settings give the same bytes.

    Args:
        done: called after each picture.

    Raises:
        ChatPainterError: `raw` holds something that is not a sample world, or cannot be written.
    """
    _refuse_foreign(raw)
    temporary = raw.with_name(f".{raw.name}.tmp")
    with in_words(raw):
        try:
            raw.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            painter = Painter(settings.image_size, settings.seed)
            for split in SPLITS:
                _write_split(temporary, split, settings, painter, done)
            if raw.exists():
                shutil.rmtree(raw)
            os.replace(temporary, raw)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def scenes(split: str, settings: WorldSettings) -> Iterator[tuple[int, Scene, random.Random]]:
    """(image_id, scene, the stream its words and ground are drawn from) of a split; each scene is a function of the
    seed, the split and its number alone, so that a larger world begins with a smaller one."""
    for number in range(getattr(settings, split)):
        draw = random.Random(f"chatpainter {settings.seed} {split} {number}")
        yield FIRST_ID[split] + number, scene(draw), draw


def file_name(split: str, image_id: int) -> str:
    return f"SAMPLE_{split}_{image_id:012d}.jpg"


def _refuse_foreign(raw: Path) -> None:
    if raw.exists() and not raw.is_dir():
        raise ChatPainterError(f"{raw}: is a file; name another folder with --raw")
    if not raw.exists():
        return
    files = [path for path in sorted(raw.rglob("*")) if not path.is_dir()]
    foreign = [path for path in files if not _OURS.fullmatch(path.relative_to(raw).as_posix())]
    if foreign or (files and not any((raw / f"truth_{split}.json").exists() for split in SPLITS)):
        raise ChatPainterError(
            f"{(foreign or files)[0]}: not part of a sample world, and making one replaces all of {raw}; "
            "move it, or name another --raw"
        )


def _write_split(raw: Path, split: str, settings: WorldSettings, painter: Painter, done: Callable[[], object]) -> None:
    for folder in ("annotations", "visdial", f"images/{split}"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    size = settings.image_size
    images: list[dict] = []
    said: list[dict] = []
    instances: list[dict] = []
    dialogues: list[tuple[int, str, list[tuple[str, str]]]] = []
    truth: list[dict] = []
    for image_id, picture, draw in scenes(split, settings):
        images.append(
            {"id": image_id, "file_name": file_name(split, image_id), "width": size, "height": size, "license": 1}
        )
        texts = captions(picture, draw, CAPTIONS)
        said += [{"image_id": image_id, "id": image_id * 10 + n, "caption": text} for n, text in enumerate(texts)]
        instances += [_instance(image_id, n, thing, size) for n, thing in enumerate(picture.things)]
        dialogues.append((image_id, texts[0], dialogue(picture, draw)))
        truth.append({"image_id": image_id, "ground": picture.ground, "objects": [_object(t) for t in picture.things]})
        cut = (draw.random(), draw.random(), draw.random() < 0.5)
        path = raw / "images" / split / file_name(split, image_id)
        # Subsampled chroma would bleed a shape's colour into its neighbourhood.
        painter.picture(picture, cut).save(path, "JPEG", quality=95, subsampling=0)
        done()
    head = {
        "info": {"description": f"ChatPainter's sample world, {split}", "version": "1.0", "seed": settings.seed},
        "licenses": [{"id": 1, "name": "MIT", "url": ""}],
        "images": images,
    }
    categories = [{"supercategory": "shape", "id": n, "name": shape} for n, shape in enumerate(SHAPES, 1)]
    _write(raw / "annotations" / f"captions_{split}.json", head | {"annotations": said})
    _write(raw / "annotations" / f"instances_{split}.json", head | {"annotations": instances, "categories": categories})
    _write(raw / "visdial" / f"visdial_1.0_{split}.json", visdial_layout("1.0", split, dialogues))
    _write(raw / f"truth_{split}.json", {"world": _world(settings), "scenes": truth})


def visdial_layout(version: str, split: str, dialogues: list[tuple[int, str, list[tuple[str, str]]]]) -> dict[str, Any]:
    """(image_id, caption, rounds) in the layout of VisDial: texts once each in two pools, rounds as indices."""
    pools: tuple[dict[str, int], dict[str, int]] = ({}, {})
    entries = []
    for image_id, caption, rounds in dialogues:
        turns = [tuple(pool.setdefault(text, len(pool)) for pool, text in zip(pools, turn)) for turn in rounds]
        dialog = [{"question": question, "answer": answer} for question, answer in turns]
        entries.append({"image_id": image_id, "caption": caption, "dialog": dialog})
    data = {"questions": list(pools[0]), "answers": list(pools[1]), "dialogs": entries}
    return {"version": version, "split": split, "data": data}


def _world(settings: WorldSettings) -> dict[str, Any]:
    return {
        **dataclasses.asdict(settings),
        "places": {place: {"centre": list(centre), "half": HALF} for place, centre in PLACES.items()},
        "colours": {colour: list(rgb) for colour, rgb in COLOURS.items()},
        "grounds": {ground: list(rgb) for ground, rgb in GROUNDS.items()},
        "shapes": list(SHAPES),
        "sizes": SIZES,
        "ceilings": ceilings(),
    }


def _object(thing: Thing) -> dict[str, Any]:
    return {
        "place": thing.place,
        "colour": thing.colour,
        "shape": thing.shape,
        "size": thing.size,
        "centre": list(thing.centre),
        "radius": thing.radius,
    }


def _instance(image_id: int, number: int, thing: Thing, size: int) -> dict[str, Any]:
    corners = [(round(x * size, 2), round(y * size, 2)) for x, y in outline(thing)]
    xs, ys = zip(*corners)
    area = abs(sum(x * v - u * y for (x, y), (u, v) in zip(corners, corners[1:] + corners[:1]))) / 2
    return {
        "id": image_id * 10 + number,
        "image_id": image_id,
        "category_id": SHAPES.index(thing.shape) + 1,
        "segmentation": [[value for corner in corners for value in corner]],
        "area": round(area, 2),
        "bbox": [min(xs), min(ys), round(max(xs) - min(xs), 2), round(max(ys) - min(ys), 2)],
        "iscrowd": 0,
    }


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
