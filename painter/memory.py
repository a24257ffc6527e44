"""What a picture is painted again from: kept in its PNG, in a saved conversation, and in a visitor's tab.

Whoever opens such a thing may have got it from anywhere; it is read as strictly as what is typed.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painter.dialogue import Dialogue, DialogueError, from_values, to_visdial
from store import typed
from store.errors import ChatPainterError, ParamsError

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

KEY = "chatpainter"
"""Keyword of the PNG's text (iTXt, not compressed), and of the member in a saved conversation."""
LETTERS = 2_000_000
"""The longest that is opened: 500 rounds of the longest texts are some 500,000."""


@dataclass(frozen=True)
class Remembered:
    """Words and noise of a picture, and which of the noises (`choice`) it shows."""

    caption: str
    rounds: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    truncation: float = 1.0
    choice: int = 0
    skipped: tuple[str, ...] = ()
    model: str = ""

    @property
    def dialogue(self) -> Dialogue:
        """The words."""
        return Dialogue(self.caption, self.rounds)

    def of(self, choice: int) -> "Remembered":
        """The picture of another noise."""
        return replace(self, choice=choice)

    def to_json(self) -> str:
        """As `recall` reads it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def to_png(self) -> "PngInfo":
        """The text to be written into a PNG."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt(KEY, self.to_json())
        return info

    def to_file(self) -> str:
        """A saved conversation: VisDial's layout, for `chatpainter-paint --from`, and beside it what that lacks."""
        return json.dumps({**to_visdial([self.dialogue]), KEY: asdict(self)}, indent=2, ensure_ascii=False)


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
