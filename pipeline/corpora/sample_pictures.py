"""Pictures of the sample world: textured grounds, flat shapes with smooth edges and a soft shadow."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipeline.corpora.sample_world import BLANK, COLOURS, GROUNDS, PAPER, Scene, outline

# Shapes are drawn this many times larger and averaged down, for smooth edges.
FINER = 4


class SceneRenderer:
    """Draws scenes at one size; the grounds are cut from textures that are made once, from the seed."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._textures = {ground: _texture(ground, size, seed) for ground in GROUNDS}
        self._textures[BLANK] = np.full((2 * size, 2 * size, 3), PAPER, np.uint8)

    def picture(self, scene: Scene, cut: tuple[float, float, bool]) -> Image.Image:
        """The picture of a scene, (size, size) RGB.

        Args:
            cut: the part of the ground's texture that is seen: left and top in [0, 1), and whether mirrored.
        """
        left, top = (int(part * self.size) for part in cut[:2])
        ground = self._textures[scene.ground][top : top + self.size, left : left + self.size]
        image = Image.fromarray(np.ascontiguousarray(ground[:, ::-1] if cut[2] else ground))
        for thing in scene.things:
            corners = [(x * self.size, y * self.size) for x, y in outline(thing)]
            self._draw(image, corners, thing.shape == "circle", COLOURS[thing.colour])
        return image

    def _draw(
        self, image: Image.Image, corners: list[tuple[float, float]], round_: bool, colour: tuple[int, int, int]
    ) -> None:
        margin = self.size // 24
        left, top = (int(min(values)) - margin for values in zip(*corners))
        right, bottom = (int(max(values)) + margin + 1 for values in zip(*corners))
        finer = Image.new("L", ((right - left) * FINER, (bottom - top) * FINER))
        points = [((x - left) * FINER, (y - top) * FINER) for x, y in corners]
        pen = ImageDraw.Draw(finer)
        if round_:
            xs, ys = zip(*points)
            pen.ellipse([min(xs), min(ys), max(xs), max(ys)], fill=255)
        else:
            pen.polygon(points, fill=255)
        mask = finer.reduce(FINER)
        shadow = mask.filter(ImageFilter.GaussianBlur(self.size / 100)).point([value // 3 for value in range(256)])
        image.paste((0, 0, 0), (left + self.size // 128, top + self.size // 85), shadow)
        image.paste(colour, (left, top), mask)


def _texture(ground: str, size: int, seed: int) -> np.ndarray:
    """A texture of a ground, (2 size, 2 size, 3) uint8: its colour, lighter and darker by some 15 levels."""
    draw = np.random.Generator(np.random.PCG64([seed, *ground.encode()]))
    side = 2 * size
    grain = draw.standard_normal((side, side))
    if ground == "sand":
        y = np.linspace(0, 2 * np.pi * 22, side)[:, None]
        light = 6 * np.sin(y + 9 * _cloud(draw, side, 6)) + 4 * grain
    elif ground == "stone":
        light = _cobbles(draw, side) + 2 * grain
    elif ground == "earth":
        light = 8 * _cloud(draw, side, 24) + 6 * _cloud(draw, side, side // 6) + 3 * grain
    else:
        light = 7 * _cloud(draw, side, 8) + 1.5 * grain
    light = np.clip(light, -20, 16)
    return np.clip(np.array(GROUNDS[ground]) + light[..., None], 0, 255).round().astype(np.uint8)


def _cloud(draw: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Smooth noise of (side, side), about standard normal, with `cells` bumps along a side."""
    coarse = Image.fromarray(draw.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)


def _cobbles(draw: np.random.Generator, side: int) -> np.ndarray:
    """Rounded stones with dark joints: the cells nearest to scattered points, (side, side)."""
    cells = 14
    shift = draw.uniform(0.15, 0.85, (cells + 2, cells + 2, 2))
    tone = draw.uniform(-9, 9, (cells + 2, cells + 2))
    y, x = np.divmod(np.arange(side * side), side)
    y, x = y / side * cells + 1, x / side * cells + 1
    row, column = y.astype(int), x.astype(int)
    nearest = np.full(side * side, np.inf)
    second = np.full(side * side, np.inf)
    light = np.zeros(side * side)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            r, c = row + down, column + right
            distance = np.hypot(r + shift[r, c, 0] - y, c + shift[r, c, 1] - x)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            light = np.where(closer, tone[r, c], light)
            nearest = np.minimum(nearest, distance)
    joint = np.clip((second - nearest) / 0.16, 0, 1)
    return (light * joint - 18 * (1 - joint) + 3).reshape(side, side)
