"""What is painted: a caption and the rounds of talk about it, and the files that people keep them in."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora import json_files, text_lines, visdial
from store.errors import ChatPainterError

Round = tuple[str, str]
"""A question and its answer."""

MOST_ROUNDS = 500
TEXT_LETTERS = 10_000
ALL_LETTERS = 300_000
"""Most that one dialogue may have: an encoder's work and memory grow with each of the three."""
FILE_BYTES = 64 * 1024**2
IMAGE_IDS = 2**63


class DialogueError(ChatPainterError):
    """A dialogue that cannot be painted, or a file of dialogues that cannot be read."""


@dataclass(frozen=True)
class Dialogue:
    """A caption and any number of (question, answer) rounds about one picture.

    White space is folded as in the corpus that the generator learnt from, so that the same words are the same text.

    >>> Dialogue("  a red\\n circle ").caption
    'a red circle'

    Raises:
        DialogueError: something in it is no text.
    """

    caption: str
    rounds: tuple[Round, ...] = ()
    image_id: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", _folded(self.caption, "the caption"))
        rounds = tuple(
            (_folded(question, f"question {number}"), _folded(answer, f"answer {number}"))
            for number, (question, answer) in enumerate(self.rounds)
        )
        object.__setattr__(self, "rounds", rounds)

    def prefixes(self) -> list["Dialogue"]:
        """The dialogue as it grew: the caption alone, after one round, …, whole: rounds + 1 dialogues.

        >>> [len(part.rounds) for part in Dialogue("a dog", (("is it black", "yes"),)).prefixes()]
        [0, 1]
        """
        return [Dialogue(self.caption, self.rounds[:end], self.image_id) for end in range(len(self.rounds) + 1)]

    def without(self, number: int) -> "Dialogue":
        """The dialogue as if round `number` had never been talked about."""
        return Dialogue(self.caption, self.rounds[:number] + self.rounds[number + 1 :], self.image_id)


