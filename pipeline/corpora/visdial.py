"""VisDial dialogues as published, v0.9 and v1.0: `visdial_0.9_train.json`, `visdial_1.0_val.json`, ...

Layout: `{"version", "split", "data": {"questions": [text], "answers": [text], "dialogs": [{"image_id", "caption",
"dialog": [{"question": index, "answer": index, ...}]}]}}`. Questions carry no question mark. The last round of a
test dialogue has no answer. Candidate answers (`answer_options`, `gt_index`) are not read: painting
has no use for them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora import json_files
from store.errors import ChatPainterError

REMEDY = "take the file again from visualdialog.org"


@dataclass(frozen=True)
class Dialogue:
    """What two people said about one image; `rounds` are (question, answer), the last answer "" where absent."""

    image_id: int
    caption: str
    rounds: list[tuple[str, str]]


def dialogue_file(raw: Path, split: str, version: str | None) -> tuple[Path, bool]:
    """Where the dialogues of a split lie, and whether that file holds the dialogues of this split alone.

    Looked for are `visdial_{version}_{split}.json`, then the published names: VisDial calls COCO's train2014 `train`
    and val2014 `val` (v0.9), and its v1.0 `train` holds both. `version` None takes the only version that lies there.

    Raises:
        ChatPainterError: there is none, or more than one version to choose from.
    """
    folder = raw / "visdial"
    for name, alone in _names(split, version):
        found = sorted(folder.glob(name))
        if len(found) > 1:
            several = ", ".join(path.name for path in found)
            raise ChatPainterError(f"{folder}: {several}: say which with --visdial-version")
        if found:
            return found[0], alone
    expected = folder / f"visdial_{version or '1.0'}_{split}.json"
    there = ", ".join(sorted(path.name for path in folder.glob("visdial_*.json"))) or "nothing of that kind"
    raise ChatPainterError(f"{expected}: no such file for split {split!r}; found there: {there}")


def _names(split: str, version: str | None) -> list[tuple[str, bool]]:
    names = [(f"visdial_{version or '*'}_{split}.json", True)]
    if split[-4:] == "2014" and version in ("0.9", None):
        names.append((f"visdial_0.9_{split[:-4]}.json", True))
    # COCO 2017 drew its splits anew from the pictures of 2014, which v1.0 calls train.
    if split[-4:] in ("2014", "2017") and version in ("1.0", None):
        names.append(("visdial_1.0_train.json", False))
    return names


def read(path: Path) -> dict[int, Dialogue]:
    """The dialogues of a file by image id, in the order of the file.

    Raises:
        ChatPainterError: names the file, the dialogue, the round, and what was expected.
    """
    content = json_files.read_object(path, REMEDY, without_options=True)
    data = json_files.field(content, "data", dict, str(path))
    questions = _pool(data, "questions", path)
    answers = _pool(data, "answers", path)
    dialogues: dict[int, Dialogue] = {}
    for position, entry in enumerate(json_files.field(data, "dialogs", list, f"{path}: data")):
        where = f"{path}: dialogs[{position}]"
        image_id = json_files.field(entry, "image_id", int, where)
        if image_id in dialogues:
            raise ChatPainterError(f"{where}: image {image_id} has a second dialogue; {REMEDY}")
        caption = json_files.fold(json_files.field(entry, "caption", str, where)) if "caption" in entry else ""
        rounds = []
        said = json_files.field(entry, "dialog", list, where)
        for number, turn in enumerate(said, start=1):
            here = f"{where} (image {image_id}), round {number}"
            question = _said(turn, "question", questions, here)
            if number == len(said) and isinstance(turn, dict) and turn.get("answer") is None:
                answer = ""
            else:
                answer = _said(turn, "answer", answers, here)
            rounds.append((question, answer))
        dialogues[image_id] = Dialogue(image_id, caption, rounds)
    return dialogues


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


def _pool(data: dict, name: str, path: Path) -> list[str]:
    pool = json_files.field(data, name, list, f"{path}: data")
    for position, text in enumerate(pool):
        if not isinstance(text, str):
            raise ChatPainterError(f"{path}: data.{name}[{position}] should be a text, found {text!r}; {REMEDY}")
    return [json_files.fold(text) for text in pool]


def _said(turn: dict, name: str, pool: list[str], where: str) -> str:
    index = json_files.field(turn, name, int, where)
    if not 0 <= index < len(pool):
        raise ChatPainterError(f"{where}: {name} {index} is outside its pool of {len(pool):,}; {REMEDY}")
    return pool[index]
