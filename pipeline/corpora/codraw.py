"""CoDraw: a teller who sees a clip-art scene describes it, turn by turn, to a drawer who rebuilds it.

Read as published (`CoDraw_1_0.json`) or as one dialogue a line (`codraw_dialogs.jsonl.gz`), and written out as COCO
and VisDial write theirs, so that what reads those reads this: the teller's first message is the caption, every
message after it a question with the drawer's reply as the answer, and the teller's scene the picture.
"""

import dataclasses
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.corpora import codraw_canvases, json_files, made_files
from pipeline.corpora.codraw_canvases import Conventions
from pipeline.corpora.codraw_renderer import CANVAS, KINDS, SCALES, ClipArt, Renderer, parse
from pipeline.corpora.films import Film, FilmFrame
from pipeline.corpora.folders import replacing_folder
from pipeline.corpora.made_files import MadePicture
from store.errors import ChatPainterError, one_line, short

SPLITS = ("train", "val", "test")
REMEDY = "take the file again from github.com/facebookresearch/CoDraw"
EMPTY = "empty.jpg"  # the canvas before anything is drawn
_LONGEST = 1 << 22  # characters of a dialogue: a small gzip file can hold a line of gigabytes
_KEY = re.compile(r"(train|val|test)_\d{1,18}", re.ASCII)
_OURS = re.compile(
    r"(annotations/(captions|turns)_(train|val|test)\.json|visdial/visdial_1\.0_(train|val|test)\.json"
    r"|images/(train|val|test)/(CoDraw_(train|val|test)_\d{12}|turns/CoDraw_(train|val|test)_\d{12}_\d{2,3}|turns/empty)\.jpg"
    r"|truth_(train|val|test)\.json)"
)