def _folded(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise DialogueError(f"{what} should be a text, found {type(text).__name__}")
    return json_files.fold(text)


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or all white space and control characters."""
    return not any(letter.isprintable() and not letter.isspace() for letter in text)


def check(dialogue: Dialogue, where: str = "") -> Dialogue:
    """The dialogue itself, if it can be painted.

    Raises:
        ChatPainterError: its caption is empty, a text holds half a character, the image id is none, or there is more
            of it than an encoder should read.
    """
    start = f"{where}: " if where else ""
    if dialogue.image_id is not None and not 0 <= dialogue.image_id < IMAGE_IDS:
        raise DialogueError(f"{start}image id {_shown(dialogue.image_id)} should lie between 0 and 2^63 - 1")
    if len(dialogue.rounds) > MOST_ROUNDS:
        raise DialogueError(f"{start}{len(dialogue.rounds):,} rounds; at most {MOST_ROUNDS} are read")
    texts = {"the caption": dialogue.caption}
    for number, (question, answer) in enumerate(dialogue.rounds):
        texts |= {f"question {number}": question, f"answer {number}": answer}
    for name, text in texts.items():
        if len(text) > TEXT_LETTERS:
            raise DialogueError(f"{start}{name} has {len(text):,} characters; at most {TEXT_LETTERS:,} are read")
        json_files.check_text(text, f"{start}{name}")
    if is_blank(dialogue.caption):
        raise DialogueError(f"{start}the caption is empty; say in a sentence what is in the picture")
    if (letters := sum(map(len, texts.values()))) > ALL_LETTERS:
        raise DialogueError(f"{start}{letters:,} characters in all; at most {ALL_LETTERS:,} are read")
    return dialogue


def read(path: str | Path) -> list[Dialogue]:
    """All dialogues of a file: VisDial's JSON (0.9 and 1.0), our own JSON, or text with one picture a line.

    Own JSON is an object or a list of objects `{"caption": …, "rounds": [{"question": …, "answer": …}]}`; `rounds`
    and `image_id` may be absent. A line of text is a caption; tabs divide it from its rounds, each `question? answer`.
    A PNG that we painted carries its words.

    Raises:
        DialogueError: names the file, the record and what was expected there.
    """
    path = Path(path)
    if path.suffix.lower() == ".png":
        from painter import memory

        return [check(memory.recall_png(path).dialogue, str(path))]
    text = _text(path)
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        found = from_values(_json(text, path), path)
    else:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        found = [_from_line(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise DialogueError(f"{path}: holds no caption; write one a line, or see docs/painting.md for the JSON layouts")
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Not by the size that the file states: a device or a pipe states none.
            content = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise DialogueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DialogueError(f"{str(path)!a}: no name of a file ({error})") from None
    if len(content) > FILE_BYTES:
        raise DialogueError(
            f"{path}: more than {FILE_BYTES // 1024**2} MiB; write the dialogues to be painted into a smaller file"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DialogueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _json(text: str, path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice[:60]!r} stands twice in one object")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise DialogueError(f"{path}: not valid JSON ({error})") from None


def _from_line(line: str, where: str) -> Dialogue:
    try:
        caption, rounds = text_lines.parse(line, where)
    except ChatPainterError as error:
        raise DialogueError(error.message) from None
    return check(Dialogue(caption, tuple(rounds)), where)


def from_values(values: Any, path: Path) -> list[Dialogue]:
    """The dialogues of parsed JSON, in VisDial's layout or our own; `path` stands in messages alone.

    Raises:
        DialogueError: names the record and what was expected there.
    """
    if isinstance(values, dict) and "data" in values:
        return _from_visdial(values, path)
    records = values if isinstance(values, list) else [values]
    return [_from_record(record, f"{path}, record {number}") for number, record in enumerate(records)]


def _from_record(record: Any, where: str) -> Dialogue:
    if not isinstance(record, dict) or not isinstance(record.get("caption"), str):
        raise DialogueError(f"{where}: expected an object with a text `caption`, found {_shown(record)}")
    if unknown := sorted(record.keys() - {"caption", "rounds", "image_id"}):
        raise DialogueError(f"{where}: unknown {unknown[0][:60]!r}; known: 'caption', 'rounds', 'image_id'")
    rounds = record.get("rounds", [])
    if not isinstance(rounds, list):
        raise DialogueError(f"{where}: `rounds` should be a list, found {type(rounds).__name__}")
    found = [_round(turn, f"{where}, round {number}") for number, turn in enumerate(rounds)]
    image_id = record.get("image_id")
    if image_id is not None and (not isinstance(image_id, int) or isinstance(image_id, bool)):
        raise DialogueError(f"{where}: `image_id` should be a whole number, found {_shown(image_id)}")
    return check(Dialogue(record["caption"], tuple(found), image_id), where)


def _round(turn: Any, where: str) -> Round:
    pair = turn
    if isinstance(turn, dict) and not turn.keys() - {"question", "answer"}:
        pair = [turn.get("question"), turn.get("answer", "")]
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise DialogueError(f'{where}: expected {{"question": text, "answer": text}}, found {_shown(turn)}')
    return pair[0], pair[1]


def _shown(value: Any) -> str:
    """The start of a value as JSON, inert on a terminal."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _from_visdial(values: dict[str, Any], path: Path) -> list[Dialogue]:
    return [
        check(Dialogue(found.caption, tuple(found.rounds), found.image_id), f"{path}, image {found.image_id}")
        for found in visdial.parse(values, path).dialogues.values()
    ]


def to_visdial(dialogues: Iterable[Dialogue]) -> dict[str, Any]:
    """The dialogues in the layout of VisDial 1.0; those without an image get their number for one.

    >>> to_visdial([Dialogue("a dog", (("is it black", "yes"),), 7)])["data"]["dialogs"]
    [{'image_id': 7, 'caption': 'a dog', 'dialog': [{'question': 0, 'answer': 0}]}]
    """
    said = [
        visdial.DialogueRecord(number if each.image_id is None else each.image_id, each.caption, list(each.rounds))
        for number, each in enumerate(dialogues)
    ]
    return visdial.layout("1.0", "chatpainter", said)


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
