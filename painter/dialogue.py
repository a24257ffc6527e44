"""What is painted: a caption and the rounds of talk about it, and the files that people keep them in."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import ChatPainterError

Round = tuple[str, str]
"""A question and its answer."""


class DialogueError(ChatPainterError):
    """A file of dialogues that cannot be read."""


@dataclass(frozen=True)
class Dialogue:
    """A caption and any number of (question, answer) rounds about one picture."""

    caption: str
    rounds: tuple[Round, ...] = ()
    image_id: int | None = None

    def prefixes(self) -> list["Dialogue"]:
        """The dialogue as it grew: the caption alone, after one round, …, whole: rounds + 1 dialogues.

        >>> [len(part.rounds) for part in Dialogue("a dog", (("is it black", "yes"),)).prefixes()]
        [0, 1]
        """
        return [Dialogue(self.caption, self.rounds[:end], self.image_id) for end in range(len(self.rounds) + 1)]

    def without(self, number: int) -> "Dialogue":
        """The dialogue as if round `number` had never been talked about."""
        return Dialogue(self.caption, self.rounds[:number] + self.rounds[number + 1 :], self.image_id)


def read(path: str | Path) -> list[Dialogue]:
    """All dialogues of a file: VisDial's JSON (0.9 and 1.0), our own JSON, or text with one picture a line.

    Own JSON is an object or a list of objects `{"caption": …, "rounds": [{"question": …, "answer": …}]}`; `rounds`
    and `image_id` may be absent. A line of text is a caption; tabs divide it from its rounds, each `question? answer`.

    Raises:
        DialogueError: names the file, the record and what was expected there.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DialogueError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DialogueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if text.lstrip()[:1] in ("{", "["):
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DialogueError(f"{path}: not valid JSON ({error})") from None
        found = _from_json(values, path)
    else:
        found = [_from_line(line, f"{path}, line {n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise DialogueError(f"{path}: holds no caption; write one a line, or see docs/painting.md for the JSON layouts")
    return found


def _from_line(line: str, where: str) -> Dialogue:
    caption, *turns = (part.strip() for part in line.split("\t"))
    rounds = []
    for turn in turns:
        question, mark, answer = turn.partition("?")
        if not mark:
            raise DialogueError(f"{where}: expected `question? answer` after the tab, found {turn[:60]!r}")
        rounds.append((question.strip(), answer.strip()))
    return Dialogue(caption, tuple(rounds))


def _from_json(values: Any, path: Path) -> list[Dialogue]:
    if isinstance(values, dict) and "data" in values:
        return _from_visdial(path)
    records = values if isinstance(values, list) else [values]
    return [_from_record(record, f"{path}, record {number}") for number, record in enumerate(records)]


def _from_record(record: Any, where: str) -> Dialogue:
    if not isinstance(record, dict) or not isinstance(record.get("caption"), str):
        raise DialogueError(f"{where}: expected an object with a text `caption`, found {str(record)[:60]!r}")
    rounds = record.get("rounds", [])
    if not isinstance(rounds, list):
        raise DialogueError(f"{where}: `rounds` should be a list, found {type(rounds).__name__}")
    found = []
    for number, turn in enumerate(rounds):
        pair = [turn.get("question"), turn.get("answer", "")] if isinstance(turn, dict) else turn
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise DialogueError(
                f'{where}, round {number}: expected {{"question": text, "answer": text}}, found {str(turn)[:60]!r}'
            )
        found.append((pair[0], pair[1]))
    image_id = record.get("image_id")
    if image_id is not None and (not isinstance(image_id, int) or isinstance(image_id, bool)):
        raise DialogueError(f"{where}: `image_id` should be a whole number, found {image_id!r}")
    return Dialogue(record["caption"], tuple(found), image_id)


def _from_visdial(path: Path) -> list[Dialogue]:
    from pipeline.corpora import visdial

    return [Dialogue(found.caption, tuple(found.rounds), found.image_id) for found in visdial.read(path).values()]


def to_visdial(dialogues: Iterable[Dialogue]) -> dict[str, Any]:
    """The dialogues in the layout of VisDial 1.0: pooled questions and answers, rounds as indices into them.

    >>> to_visdial([Dialogue("a dog", (("is it black", "yes"),), 7)])["data"]["dialogs"]
    [{'image_id': 7, 'caption': 'a dog', 'dialog': [{'question': 0, 'answer': 0}]}]
    """
    questions: dict[str, int] = {}
    answers: dict[str, int] = {}
    dialogs = [
        {
            "image_id": number if dialogue.image_id is None else dialogue.image_id,
            "caption": dialogue.caption,
            "dialog": [
                {"question": questions.setdefault(q, len(questions)), "answer": answers.setdefault(a, len(answers))}
                for q, a in dialogue.rounds
            ],
        }
        for number, dialogue in enumerate(dialogues)
    ]
    return {
        "version": "1.0",
        "split": "chatpainter",
        "data": {"dialogs": dialogs, "questions": list(questions), "answers": list(answers)},
    }


def ask_and_answer(questions: Sequence[str], answers: Sequence[str]) -> tuple[Round, ...]:
    """Rounds from the `--ask` and `--answer` options in the order given; the last question may go unanswered.

    >>> ask_and_answer(["is it black", "any trees"], ["yes"])
    (('is it black', 'yes'), ('any trees', ''))
    """
    if not len(questions) - 1 <= len(answers) <= len(questions):
        raise ChatPainterError(
            f"{len(questions)} times --ask but {len(answers)} times --answer; give one answer to every question"
        )
    return tuple((q, answers[i] if i < len(answers) else "") for i, q in enumerate(questions))
