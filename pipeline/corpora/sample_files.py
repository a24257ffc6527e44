"""The sample world on disk, laid out as COCO and VisDial are."""

import dataclasses
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.corpora import films, visdial
from pipeline.corpora.folders import replacing_folder
from pipeline.corpora.sample_films import KINDS, film, told
from pipeline.corpora.sample_pictures import SceneRenderer
from pipeline.corpora.sample_words import AnnotatedRound, caption_tells, captions, rounds
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

SPLITS = ("train", "val")
CAPTIONS = 5
LATER = ("turn_pictures",)  # settings that worlds of before did not have
# Ids are unique over both splits, as COCO's are.
FIRST_ID = {"train": 1, "val": 1_000_001}
_OURS = re.compile(
    r"(annotations/(captions|instances|turns)_(train|val)\.json|visdial/visdial_1\.0_(train|val)\.json"
    r"|images/(train|val)/(SAMPLE_(train|val)_\d{12}|turns/SAMPLE_(train|val)_\d{12}_\d{2})\.jpg"
    r"|truth_(train|val)\.json)"
)


def make(raw: Path, settings: WorldSettings, done: Callable[[], object] = lambda: None) -> None:
    """Write the sample world as folder `raw`: all of it or nothing; the same settings give the same bytes.

    Args:
        done: called after each picture.

    Raises:
        ChatPainterError: `raw` holds something that is not a sample world, or cannot be written.
    """
    renderer = SceneRenderer(settings.image_size, settings.seed)
    with replacing_folder(raw, _OURS, "truth_*.json") as temporary:
        for split in SPLITS:
            _write_split(temporary, split, settings, renderer, done)


def scenes(split: str, settings: WorldSettings) -> Iterator[tuple[int, Scene, random.Random]]:
    """(image_id, scene, the stream its words and ground are drawn from) of a split; each scene is a function of the
    seed, the split and its number alone, so that a larger world begins with a smaller one."""
    for number in range(getattr(settings, split)):
        draw = random.Random(f"chatpainter {settings.seed} {split} {number}")
        yield FIRST_ID[split] + number, scene(draw, settings.objects), draw


def file_name(split: str, image_id: int) -> str:
    return f"SAMPLE_{split}_{image_id:012d}.jpg"


def _write_split(
    raw: Path, split: str, settings: WorldSettings, renderer: SceneRenderer, done: Callable[[], object]
) -> None:
    for folder in ("annotations", "visdial", f"images/{split}"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    size = settings.image_size
    images: list[dict] = []
    said: list[dict] = []
    instances: list[dict] = []
    dialogues: list[visdial.DialogueRecord] = []
    truth: list[dict] = []
    filmed: list[films.Film] = []
    for image_id, picture, draw in scenes(split, settings):
        images.append(
            {"id": image_id, "file_name": file_name(split, image_id), "width": size, "height": size, "license": 1}
        )
        texts = captions(picture, draw, CAPTIONS)
        said += [{"image_id": image_id, "id": image_id * 10 + n, "caption": text} for n, text in enumerate(texts)]
        instances += [_instance(image_id, n, thing, size) for n, thing in enumerate(picture.things)]
        talk = rounds(picture, draw)
        words = [(one.question, one.answer) for one in talk]
        dialogues.append(visdial.DialogueRecord(image_id, texts[0], words))
        truth.append(_truth(image_id, picture, texts, talk))
        cut = (draw.random(), draw.random(), draw.random() < 0.5)
        path = raw / "images" / split / file_name(split, image_id)
        # Subsampled chroma would bleed a shape's colour into its neighbourhood.
        renderer.picture(picture, cut).save(path, "JPEG", quality=95, subsampling=0)
        if settings.turn_pictures:
            filmed.append(film(image_id, told(picture, talk), path, partial(renderer.picture, cut=cut)))
        done()
    head = {
        "info": {"description": f"ChatPainter's sample world, {split}", "version": "1.0", "seed": settings.seed},
        "licenses": [{"id": 1, "name": "MIT", "url": ""}],
        "images": images,
    }
    categories = [
        {"supercategory": shape, "id": n, "name": f"{colour} {shape}"} for n, (colour, shape) in enumerate(KINDS, 1)
    ]
    _write(raw / "annotations" / f"captions_{split}.json", head | {"annotations": said})
    _write(raw / "annotations" / f"instances_{split}.json", head | {"annotations": instances, "categories": categories})
    _write(raw / "visdial" / f"visdial_1.0_{split}.json", visdial.layout("1.0", split, dialogues))
    if filmed:
        names = [" ".join(kind) for kind in KINDS]
        _write(films.films_file(raw, split), films.layout(names, filmed))
    _write(raw / f"truth_{split}.json", {"world": _world(settings), "scenes": truth})


def _world(settings: WorldSettings) -> dict[str, Any]:
    return {
        # What came later is stated where it was asked for, so that older worlds keep their bytes.
        **{
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name not in LATER or value != getattr(WorldSettings, name)
        },
        "places": {place: {"centre": list(centre), "half": HALF} for place, centre in PLACES.items()},
        "colours": {colour: list(rgb) for colour, rgb in COLOURS.items()},
        "grounds": {ground: list(rgb) for ground, rgb in GROUNDS.items()},
        "shapes": list(SHAPES),
        "sizes": SIZES,
        "ceilings": ceilings(settings.objects),
    }


def _truth(image_id: int, picture: Scene, texts: list[str], talk: list[AnnotatedRound]) -> dict[str, Any]:
    """What there is to see, and which of it each caption and each round states and speaks of."""
    return {
        "image_id": image_id,
        "ground": picture.ground,
        "objects": [_object(thing) for thing in picture.things],
        "captions": [{"tells": caption_tells(picture, text)} for text in texts],
        "rounds": [{"tells": said.tells, "speaks_of": said.speaks_of} for said in talk],
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
        "category_id": KINDS.index((thing.colour, thing.shape)) + 1,
        "segmentation": [[value for corner in corners for value in corner]],
        "area": round(area, 2),
        "bbox": [min(xs), min(ys), round(max(xs) - min(xs), 2), round(max(ys) - min(ys), 2)],
        "iscrowd": 0,
    }


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
