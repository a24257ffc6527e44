"""The sample world after every round: the picture of what has been told, and no more."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from pipeline.corpora.films import Film, FilmFrame
from pipeline.corpora.sample_words import AnnotatedRound, facts
from pipeline.corpora.sample_world import BLANK, COLOURS, SHAPES, Scene

KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]  # of objects: COCO's categories, and presence


def told(scene: Scene, talk: Sequence[AnnotatedRound]) -> list[Scene]:
    """What is told before the first round, and after each, as scenes.

    An object is there once its colour, shape and size are told, be it in one round or in three; the ground is blank
    until it is told. What only follows from several rounds together does not count as told.
    """
    known: set[str] = set()
    seen = [Scene(BLANK, ())]
    for said in talk:
        known.update(said.tells)
        things = tuple(thing for thing in scene.things if known.issuperset(facts(thing.place)))
        seen.append(Scene(scene.ground if "ground" in known else BLANK, things))
    return seen


def film(image_id: int, seen: Sequence[Scene], picture: Path, draw: Callable[[Scene], Image.Image]) -> Film:
    """Draw the scenes into `turns/` beside the image's own picture, those that nothing changed once.

    Args:
        seen: before the first round, and after each.
    """
    folder = picture.parent / "turns"
    folder.mkdir(exist_ok=True)
    shown: list[FilmFrame] = []
    for number, scene in enumerate(seen):
        if number and scene == seen[number - 1]:
            shown.append(shown[-1])
            continue
        name = f"{picture.stem}_{number:02d}.jpg"
        draw(scene).save(folder / name, "JPEG", quality=95, subsampling=0)
        kinds = sorted({KINDS.index((thing.colour, thing.shape)) for thing in scene.things})
        shown.append(FilmFrame(f"turns/{name}", tuple(kinds)))
    return Film(image_id, shown[0], tuple(shown[1:]))
