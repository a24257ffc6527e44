"""What a picture is painted again from: kept in its PNG, in a saved conversation, and in a visitor's tab.

Whoever opens such a thing may have got it from anywhere; it is read as strictly as what is typed.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painter.dialogue import MOST_ROUNDS, Dialogue, DialogueError, Round, from_values, to_visdial
from store import typed
from store.errors import ChatPainterError, ParamsError

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

KEY = "chatpainter"
"""Keyword of the PNG's text (iTXt, not compressed), and of the member in a saved conversation."""
LETTERS = 2_000_000
"""The longest that is opened: 500 rounds of the longest texts are some 500,000."""


@dataclass(frozen=True)
class History:
    """What a tab remembers beside the words: other dialogues under the same caption, and the strip of pictures.

    Attributes:
        past, future: of each dialogue, for undo and redo, its rounds: places among those of the words, then of `more`.
        more: rounds that the words do not have.
        strip: after how many rounds the pictures were painted.
    """

    past: tuple[tuple[int, ...], ...] = ()
    future: tuple[tuple[int, ...], ...] = ()
    more: tuple[Round, ...] = ()
    strip: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, words: Dialogue, past: Iterable[Dialogue], future: Iterable[Dialogue], strip: Iterable[int]
    ) -> "History":
        """Of dialogues under the caption of `words`; each round is written once, however many have it."""
        places: dict[Round, int] = {}
        for place, each in enumerate(words.rounds):
            places.setdefault(each, place)
        known, count = len(places), len(words.rounds)

        def placed(dialogues: Iterable[Dialogue]) -> tuple[tuple[int, ...], ...]:
            return tuple(
                tuple(places.setdefault(each, count + len(places) - known) for each in one.rounds) for one in dialogues
            )

        before, after = placed(past), placed(future)
        return cls(before, after, tuple(list(places)[known:]), tuple(strip))

    def dialogues(self, words: Dialogue) -> tuple[list[Dialogue], list[Dialogue]]:
        """Past and future again.

        Raises:
            DialogueError: a place is none, or a dialogue is longer than `dialogue.MOST_ROUNDS`.
        """
        rounds = (*words.rounds, *self.more)
        for one in (*self.past, *self.future):
            if len(one) > MOST_ROUNDS or not all(0 <= place < len(rounds) for place in one):
                raise DialogueError("a dialogue of the history has rounds that there are not")
        before, after = (
            [Dialogue(words.caption, tuple(rounds[place] for place in one)) for one in dialogues]
            for dialogues in (self.past, self.future)
        )
        return before, after


@dataclass(frozen=True)
class Remembered:
    """Words and noise of a picture, and which of the noises (`choice`) it shows; a tab's has a history, too."""

    caption: str
    rounds: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    truncation: float = 1.0
    choice: int = 0
    skipped: tuple[str, ...] = ()
    model: str = ""
    history: History | None = None

    @property
    def dialogue(self) -> Dialogue:
        """The words."""
        return Dialogue(self.caption, self.rounds)

    def of(self, choice: int) -> "Remembered":
        """The picture of another noise."""
        return replace(self, choice=choice)

    def to_json(self) -> str:
        """As `recall` reads it."""
        return json.dumps(self._values(), ensure_ascii=False)

    def to_png(self) -> "PngInfo":
        """The text to be written into a PNG."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt(KEY, self.to_json())
        return info

    def to_file(self) -> str:
        """A saved conversation: VisDial's layout, for `chatpainter-paint --from`, and beside it what that lacks."""
        return json.dumps({**to_visdial([self.dialogue]), KEY: self._values()}, indent=2, ensure_ascii=False)

    def _values(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "history" or value is not None}


def recall(text: str, where: str = "this text") -> Remembered:
    """What `to_json` or `to_file` wrote, or the first dialogue of any JSON that `chatpainter-paint --from` reads.

    Raises:
        DialogueError: it is none of these, or longer than `LETTERS`.
    """
    if len(text) > LETTERS:
        raise DialogueError(f"{where}: {len(text):,} characters; at most {LETTERS:,} are opened")
    try:
        values = json.loads(text)
        if isinstance(values, dict) and KEY in values:
            values = values[KEY]
        if isinstance(values, dict) and "seed" in values:
            return typed.build(Remembered, values, where)
    except (ValueError, RecursionError):
        raise DialogueError(f"{where}: not valid JSON, so no conversation") from None
    except ParamsError as error:
        raise DialogueError(f"{error.message}; save the conversation again") from None
    try:
        found = from_values(values, Path(where))
    except ChatPainterError as error:
        raise DialogueError(error.message) from None
    if not found:
        raise DialogueError(f"{where}: holds no caption")
    return Remembered(found[0].caption, found[0].rounds)


def recall_png(path: Path) -> Remembered:
    """What a picture that we painted was painted from.

    Raises:
        DialogueError: no PNG, or one without such a text.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            text: Any = getattr(picture, "text", {}).get(KEY)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DialogueError(f"{path}: cannot be read as a PNG ({error})") from None
    if text is None:
        raise DialogueError(f"{path}: carries no words; only pictures that ChatPainter saved do")
    return recall(str(text), str(path))
