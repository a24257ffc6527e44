"""What is said of a folder's pictures: `metadata.csv`, `metadata.jsonl`, or a text file beside every picture.

metadata.csv     columns file_name, split, caption, question, answer, dialogue; a line a caption, a round, or both
metadata.jsonl   {"file_name", "split", "caption" or "captions", "rounds": [{"question", "answer"}]}
NAME.txt         beside NAME.jpg: a caption a line; tabs divide it from its rounds, each `question? answer`
"""

import csv
import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpora import json_files, text_lines
from store.errors import ChatPainterError, one_line, short

TABLES = ("metadata.csv", "metadata.jsonl")
COLUMNS = ("file_name", "split", "caption", "question", "answer", "dialogue")
KEYS = ("file_name", "split", "caption", "captions", "rounds")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_REMEDY = "write it again with whatever made it"
_LARGEST_TEXT = 1 << 24


@dataclass(frozen=True)
class PictureRow:
    """What one row says of one picture.

    Attributes:
        where: file and row, for messages.
        split: None where the row states none.
        rounds: (question, answer) in the order in which they were said.
        dialogue: rounds of one picture under one name belong to one dialogue.
    """

    where: str
    file_name: str
    split: str | None
    captions: list[str]
    rounds: list[tuple[str, str]]
    dialogue: str


@dataclass(frozen=True)
class Source:
    """A folder's rows, and which columns or keys of them nothing reads."""

    told: list[PictureRow]
    unread: list[str]


def read(source: Path) -> Source:
    """Everything that is said in a folder.

    Raises:
        ChatPainterError: nothing is, in two places at once, or a row is not as it should be; names file and row.
    """
    if not source.is_dir():
        raise ChatPainterError(f"{source}: no such folder; name the folder of the pictures with --source")
    tables = [source / name for name in TABLES if (source / name).is_file()]
    if len(tables) > 1:
        raise ChatPainterError(f"{source}: holds {' and '.join(TABLES)}; leave only the one that is to be read")
    if not tables:
        return Source(list(_beside(source)), [])
    unread: dict[str, None] = {}
    told = list(_csv(tables[0], unread) if tables[0].suffix == ".csv" else _json_lines(tables[0], unread))
    if not told:
        raise ChatPainterError(f"{tables[0]}: has no row; write one a caption or round")
    return Source(told, list(unread))


def _csv(path: Path, unread: dict[str, None]) -> Iterator[PictureRow]:
    row = 1
    try:
        # utf-8-sig: spreadsheets on Windows begin a file with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            head = next(lines, [])
            row = lines.line_num
            _check_names(head, COLUMNS, f"{path}: line 1", "column", unread)
            for cells in lines:
                where = f"{path}: line {row + 1}"
                row = lines.line_num  # of the row's last line
                if not cells:
                    continue
                if len(cells) != len(head):
                    raise ChatPainterError(
                        f"{where}: has {len(cells)} cells, and the first line {len(head)} columns; a cell with a comma "
                        "in it stands in double quotes"
                    )
                yield _of_cells(dict(zip(head, cells)), where)
    except UnicodeDecodeError as error:
        raise ChatPainterError(f"{path}: not UTF-8 text (byte {error.start:,}); save it as UTF-8") from None
    except csv.Error as error:
        raise ChatPainterError(f"{path}: line {row + 1}: not CSV ({one_line(error)}); {_REMEDY}") from None
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from None


def _of_cells(cells: dict[str, str], where: str) -> PictureRow:
    split, caption, question, answer, dialogue = (json_files.fold(cells.get(name, "")) for name in COLUMNS[1:])
    if answer and not question:
        raise ChatPainterError(f"{where}: an answer without a question; write the question beside it")
    return _told(
        where,
        cells["file_name"],
        split,
        [caption] if caption else [],
        [(question, answer)] if question else [],
        dialogue,
    )


