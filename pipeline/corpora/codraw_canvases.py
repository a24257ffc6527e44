"""CoDraw's drawer: what stands on the canvas after every turn, and GeNeVA's conventions of what a turn is as switches.

In a turn the teller says something, the drawer draws and may reply. The drawer's scene (`abs_d`) is stated in most
turns and is the last one stated in the others. GeNeVA (El-Nouby et al., 2019) joins turns that add nothing to the next
one that does, drops chit-chat, marks who speaks by a token, and lower-cases.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.corpora import json_files
from pipeline.corpora.codraw_renderer import ClipArt, parse

CHITCHAT = frozenset(("hi", "done", "ok", "alright", "okay", "thanks", "bye", "hello"))
TELLER, DRAWER = "<teller>", "<drawer>"
_CHILD = re.compile(r"(hb[01])_\d+s")


@dataclass(frozen=True)
class Conventions:
    """What becomes of a dialogue.

    Args:
        join: `added`: turns after which no new kind of object is there join the next; `none`: every turn in which
            somebody speaks is one.
        chitchat: `drop` leaves out words of greeting and agreement and lone marks of punctuation, and lower-cases.
        drawer: what the drawer replies is the round's answer; else it is left out.
        tokens: `<teller>` and `<drawer>` stand before what each says.
    """

    join: Literal["added", "none"] = "added"
    chitchat: Literal["keep", "drop"] = "drop"
    drawer: bool = True
    tokens: bool = False


GENEVA = Conventions(tokens=True)


@dataclass(frozen=True)
class CanvasTurn:
    """What was said, and the canvas after it."""

    question: str
    answer: str
    canvas: tuple[ClipArt, ...]


def kind_of(sprite: str) -> str:
    """Which of 58 objects a clip-art is: the boy and the girl are one each, whatever their pose and face."""
    child = _CHILD.fullmatch(sprite)
    return child[1] if child else sprite


def turns(entry: dict, conventions: Conventions, where: str) -> list[CanvasTurn]:
    """The turns of a dialogue, at least one. Turns at the end that add nothing join the last one that did, whose
    canvas is then the last: nothing that was said or drawn is lost.

    Raises:
        ChatPainterError: `where`, the turn, and what does not fit the layout.
    """
    joined: list[tuple[list[str], list[str], tuple[ClipArt, ...]]] = []
    questions: list[str] = []
    answers: list[str] = []
    shown: tuple[ClipArt, ...] = ()  # after the last turn kept
    canvas = shown
    for said, replied, canvas in _stated(entry, where):
        questions += [said] * bool(said)
        answers += [replied] * bool(replied)
        if _kinds(canvas) - _kinds(shown) or (conventions.join == "none" and (said or replied)):
            joined.append((questions, answers, canvas))
            questions, answers, shown = [], [], canvas
    if joined:
        before, replies, _ = joined.pop()
        questions, answers = before + questions, replies + answers
    joined.append((questions, answers, canvas))
    return [_turn(*one, conventions) for one in joined]


def _kinds(canvas: tuple[ClipArt, ...]) -> set[str]:
    return {kind_of(thing.sprite) for thing in canvas}


def _stated(entry: dict, where: str) -> Iterator[tuple[str, str, tuple[ClipArt, ...]]]:
    canvas: tuple[ClipArt, ...] = ()
    for number, turn in enumerate(json_files.field(entry, "dialog", list, where), 1):
        here = f"{where}, turn {number}"
        told, replied, scene = (json_files.field(turn, name, str, here) for name in ("msg_t", "msg_d", "abs_d"))
        if scene:
            canvas = tuple(parse(scene, f"{here}: abs_d"))
        yield json_files.fold(told), json_files.fold(replied), canvas


def _turn(
    questions: list[str], answers: list[str], canvas: tuple[ClipArt, ...], conventions: Conventions
) -> CanvasTurn:
    said = " ".join(filter(None, (_words(text, conventions) for text in questions)))
    replied = " ".join(filter(None, (_words(text, conventions) for text in answers))) if conventions.drawer else ""
    if conventions.tokens:
        said, replied = (f"{who} {text}" if text else "" for who, text in ((TELLER, said), (DRAWER, replied)))
    return CanvasTurn(said, replied, canvas)


def _words(text: str, conventions: Conventions) -> str:
    if conventions.chitchat == "keep":
        return text
    words = re.findall(r"[\w'<>]+|[^\w\s]", text.lower())
    return " ".join(word for word in words if word not in CHITCHAT and re.search(r"\w", word))
