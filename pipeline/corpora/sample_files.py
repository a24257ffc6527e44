"""The sample world on disk, laid out as COCO and VisDial are."""

import dataclasses
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.corpora import made_files, sample_edits, sample_relations
from pipeline.corpora.folders import replacing_folder
from pipeline.corpora.made_files import MadePicture
from pipeline.corpora.sample_films import KINDS, film, told
from pipeline.corpora.sample_pictures import SceneRenderer
from pipeline.corpora.sample_words import AnnotatedRound, caption_tells, captions, rounds
from pipeline.corpora.sample_world import (
    BLANK,
    COLOURS,
    GROUNDS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    WorldSettings,
    ceilings,
    outline,
    scene,
    untold,
)

SPLITS = ("train", "val")
CAPTIONS = 5
LATER = ("turn_pictures", "places", "rounds", "edits")  # settings that worlds of before did not have
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
        yield FIRST_ID[split] + number, scene(draw, settings.objects, settings.grid), draw


class _Talk(NamedTuple):
    """What is said of a scene. `seen`: the scene before the first round and after each, where rounds change it."""

    picture: Scene
    captions: list[str]
    rounds: list[AnnotatedRound]
    seen: list[Scene] | None


def _talk(picture: Scene, settings: WorldSettings, draw: random.Random) -> _Talk:
    if settings.edits:
        free = settings.places == "free"
        edited = sample_edits.dialogue(draw, settings.grid, settings.objects, settings.number, settings.edits, free)
        return _Talk(edited.seen[-1], list(sample_edits.CAPTIONS), edited.talk, edited.seen)
    texts = captions(picture, draw, CAPTIONS)
    talk = (sample_relations.rounds if settings.places == "free" else rounds)(picture, draw, settings.number)
    return _Talk(picture, texts, talk, None)


def file_name(split: str, image_id: int) -> str:
    return f"SAMPLE_{split}_{image_id:012d}.jpg"


def _write_split(
    raw: Path, split: str, settings: WorldSettings, renderer: SceneRenderer, done: Callable[[], object]
) -> None:
    place = made_files.folders(raw, split)
    size = settings.image_size
    made: list[MadePicture] = []
    instances: list[dict] = []
    for image_id, drawn, draw in scenes(split, settings):
        picture, texts, talk, seen = _talk(drawn, settings, draw)
        instances += [_instance(image_id, n, thing, size) for n, thing in enumerate(picture.things)]
        words = [(one.question, one.answer) for one in talk]
        cut = (draw.random(), draw.random(), draw.random() < 0.5)
        path = place / file_name(split, image_id)
        # Subsampled chroma would bleed a shape's colour into its neighbourhood.
        renderer.picture(picture, cut).save(path, "JPEG", quality=95, subsampling=0)
        filmed = None
        if settings.turn_pictures:
            filmed = film(image_id, seen or told(picture, talk), path, partial(renderer.picture, cut=cut))
        made.append(MadePicture(image_id, path.name, texts, words, _truth(picture, texts, talk, seen), filmed))
        done()
    head = {
        "info": {"description": f"ChatPainter's sample world, {split}", "version": "1.0", "seed": settings.seed},
        "licenses": [{"id": 1, "name": "MIT", "url": ""}],
    }
    categories = [
        {"supercategory": shape, "id": n, "name": f"{colour} {shape}"} for n, (colour, shape) in enumerate(KINDS, 1)
    ]
    marked = {"images": made_files.images(made, (size, size)), "annotations": instances, "categories": categories}
    made_files.write_json(raw / "annotations" / f"instances_{split}.json", head | marked)
    world = _world(settings, [len(one.truth["objects"]) for one in made])
    made_files.write(raw, split, made, (size, size), head, world, [" ".join(kind) for kind in KINDS])


def _world(settings: WorldSettings, counts: list[int]) -> dict[str, Any]:
    """What there is in the world; `counts`: objects of every scene."""
    grid = settings.grid
    about = {
        # What came later is stated where it was asked for, so that older worlds keep their bytes.
        **{
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name not in LATER or value != getattr(WorldSettings, name)
        },
        "places": {place: {"centre": list(centre), "half": grid.half} for place, centre in grid.places.items()},
        "colours": {colour: list(rgb) for colour, rgb in COLOURS.items()},
        "grounds": {ground: list(rgb) for ground, rgb in GROUNDS.items()},
        "shapes": list(SHAPES),
        "sizes": {name: round(radius * grid.scale, 4) for name, radius in SIZES.items()},
        "ceilings": ceilings(settings.objects, len(grid.places)),
    }
    if settings.edits:
        about["captions_tell"] = False
        about["ceilings"] = untold(counts, len(grid.places))
    return about


def _truth(picture: Scene, texts: list[str], talk: list[AnnotatedRound], seen: list[Scene] | None) -> dict[str, Any]:
    """What there is to see, and which of it each caption and each round states and speaks of; after each round, what
    there is to see by then, where rounds change it."""
    if seen is not None:
        states = [_state(one) for one in seen]
        return {
            **_state(picture),
            "first": states[0],
            "captions": [{"tells": []} for _ in texts],
            "rounds": [
                {"tells": said.tells, "speaks_of": said.speaks_of, **state} for said, state in zip(talk, states[1:])
            ],
        }
    return {
        **_state(picture),
        "captions": [{"tells": caption_tells(picture, text)} for text in texts],
        "rounds": [{"tells": said.tells, "speaks_of": said.speaks_of} for said in talk],
    }


def _state(seen: Scene) -> dict[str, Any]:
    ground = None if seen.ground == BLANK else seen.ground
    return {"ground": ground, "objects": [_object(thing) for thing in seen.things]}


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
