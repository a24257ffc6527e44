"""Words that a training never saw: a linear map from given word vectors into the encoder's (Kiros et al., section 2.2).

The map is the least-squares one over the words that both know, without a penalty. Of the given vectors' words those
with `_` are left out, as the authors did.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from store.errors import ChatPainterError, short
from store.files import in_words


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """Word vectors in word2vec's or GloVe's text format: a word and its values a line, perhaps a line of counts first.

    Returns:
        The words, the first of equal ones kept, and (words, d) float32.

    Raises:
        ChatPainterError: no such file, or a line that is none of these.
    """
    rows: dict[str, np.ndarray] = {}
    width = 0
    for number, line in _lines(path):
        word, _, values = line.partition(" ")
        try:
            array = np.array(values.split(), np.float32)
        except ValueError:
            array = np.empty(0, np.float32)
        if number == 1 and array.size == 1 and word.isdigit():
            continue
        width = width or array.size
        if array.size != width or width < 2 or not np.isfinite(array).all():
            raise ChatPainterError(
                f"{path}, line {number:,}: {short(line)} is no word with {width or 'some'} values; expected word "
                "vectors as word2vec's or GloVe's text files have them"
            )
        if "_" not in word:
            rows.setdefault(word, array)
    if not rows:
        raise ChatPainterError(f"{path}: holds no word vectors")
    return list(rows), np.stack(list(rows.values()))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with in_words(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8").rstrip("\r\n ")
            except UnicodeDecodeError:
                raise ChatPainterError(f"{path}, line {number:,}: not UTF-8") from None
            if text:
                yield number, text


def linear_map(given: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The map (d + 1, E), its last row the offset, that takes `given` (n, d) nearest to `known` (n, E)."""
    inputs = np.concatenate([given, np.ones((len(given), 1))], 1).astype(np.float64)
    return np.linalg.lstsq(inputs, known.astype(np.float64), rcond=None)[0]


def expand(
    words: list[str], tables: Mapping[str, np.ndarray], given_words: list[str], given: np.ndarray
) -> tuple[list[str], dict[str, np.ndarray], int]:
    """The vocabulary and each table (words, E) with the given words that it lacks after its own, and how many both had.

    Raises:
        ChatPainterError: fewer words in common than a map needs.
    """
    place = {word: row for row, word in enumerate(given_words)}
    shared = [(row, place[word]) for row, word in enumerate(words) if word in place]
    if len(shared) <= given.shape[1] + 1:
        raise ChatPainterError(
            f"the given word vectors share {len(shared):,} words with the texts, too few for a map of "
            f"{given.shape[1] + 1} by E; give vectors of the texts' language"
        )
    own, theirs = np.array(shared).T
    known = set(words)
    new = np.array([row for row, word in enumerate(given_words) if word not in known], np.int64)
    expanded = {}
    for name, table in tables.items():
        mapping = linear_map(given[theirs], table[own])
        mapped = given[new].astype(np.float64) @ mapping[:-1] + mapping[-1]
        expanded[name] = np.concatenate([table, mapped.astype(np.float32)])
    return words + [given_words[row] for row in new], expanded, len(shared)
