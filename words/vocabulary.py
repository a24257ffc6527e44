"""AttnGAN's words (taoxugit/AttnGAN, code/datasets.py): what a caption is cut into, and the number of each."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

END = "<end>"
"""The word of number 0: it pads, and stands where a caption has no known word."""

_WORD = re.compile(r"\w+")


class Numbered(NamedTuple):
    """A caption as numbers."""

    ids: list[int]  # at least one
    words: int  # in the caption
    unknown: int  # of these, which are left out


def split(text: str) -> list[str]:
    """The words of a caption, in lower case: runs of letters, digits and _, without what is not ASCII."""
    found = _WORD.findall(text.replace("\ufffd\ufffd", " ").lower())
    plain = (word.encode("ascii", "ignore").decode("ascii") for word in found)
    return [word for word in plain if word]


@dataclass(frozen=True)
class Vocabulary:
    """Words by number; the first is `END`.

    Raises:
        ValueError: the first word is another, or a word stands twice.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.words or self.words[0] != END:
            raise ValueError(f"word 0 must be {END}")
        if len(self._numbers) != len(self.words):
            raise ValueError("a word stands twice")

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """Every word of `texts`, in alphabetical order. (AttnGAN's order, a Python 2 dict's, cannot be made again.)"""
        return cls((END, *sorted({word for text in texts for word in split(text)})))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def sha256(self) -> str:
        """Of the words in their order: two vocabularies that differ here give other numbers."""
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.words)

    def number(self, text: str) -> Numbered:
        """The numbers of a caption's words; unknown ones are left out, as AttnGAN does."""
        words = split(text)
        ids = [self._numbers[word] for word in words if word in self._numbers]
        return Numbered(ids or [0], len(words), len(words) - len(ids))

    def text(self, ids: Sequence[int]) -> str:
        """The words of these numbers."""
        return " ".join(self.words[number] for number in ids)