def _json_lines(path: Path, unread: dict[str, None]) -> Iterator[PictureRow]:
    for where, record in json_files.read_lines(path, _REMEDY):
        name = json_files.field(record, "file_name", str, where)
        _check_names(list(record), KEYS, where, "key", unread)
        captions = json_files.field(record, "captions", list, where) if "captions" in record else []
        if "caption" in record:
            captions = [json_files.field(record, "caption", str, where), *captions]
        rounds = json_files.field(record, "rounds", list, where) if "rounds" in record else []
        split = json_files.field(record, "split", str, where) if record.get("split") is not None else ""
        said = [_text(one, f"{where}: caption {n}") for n, one in enumerate(captions, 1)]
        yield _told(where, name, split, said, [_round(one, f"{where}: round {n}") for n, one in enumerate(rounds, 1)])


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not (text := json_files.fold(value)):
        raise ChatPainterError(f"{where} should be a text, found {short(value)}; write it or remove it")
    json_files.check_text(text, where)
    return text


def _round(turn: Any, where: str) -> tuple[str, str]:
    question = json_files.fold(json_files.field(turn, "question", str, where))
    answer = json_files.fold(json_files.field(turn, "answer", str, where)) if turn.get("answer") is not None else ""
    if not question:
        raise ChatPainterError(f"{where}: the question is empty; write it or remove the round")
    return question, answer


def _beside(source: Path) -> Iterator[PictureRow]:
    """Every picture with the text file beside it; hidden files are passed over."""
    found = sorted(_walk(source))
    pictures = [name for name in found if name.lower().endswith(PICTURES)]
    texts = {name for name in found if name.lower().endswith(".txt")}
    if not pictures:
        kinds = ", ".join(PICTURES)
        raise ChatPainterError(
            f"{source}: holds neither {' nor '.join(TABLES)}, nor pictures ({kinds}) with texts beside them"
        )
    stems: dict[str, str] = {}
    for name in pictures:
        text = f"{os.path.splitext(name)[0]}.txt"
        if text in stems:
            raise ChatPainterError(f"{source / text}: beside two pictures, {stems[text]} and {name}; rename one")
        if text not in texts:
            raise ChatPainterError(
                f"{source / name}: no {os.path.basename(text)} beside it, nor {' or '.join(TABLES)} in {source}; write "
                "what is seen, a caption a line"
            )
        stems[text] = name
        yield from _lines(source / text, name)
    if alone := sorted(texts - stems.keys()):
        raise ChatPainterError(f"{source / alone[0]}: no picture beside it; put it there, or move the text elsewhere")


def _walk(source: Path) -> Iterator[str]:
    def stop(error: OSError) -> None:
        raise ChatPainterError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions")

    for folder, folders, files in os.walk(source, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(source).as_posix()


def _lines(path: Path, name: str) -> Iterator[PictureRow]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_TEXT + 1)
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ChatPainterError(f"{path}: not UTF-8 text (byte {error.start:,}); save it as UTF-8") from None
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from None
    if len(data) > _LARGEST_TEXT:
        raise ChatPainterError(f"{path}: larger than what is said of one picture can be; write less of it")
    if not any(line.strip() for line in lines):
        raise ChatPainterError(f"{path}: says nothing; write what is seen, a caption a line")
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}: line {number}"
            caption, rounds = text_lines.parse(line, where)
            if any(not question for question, _ in rounds):
                raise ChatPainterError(f"{where}: an answer without a question; write the question before its mark")
            yield _told(where, name, "", [caption] if caption else [], rounds)


def _told(
    where: str, name: str, split: str, captions: list[str], rounds: list[tuple[str, str]], dialogue: str | None = None
) -> PictureRow:
    """A row that says something; rounds without a dialogue's name are a dialogue of their own."""
    if not captions and not rounds:
        raise ChatPainterError(f"{where}: says nothing of {short(name)}; write a caption or a round, or remove it")
    return PictureRow(where, name, split or None, captions, rounds, where if dialogue is None else dialogue)


def _check_names(names: list[str], known: tuple[str, ...], where: str, called: str, unread: dict[str, None]) -> None:
    """Refuse names that were meant for one that is read; note the rest."""
    if "file_name" not in names:
        raise ChatPainterError(f"{where}: needs a {called} 'file_name'; found {short(names)}")
    for name in names:
        if names.count(name) > 1:
            raise ChatPainterError(f"{where}: the {called} {short(name)} stands there twice")
        if name in known:
            continue
        if near := difflib.get_close_matches(name.lower(), known, 1, 0.8):
            raise ChatPainterError(f"{where}: {called} {short(name)}; did you mean {near[0]!r}?")
        unread[name] = None
