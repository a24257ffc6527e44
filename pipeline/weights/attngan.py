"""AttnGAN's captions.pickle: the captions of both splits as numbers, and what the numbers stand for.

    [train captions, test captions, {number: word}, {word: number}]

The order of its words, a Python 2 dictionary's, cannot be made again: a published text encoder reads by no other.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.weights.unpickle import STEPS, Unpickler
from store.errors import ChatPainterError
from store.files import in_words, replacing
from words.vocabulary import Vocabulary


@dataclass(frozen=True)
class Captions:
    """What the file holds. Caption j of image i is number i K + j, with K captions an image."""

    train: list[list[int]]
    test: list[list[int]]
    vocabulary: Vocabulary


def read_captions(path: Path) -> Captions:
    """The file's captions and words; nothing in it is run.

    Raises:
        ChatPainterError: it is missing, damaged, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            reader = _WithDictionaries(path, file)
            content = reader.load()
            return _captions(reader, content)
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); it comes with AttnGAN's data") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ChatPainterError(f"{path}: not AttnGAN's captions.pickle ({error})") from None


def write_captions(captions: Captions, path: Path) -> None:
    """Write the file as AttnGAN reads it, protocol 2, whole or not at all.

    Raises:
        StoreError: the folder cannot be written.
    """
    words = captions.vocabulary.words
    content = [captions.train, captions.test, dict(enumerate(words)), {word: i for i, word in enumerate(words)}]
    with in_words(path), replacing(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=2))


def _captions(reader: Unpickler, content: Any) -> Captions:
    if not isinstance(content, list) or len(content) != 4:
        raise ValueError("expected a list of train captions, test captions and two dictionaries")
    train, test, words, numbers = content
    if not isinstance(words, dict) or not isinstance(numbers, dict):
        raise ValueError("its third and fourth entry should be dictionaries")
    if set(words) != set(range(len(words))):
        raise ValueError(f"its {len(words):,} words are not numbered from 0")
    vocabulary = Vocabulary(tuple(reader.content(words[number]).decode("utf-8") for number in range(len(words))))
    back = {reader.content(word).decode("utf-8"): number for word, number in numbers.items()}
    if back != {word: number for number, word in enumerate(vocabulary.words)}:
        raise ValueError("its two dictionaries contradict each other")
    return Captions(_numbers(train, len(words)), _numbers(test, len(words)), vocabulary)


def _numbers(captions: Sequence[Any], most: int) -> list[list[int]]:
    if not isinstance(captions, list) or not all(isinstance(caption, list) for caption in captions):
        raise ValueError("its captions should be lists of lists")
    if not all(type(number) is int and 0 <= number < most for caption in captions for number in caption):
        raise ValueError("a caption holds a number that stands for no word")
    return captions


class _WithDictionaries(Unpickler):
    """The same few instructions, and those that dictionaries of strings and numbers consist of."""

    def steps(self) -> "dict[int, Callable[[Unpickler], None]]":
        return {**STEPS, **_DICTIONARIES}

    def dictionary(self) -> None:
        """Of the items since the mark (protocol 0)."""
        items = self.since_mark()
        self.push(dict(zip(items[::2], items[1::2], strict=True)))

    def item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._target()[key] = value

    def items(self) -> None:
        found = self.since_mark()
        self._target().update(zip(found[::2], found[1::2], strict=True))

    def _target(self) -> dict[Any, Any]:
        if not isinstance(self.stack[-1], dict):
            raise TypeError("an item for what is no dictionary")
        return self.stack[-1]


_DICTIONARIES: "dict[int, Callable[[Unpickler], None]]" = {
    ord("}"): lambda u: u.push({}),
    ord("d"): lambda u: cast(_WithDictionaries, u).dictionary(),
    ord("s"): lambda u: cast(_WithDictionaries, u).item(),
    ord("u"): lambda u: cast(_WithDictionaries, u).items(),
}
