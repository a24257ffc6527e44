"""CoDraw scenes as pictures: clip-art over a meadow, drawn as the game drew them.

A scene is written as one text: the number of clip-arts, then eight fields each (png, local index, object index, type
index, x, y, z, flip). x and y are the centre on a canvas of 500 x 400 pixels, -10000 where a clip-art is not in use;
z is the depth; a flip of 1 mirrors.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageOps

from store.errors import ChatPainterError, one_line

CANVAS = (500, 400)
SCALES = (1.0, 0.7, 0.49)
KINDS = ("sky", "large", "boy", "girl", "animal", "clothing", "food", "toy")
NOT_IN_USE = -10000
_SPRITE = re.compile(r"([a-z]+\d?_\d+s)\.png")
_FIELDS = 8


@dataclass(frozen=True)
class ClipArt:
    """One clip-art of a scene; x, y in pixels from the top left of the canvas, z 0 (near) to 2 (far)."""

    sprite: str
    kind: str
    index: int
    x: float
    y: float
    z: int
    flip: bool


def parse(scene: str, where: str) -> list[ClipArt]:
    """The clip-arts of a scene that are in use, in the order in which they are written.

    Raises:
        ChatPainterError: `where`, and what does not fit the layout.
    """
    fields = scene.rstrip(",").split(",")
    try:
        count = int(fields[0])
        if len(fields) != 1 + _FIELDS * count:
            raise ValueError(f"{count} clip-arts take {1 + _FIELDS * count} fields, found {len(fields)}")
        things = []
        for start in range(1, len(fields), _FIELDS):
            png, _, index, kind, x, y, z, flip = fields[start : start + _FIELDS]
            sprite = _SPRITE.fullmatch(png)
            if not sprite or not 0 <= int(z) < len(SCALES) or not 0 <= int(kind) < len(KINDS):
                raise ValueError(f"{png!r} of type {kind} at depth {z}")
            if not all(abs(float(value)) <= -NOT_IN_USE for value in (x, y)):  # not a number neither
                raise ValueError(f"{png!r} at ({x}, {y}), far off the canvas")
            things.append(ClipArt(sprite[1], KINDS[int(kind)], int(index), float(x), float(y), int(z), flip == "1"))
    except ValueError as error:
        raise ChatPainterError(f"{where}: not a scene ({one_line(error)}); take CoDraw's file again") from None
    return [thing for thing in things if thing.x != NOT_IN_USE and thing.y != NOT_IN_USE]


class Renderer:
    """Draws scenes with the sprites of a folder (`background.png`, `s_0s.png`, ...), each loaded once.

    Raises:
        ChatPainterError: a sprite is missing or cannot be read.
    """

    def __init__(self, sprites: Path) -> None:
        self._folder = sprites
        self._background = self._load("background.png").convert("RGB")
        if self._background.size != CANVAS:
            raise ChatPainterError(f"{sprites / 'background.png'}: expected {CANVAS}, found {self._background.size}")
        self._sprite = cache(self._make_sprite)

    def sprites(self) -> list[str]:
        """The names of all clip-arts there are, sorted."""
        return sorted(found[1] for path in self._folder.iterdir() if (found := _SPRITE.fullmatch(path.name)))

    def picture(self, scene: list[ClipArt]) -> Image.Image:
        """The picture of a scene, 500 x 400 RGB: the sky first, then from far to near, as written within a depth."""
        image = self._background.copy()
        for thing in sorted(scene, key=lambda thing: (thing.kind != "sky", -thing.z)):
            sprite = self._sprite(thing.sprite, thing.z, thing.flip)
            left_top = (round(thing.x - sprite.width / 2), round(thing.y - sprite.height / 2))
            image.paste(sprite, left_top, sprite)
        return image

    def _make_sprite(self, name: str, z: int, flip: bool) -> Image.Image:
        sprite = self._load(f"{name}.png")
        if z:
            size = (max(1, round(sprite.width * SCALES[z])), max(1, round(sprite.height * SCALES[z])))
            # Colours under transparent pixels must not bleed into the edge.
            sprite = sprite.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
        return ImageOps.mirror(sprite) if flip else sprite

    def _load(self, png: str) -> Image.Image:
        path = self._folder / png
        try:
            with Image.open(path, formats=["PNG"]) as image:
                return image.convert("RGBA")
        # Pillow's decoders raise nearly anything over bytes they did not expect.
        except Exception as error:
            raise ChatPainterError(
                f"{path}: sprite cannot be read ({one_line(error)}); take CoDraw's Pngs folder again"
            ) from None
