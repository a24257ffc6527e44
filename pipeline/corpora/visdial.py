"""VisDial dialogues as published, v0.9 and v1.0: `visdial_0.9_train.json`, `visdial_1.0_val.json`, ...

Layout: `{"version", "split", "data": {"questions": [text], "answers": [text], "dialogs": [{"image_id", "caption",
"dialog": [{"question": index, "answer": index, ...}]}]}}`. Questions carry no question mark. The last round of a
test dialogue has no answer. Candidate answers (`answer_options`, `gt_index`) are not read: painting
has no use for them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora import json_files
from store.errors import ChatPainterError

_PUBLISHED = re.compile(r"visdial_(0\.9|1\.0)_(train|val|test)(20\d\d)?\.json")


@dataclass(frozen=True)
class DialogueRecord:
    """What two people said about one image; `rounds` are (question, answer), an absent last answer is ""."""

    image_id: int
    caption: str
    rounds: list[tuple[str, str]]


@dataclass(frozen=True)
class VisDial:
    """A file of dialogues.

    Attributes:
        version, split: what the file says of itself, None where it says nothing.
        dialogues: by image id, in the order of the file.
    """

    version: str | None
    split: str | None
    dialogues: dict[int, DialogueRecord]


def read(path: Path) -> VisDial:
    """The dialogues of a file.

    Raises:
        ChatPainterError: names the file, the dialogue, the round, and what was expected.
    """
    return parse(json_files.read_object(path, _remedy(path), without_options=True), path)


def parse(content: dict[str, Any], path: Path) -> VisDial:
    """The dialogues of a file's JSON; `path` stands in messages alone.

    Raises:
        ChatPainterError: names the file, the dialogue, the round, and what was expected.
    """
    remedy = _remedy(path)
    data = json_files.field(content, "data", dict, str(path))
    questions = _pool(data, "questions", path, remedy)
    answers = _pool(data, "answers", path, remedy)
    dialogues: dict[int, DialogueRecord] = {}
    for position, entry in enumerate(json_files.field(data, "dialogs", list, f"{path}: data")):
        where = f"{path}: dialogs[{position}]"
        image_id = json_files.field(entry, "image_id", int, where)
        if image_id in dialogues:
            raise ChatPainterError(f"{where}: image {image_id} has a second dialogue; {remedy}")
        caption = json_files.fold(json_files.field(entry, "caption", str, where)) if "caption" in entry else ""
        rounds = []
        said = json_files.field(entry, "dialog", list, where)
        for number, turn in enumerate(said, start=1):
            here = f"{where} (image {image_id}), round {number}"
            question = _said(turn, "question", questions, here, remedy)
            if number == len(said) and isinstance(turn, dict) and turn.get("answer") is None:
                answer = ""
            else:
                answer = _said(turn, "answer", answers, here, remedy)
            rounds.append((question, answer))
        dialogues[image_id] = DialogueRecord(image_id, caption, rounds)
    return VisDial(_claim(content, "version", path), _claim(content, "split", path), dialogues)


def layout(version: str, split: str, dialogues: Iterable[DialogueRecord]) -> dict[str, Any]:
    """Dialogues in the layout of VisDial, to be written as JSON: texts once each in two pools, rounds as indices.

    >>> layout("1.0", "mine", [DialogueRecord(7, "a dog", [("is it black", "yes")])])["data"]["dialogs"]
    [{'image_id': 7, 'caption': 'a dog', 'dialog': [{'question': 0, 'answer': 0}]}]
    """
    questions: dict[str, int] = {}
    answers: dict[str, int] = {}
    entries = [
        {
            "image_id": dialogue.image_id,
            "caption": dialogue.caption,
            "dialog": [
                {"question": questions.setdefault(q, len(questions)), "answer": answers.setdefault(a, len(answers))}
                for q, a in dialogue.rounds
            ],
        }
        for dialogue in dialogues
    ]
    data = {"questions": list(questions), "answers": list(answers), "dialogs": entries}
    return {"version": version, "split": split, "data": data}


def _pool(data: dict, name: str, path: Path, remedy: str) -> list[str]:
    pool = json_files.field(data, name, list, f"{path}: data")
    for position, text in enumerate(pool):
        if not isinstance(text, str):
            raise ChatPainterError(f"{path}: data.{name}[{position}] should be a text, found {text!r:.40}; {remedy}")
        json_files.check_text(text, f"{path}: data.{name}[{position}]")
    return [json_files.fold(text) for text in pool]


def _said(turn: dict, name: str, pool: list[str], where: str, remedy: str) -> str:
    index = json_files.field(turn, name, int, where)
    if not 0 <= index < len(pool):
        raise ChatPainterError(f"{where}: {name} {index} is outside its pool of {len(pool):,}; {remedy}")
    return pool[index]


def _claim(content: dict, name: str, path: Path) -> str | None:
    """What the file says of itself; a version may be written as a number."""
    value = content.get(name)
    if value in (None, ""):
        return None
    return str(value) if isinstance(value, float) else json_files.field(content, name, str, str(path))


def _remedy(path: Path) -> str:
    if _PUBLISHED.fullmatch(path.name):
        return "take the file again from visualdialog.org"
    return "write it again with whatever made it"