def make(
    source: Path,
    raw: Path,
    limit: int | None = None,
    canvases: Conventions | None = None,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Write CoDraw as folder `raw`, all of it or nothing: splits train, val and test; the scenes of each.

    Args:
        source: folder of CoDraw_1_0.json (or codraw_dialogs.jsonl.gz) and of Pngs/.
        limit: at most so many scenes a split.
        canvases: pictures are the drawer's canvas after every turn, and rounds the turns as these conventions have
            them; None: pictures are the teller's scenes.
        started: called with the number of scenes.
        done: called after each picture.

    Raises:
        ChatPainterError: names the file, the dialogue, and what was expected; or `raw` holds something else.
    """
    dialogues: dict[str, list[tuple[str, dict]]] = {split: [] for split in SPLITS}
    for key, entry in _entries(source):
        if not (found := _KEY.fullmatch(key)):
            raise ChatPainterError(f"{source}: dialogue {short(key)} is of no split that CoDraw has; {REMEDY}")
        dialogues[found[1]].append((key, entry))
    dialogues = {split: sorted(entries, key=lambda e: e[0])[:limit] for split, entries in dialogues.items()}
    started(sum(map(len, dialogues.values())))
    renderer = Renderer(source / "Pngs")
    with replacing_folder(raw, _OURS, "truth_*.json") as temporary:
        for split, entries in dialogues.items():
            _write_split(temporary, split, entries, renderer, source, canvases, done)
    return {split: len(entries) for split, entries in dialogues.items()}


def said(entry: dict, where: str) -> tuple[str, list[tuple[str, str]]]:
    """(caption, rounds): the teller's first message, then each later one with what the drawer replied to it.

    Either may speak twice in a row: what the drawer says before the teller's next message belongs to the same
    answer. The drawer's reply to the first message has no question in this layout and is left out.
    """
    turns: list[tuple[str, list[str]]] = []
    for number, turn in enumerate(json_files.field(entry, "dialog", list, where), 1):
        here = f"{where}, turn {number}"
        told, replied = (json_files.fold(json_files.field(turn, name, str, here)) for name in ("msg_t", "msg_d"))
        if told:
            turns.append((told, []))
        if replied and turns:
            turns[-1][1].append(replied)
    if not turns:
        raise ChatPainterError(f"{where}: the teller says nothing; {REMEDY}")
    return turns[0][0], [(told, " ".join(replied)) for told, replied in turns[1:]]


def _entries(source: Path) -> Iterator[tuple[str, dict]]:
    published, lines = source / "CoDraw_1_0.json", source / "codraw_dialogs.jsonl.gz"
    if published.is_file():
        content = json_files.read_object(published, REMEDY)
        yield from json_files.field(content, "data", dict, str(published)).items()
        return
    try:
        with gzip.open(lines, "rt", encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), ""), 1):
                entry = json.loads(line)
                yield json_files.field(entry, "key", str, f"{lines}: line {number}"), entry
    except FileNotFoundError:
        raise ChatPainterError(
            f"{published}: no such file (nor {lines.name}); name CoDraw's folder with --source"
        ) from None
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise ChatPainterError(f"{lines}: damaged or half downloaded ({one_line(error)}); {REMEDY}") from None


def _write_split(
    raw: Path,
    split: str,
    entries: list[tuple[str, dict]],
    renderer: Renderer,
    source: Path,
    canvases: Conventions | None,
    done: Callable[[], object],
) -> None:
    images = made_files.folders(raw, split)
    sprites = renderer.sprites()
    kinds = list(dict.fromkeys(codraw_canvases.kind_of(sprite) for sprite in sprites))
    made: list[MadePicture] = []
    seen: set[int] = set()
    for key, entry in entries:
        where = f"{source}: dialogue {key}"
        image_id = json_files.field(entry, "image_id", int, where, least=0)
        if image_id in seen:
            raise ChatPainterError(f"{where}: image {image_id} appears twice; {REMEDY}")
        seen.add(image_id)
        path = images / f"CoDraw_{split}_{image_id:012d}.jpg"
        if canvases is None:
            caption, rounds = said(entry, where)
            scene = parse(json_files.field(entry, "abs_t", str, where), where)
            truth, film = {}, None
        else:
            turns = codraw_canvases.turns(entry, canvases, where)
            rounds = [(turn.question, turn.answer) for turn in turns]
            caption = next((question for question, _ in rounds if question), "a scene")
            scene = list(turns[-1].canvas)
            truth = {"turns": [_objects(turn.canvas) for turn in turns]}
            film = _film(image_id, [(), *(turn.canvas for turn in turns)], path, renderer, kinds)
        _save(renderer, scene, path)
        done()
        about = {"key": key, "objects": _objects(scene), **truth}
        made.append(MadePicture(image_id, path.name, [caption], rounds, about, film))
    head = {
        "info": {"description": f"CoDraw {split}, the teller's first messages"},
        "licenses": [{"id": 1, "name": "CC BY-NC 4.0", "url": "https://creativecommons.org/licenses/by-nc/4.0/"}],
    }
    world: dict[str, Any] = {
        "canvas": list(CANVAS), "kinds": list(KINDS), "scales": list(SCALES), "sprites": sprites,
        "kind_of": {sprite: codraw_canvases.kind_of(sprite) for sprite in sprites},
    }  # fmt: skip
    if canvases is not None:
        world["canvases"] = dataclasses.asdict(canvases)
    made_files.write(raw, split, made, CANVAS, head, world, kinds)


def _objects(scene: Sequence[ClipArt]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(thing) for thing in scene]


def _film(
    image_id: int, seen: Sequence[Sequence[ClipArt]], picture: Path, renderer: Renderer, kinds: list[str]
) -> Film:
    """Draw the canvases into `turns/` beside the image's own picture; the empty one, with which all begin, once."""
    folder = picture.parent / "turns"
    folder.mkdir(exist_ok=True)
    shown: list[FilmFrame] = []
    for number, scene in enumerate(seen):
        if number and scene == seen[number - 1]:
            shown.append(shown[-1])
            continue
        name = f"turns/{picture.stem}_{number:02d}.jpg" if scene else f"turns/{EMPTY}"
        if scene or not (picture.parent / name).exists():
            _save(renderer, scene, picture.parent / name)
        present = {kinds.index(codraw_canvases.kind_of(thing.sprite)) for thing in scene}
        shown.append(FilmFrame(name, tuple(sorted(present))))
    return Film(image_id, shown[0], tuple(shown[1:]))


def _save(renderer: Renderer, scene: Sequence[ClipArt], path: Path) -> None:
    renderer.picture(list(scene)).save(path, "JPEG", quality=95, subsampling=0)
