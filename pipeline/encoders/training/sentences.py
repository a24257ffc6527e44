"""Ordered sentences: what is read, and the mapped files that a training draws from.

A *document* is a run of sentences of which neighbours belong together: a picture's captions, its caption and turns, or
the lines of a text file up to an empty one. What an encoder will be given as one text is one sentence here, so a turn
of two sentences is one.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import tokens
from pipeline.corpora import corpus
from pipeline.texts import TextSettings, turn
from pipeline.weights.theano import END, UNKNOWN
from store.errors import ChatPainterError
from store.files import in_words, replacing, sha256_file

VERSION = 1
ABOUT = "sentences.json"  # written last: without it the other files are nothing
_STEP = 1 << 20


def documents(path: Path, settings: TextSettings) -> Iterator[list[str]]:
    """The documents of a corpus (.parquet) or of a text file, a line a sentence.

    Raises:
        ChatPainterError: the file is missing, no corpus, or not UTF-8 (names the line).
    """
    if path.suffix == ".parquet":
        yield from _of_corpus(path, settings)
    else:
        yield from _of_lines(path)


def _of_corpus(path: Path, settings: TextSettings) -> Iterator[list[str]]:
    for row in corpus.rows(corpus.read(path)):
        yield [text for _, text in row.captions]
        turns = [turn(question, answer, settings) for question, answer in row.rounds]
        yield ([row.caption] if turns else []) + turns


def _of_lines(path: Path) -> Iterator[list[str]]:
    document: list[str] = []
    with in_words(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8").strip()
            except UnicodeDecodeError:
                raise ChatPainterError(
                    f"{path}, line {number:,}: not UTF-8; sentences are read from text files, a line each, or from a "
                    "corpus (.parquet)"
                ) from None
            if text:
                document.append(text)
            if (not text or len(document) == _STEP) and document:
                yield document
                document = []
    yield document


@dataclass(frozen=True)
class Sentences:
    """Sentences as numbers of words, mapped from files.

    Attributes:
        tokens: (all words,) int32; word 0 is <eos>, 1 is UNK, the others by falling frequency. No sentence's <eos> is
            stored.
        starts: (sentences + 1,) int64, where each begins.
        seen, held_out: (n,) int64, sentences of which both neighbours are of the same document, to learn from and to
            measure on.
        words: the vocabulary.
        about: from what it was made, and counts.
    """

    tokens: np.ndarray
    starts: np.ndarray
    seen: np.ndarray
    held_out: np.ndarray
    words: list[str]
    about: dict[str, object]


def prepare(
    folder: Path,
    files: Mapping[Path, str],
    settings: TextSettings,
    tokenizer: tokens.TokenizerName,
    *,
    words: int,
    longest: int,
    held_out: int,
) -> Sentences:
    """The sentences of `files`, made once in `folder` and mapped from then on; reading needs no more than a document.

    Args:
        files: as `checksums` gives them.
        words: of the vocabulary, <eos> and UNK among them.
        longest: a sentence with more words is no one's neighbour, nor has any.
        held_out: every so many documents one is kept for measuring.

    Raises:
        ChatPainterError: a file cannot be read, or there are too few sentences.
    """
    made_from = {
        "version": VERSION,
        "files": {path.name: checksum for path, checksum in files.items()},
        "text": settings.__dict__,
        "tokenizer": tokens.identity(tokenizer),
        "words": words,
        "longest": longest,
        "held_out": held_out,
    }
    about = folder / ABOUT
    if not _is_of(about, made_from):
        folder.mkdir(parents=True, exist_ok=True)
        about.unlink(missing_ok=True)
        split = tokens.tokenizer(tokenizer)
        found = (document for path in files for document in documents(path, settings))
        counts = _write(folder, ([split(text) for text in document] for document in found), words, longest, held_out)
        with in_words(about), replacing(about) as temporary:
            temporary.write_text(json.dumps({"made_from": made_from, "counts": counts}, indent=1), encoding="utf-8")
    return _mapped(folder, made_from)


def checksums(paths: Sequence[Path]) -> dict[Path, str]:
    """sha256 of every file.

    Raises:
        ChatPainterError: one is missing, or two have the same name, by which a training knows them.
    """
    for path in paths:
        if not path.is_file():
            raise ChatPainterError(f"{path}: no such file; name corpora (.parquet) or text files, a line a sentence")
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        raise ChatPainterError(f"two texts have the same name ({', '.join(names)}); rename one")
    return {path: sha256_file(path) for path in paths}


def _is_of(about: Path, made_from: dict[str, object]) -> bool:
    try:
        return bool(json.loads(about.read_bytes())["made_from"] == json.loads(json.dumps(made_from)))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _write(folder: Path, split: Iterable[list[list[str]]], words: int, longest: int, held_out: int) -> dict[str, int]:
    """One pass: words numbered as they come, then renumbered by frequency within the file."""
    number: dict[str, int] = {}
    frequency = array("q")
    starts, middles, kept_back = array("q", [0]), array("q"), array("q")
    at = 0
    with (folder / "tokens.i4").open("wb") as out:
        for which, document in enumerate(split):
            first = len(starts) - 1
            fits = [0 < len(sentence) <= longest for sentence in document]
            for sentence in document:
                ids = array("i")
                for word in sentence:
                    found = number.setdefault(word, len(frequency))
                    if found == len(frequency):
                        frequency.append(0)
                    frequency[found] += 1
                    ids.append(found)
                ids.tofile(out)
                at += len(ids)
                starts.append(at)
            into = kept_back if which % held_out == held_out - 1 else middles
            into.extend(first + i for i in range(1, len(document) - 1) if all(fits[i - 1 : i + 2]))
    listed = list(number)
    order = [i for i in np.argsort(-np.array(frequency), kind="stable") if listed[i] not in (END, UNKNOWN)]
    order = order[: words - 2]
    new = np.ones(len(listed), np.int32)  # UNK
    new[order] = np.arange(2, len(order) + 2)
    if END in number:
        new[number[END]] = 0
    tokens_file = np.memmap(folder / "tokens.i4", np.int32, "r+", shape=(at,)) if at else np.empty(0, np.int32)
    unknown = 0
    for start in range(0, at, _STEP):
        tokens_file[start : start + _STEP] = new[tokens_file[start : start + _STEP]]
        unknown += int((tokens_file[start : start + _STEP] == 1).sum())
    if isinstance(tokens_file, np.memmap):
        tokens_file.flush()
    for name, values in (("starts", starts), ("seen", middles), ("held_out", kept_back)):
        np.array(values, np.int64).tofile(folder / f"{name}.i8")
    vocabulary = [END, UNKNOWN, *(listed[i] for i in order)]
    (folder / "words.txt").write_bytes("".join(word + "\n" for word in vocabulary).encode("utf-8"))
    return {
        "sentences": len(starts) - 1,
        "tokens": at,
        "unknown": unknown,
        "distinct_words": len(listed),
        "vocabulary": len(vocabulary),
        "triples": len(middles),
        "held_out_triples": len(kept_back),
    }


def _mapped(folder: Path, made_from: dict[str, object]) -> Sentences:
    counts = json.loads((folder / ABOUT).read_bytes())["counts"]
    names = ", ".join(made_from["files"])  # type: ignore[arg-type]
    if not counts["triples"] or not counts["held_out_triples"]:
        raise ChatPainterError(
            f"{names}: {counts['sentences']:,} sentences, of which {counts['triples']:,} to learn from and "
            f"{counts['held_out_triples']:,} held out have two neighbours of at most {made_from['longest']} words; "
            "give more texts, or a smaller held_out"
        )
    words = (folder / "words.txt").read_bytes().decode("utf-8").split("\n")[:-1]
    if len(words) != counts["vocabulary"]:
        raise ChatPainterError(f"{folder / 'words.txt'}: damaged; remove {folder} and run the same command again")

    def mapped(name: str, dtype: type, count: int) -> np.ndarray:
        path = folder / name
        if not path.is_file() or path.stat().st_size != count * np.dtype(dtype).itemsize:
            raise ChatPainterError(f"{path}: damaged; remove {folder} and run the same command again")
        return np.memmap(path, dtype, "r", shape=(count,)) if count else np.empty(0, dtype)

    return Sentences(
        mapped("tokens.i4", np.int32, counts["tokens"]),
        mapped("starts.i8", np.int64, counts["sentences"] + 1),
        mapped("seen.i8", np.int64, counts["triples"]),
        mapped("held_out.i8", np.int64, counts["held_out_triples"]),
        words,
        {**made_from, **counts},
    )
