"""How a round becomes a string and a dialogue collapses into one: every choice that the paper leaves open."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["captions", "turns", "dialogues"]
"""What a store keeps the vectors of: captions, single rounds, or whole dialogues as one text each."""
KINDS: tuple[Kind, ...] = ("captions", "turns", "dialogues")
TERMINAL = ("?", "!", ".", "？", "！", "。", "؟", "۔", "।")


@dataclass(frozen=True)
class TextSettings:
    """Section `text` of params.yaml. Captions are not touched by these: their encoder has its own `lowercase`."""

    turn: Literal["question+answer", "question", "answer"] = "question+answer"
    punctuation: bool = True  # VisDial's strings carry none: close a question with ?, an answer with .
    lowercase: bool = False
    caption_in_dialogue: bool = False


def turn(question: str, answer: str, settings: TextSettings) -> str:
    """One round as the string that is encoded; an absent answer (VisDial's test split) is "" and adds nothing.

    White space at the ends of question and answer is dropped, so that equal rounds become equal strings.
    """
    parts = []
    if settings.turn != "answer":
        parts.append(_closed(question, "?", settings))
    if settings.turn != "question":
        parts.append(_closed(answer, ".", settings))
    text = " ".join(part for part in parts if part)
    return text.lower() if settings.lowercase else text


def collapse(rounds: Iterable[tuple[str, str]], caption: str, settings: TextSettings) -> str:
    """A whole dialogue as one string: its turns joined by a space, the caption first if settings say so."""
    parts = [turn(question, answer, settings) for question, answer in rounds]
    if settings.caption_in_dialogue:
        text = _closed(caption, ".", settings)
        parts.insert(0, text.lower() if settings.lowercase else text)
    return " ".join(part for part in parts if part)


def _closed(text: str, mark: str, settings: TextSettings) -> str:
    text = text.strip()
    if text and settings.punctuation and not text.endswith(TERMINAL):
        text += mark
    return text
