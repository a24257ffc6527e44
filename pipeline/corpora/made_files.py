"""A dataset that we draw ourselves, laid out as COCO and VisDial are: captions, dialogues, truth, films of a split."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora import films, visdial
from pipeline.corpora.films import Film


@dataclass(frozen=True)
class MadePicture:
    """One picture and what is known of it.

    Attributes:
        truth: the scene's entry of `truth_SPLIT.json`, beside its image_id.
        film: where there is a picture after every round.
    """

    image_id: int
    file_name: str
    captions: Sequence[str]
    rounds: list[tuple[str, str]]
    truth: dict[str, Any]
    film: Film | None = None


def folders(raw: Path, split: str) -> Path:
    """Make the folders of a split; that of its pictures."""
    for folder in ("annotations", "visdial", f"images/{split}"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    return raw / "images" / split


def write(
    raw: Path,
    split: str,
    made: Sequence[MadePicture],
    size: tuple[int, int],
    head: dict[str, Any],
    world: dict[str, Any],
    kinds: Sequence[str] = (),
) -> None:
    """Write everything of a split but its pictures.

    Args:
        size: width and height of the pictures.
        head: `info` and `licenses` of the captions file.
        world: of the truth file.
        kinds: of objects, by name, that films' `present` number.
    """
    captions = []
    for one in made:
        for number, text in enumerate(one.captions):
            caption_id = one.image_id if len(one.captions) == 1 else one.image_id * 10 + number
            captions.append({"image_id": one.image_id, "id": caption_id, "caption": text})
    listed = {"images": images(made, size), "annotations": captions}
    dialogues = [visdial.DialogueRecord(one.image_id, one.captions[0], one.rounds) for one in made]
    write_json(raw / "annotations" / f"captions_{split}.json", head | listed)
    write_json(raw / "visdial" / f"visdial_1.0_{split}.json", visdial.layout("1.0", split, dialogues))
    scenes = [{"image_id": one.image_id} | one.truth for one in made]
    write_json(raw / f"truth_{split}.json", {"world": world, "scenes": scenes})
    if filmed := [one.film for one in made if one.film]:
        write_json(films.films_file(raw, split), films.layout(kinds, filmed))


def images(made: Iterable[MadePicture], size: tuple[int, int]) -> list[dict[str, Any]]:
    """The pictures as COCO lists them."""
    width, height = size
    return [
        {"id": one.image_id, "file_name": one.file_name, "width": width, "height": height, "license": 1} for one in made
    ]


def changing_truth(
    seen: Sequence[Mapping[str, str]],
    spots: Mapping[str, tuple[tuple[float, float], str]],
    radius: float,
    ground: str,
    known: bool,
) -> dict[str, Any]:
    """The truth of a picture that rounds change: the last state, every other, and of which places a round tells: those
    that it changes.

    Args:
        seen: the colour at every place that is not empty, before the first round and after each.
        spots: centre and shape of every place.
        radius: of the least that is read as there (trainer/evaluation/scenes.py).
        known: whether the first state is shown.
    """

    def state(colours: Mapping[str, str]) -> dict[str, Any]:
        objects = [
            {
                "place": place,
                "colour": colour,
                "shape": spots[place][1],
                "size": "plain",
                "centre": list(spots[place][0]),
                "radius": radius,
            }
            for place, colour in colours.items()
        ]
        return {"ground": ground, "objects": objects}

    def facts(places: Iterable[str]) -> list[str]:
        return [f"{place}: {kind}" for place in places for kind in ("colour", "shape", "size")]

    rounds = []
    for before, after in itertools.pairwise(seen):
        changed = [place for place in spots if before.get(place) != after.get(place)]
        rounds.append({"tells": facts(changed), "speaks_of": changed, **state(after)})
    captions = [{"tells": ["ground", *facts(spots)] if known else ["ground"]}]
    return {**state(seen[-1]), "first": state(seen[0]), "captions": captions, "rounds": rounds}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """JSON in UTF-8, texts as they are."""
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
