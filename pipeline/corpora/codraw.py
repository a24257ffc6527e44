"""CoDraw: a teller who sees a clip-art scene describes it, turn by turn, to a drawer who rebuilds it.

Read as published (`CoDraw_1_0.json`) or as one dialogue a line (`codraw_dialogs.jsonl.gz`), and written out as COCO
and VisDial write theirs, so that what reads those reads this: the teller's first message is the caption, every
message after it a question with the drawer's reply as the answer, and the teller's scene the picture.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from pipeline.corpora import json_files, visdial
from pipeline.corpora.codraw_renderer import CANVAS, KINDS, SCALES, Renderer, parse
from pipeline.corpora.folders import replacing_folder
from store.errors import ChatPainterError, one_line, short

SPLITS = ("train", "val", "test")
REMEDY = "take the file again from github.com/facebookresearch/CoDraw"
_LONGEST = 1 << 22  # characters of a dialogue: a small gzip file can hold a line of gigabytes
_KEY = re.compile(r"(train|val|test)_\d{1,18}", re.ASCII)
_OURS = re.compile(
    r"(annotations/captions_(train|val|test)\.json|visdial/visdial_1\.0_(train|val|test)\.json"
    r"|images/(train|val|test)/CoDraw_(train|val|test)_\d{12}\.jpg|truth_(train|val|test)\.json)"
)


def make(
    source: Path,
    raw: Path,
    limit: int | None = None,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Write CoDraw as folder `raw`, all of it or nothing: splits train, val and test; the scenes of each.

    Args:
        source: folder of CoDraw_1_0.json (or codraw_dialogs.jsonl.gz) and of Pngs/.
        limit: at most so many scenes a split.
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
            _write_split(temporary, split, entries, renderer, source, done)
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
    raw: Path, split: str, entries: list[tuple[str, dict]], renderer: Renderer, source: Path, done: Callable[[], object]
) -> None:
    for folder in ("annotations", "visdial", f"images/{split}"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    images, captions, dialogues, truth = [], [], [], []
    seen: set[int] = set()
    for key, entry in entries:
        where = f"{source}: dialogue {key}"
        image_id = json_files.field(entry, "image_id", int, where, least=0)
        if image_id in seen:
            raise ChatPainterError(f"{where}: image {image_id} appears twice; {REMEDY}")
        seen.add(image_id)
        caption, rounds = said(entry, where)
        scene = parse(json_files.field(entry, "abs_t", str, where), where)
        name = f"CoDraw_{split}_{image_id:012d}.jpg"
        renderer.picture(scene).save(raw / "images" / split / name, "JPEG", quality=95, subsampling=0)
        done()
        images.append({"id": image_id, "file_name": name, "width": CANVAS[0], "height": CANVAS[1], "license": 1})
        captions.append({"image_id": image_id, "id": image_id, "caption": caption})
        dialogues.append(visdial.DialogueRecord(image_id, caption, rounds))
        truth.append({"image_id": image_id, "key": key, "objects": [asdict(thing) for thing in scene]})
    head = {
        "info": {"description": f"CoDraw {split}, the teller's first messages"},
        "licenses": [{"id": 1, "name": "CC BY-NC 4.0", "url": "https://creativecommons.org/licenses/by-nc/4.0/"}],
    }
    world = {"canvas": list(CANVAS), "kinds": list(KINDS), "scales": list(SCALES), "sprites": renderer.sprites()}
    for path, content in (
        (f"annotations/captions_{split}.json", head | {"images": images, "annotations": captions}),
        (f"visdial/visdial_1.0_{split}.json", visdial.layout("1.0", split, dialogues)),
        (f"truth_{split}.json", {"world": world, "scenes": truth}),
    ):
        (raw / path).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
