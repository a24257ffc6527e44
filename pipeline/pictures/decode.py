"""One picture file to square arrays: decoded once, whatever its mode and orientation, and resized in one fixed way."""

import contextlib
import io
import logging
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.corpora.recognise import recognise
from pipeline.pictures.modes import to_rgb
from store.errors import one_line

# What a picture may be. EPS would start Ghostscript on a file from anywhere, and the rest of what Pillow opens are no
# photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "MPO", "JPEG2000", "AVIF", "TGA", "ICO", "PCX",
           "SGI", "QOI", "PSD")  # fmt: skip
# StackGAN's resize: bilinear, the aspect ratio not kept.
RESAMPLING = Image.Resampling.BILINEAR
# A JPEG may be decoded at a half, quarter or eighth where that is still this many times the largest size asked for:
# pixels then differ by 0.3 of 255 levels on average, and large photographs decode several times faster.
DRAFT_GAP = 3

# EXIF's orientations, and what undoes each.
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTERS = {_TURNS[number] for number in (5, 6, 7, 8)}
_ORIENTATION = 0x0112

# Pillow logs what it finds in a damaged file, and Python prints what nobody handles: `Unreadable` says it.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class Unreadable(Exception):
    """A picture that cannot be decoded; the message says why, in the decoder's words."""


def decode(path: Path, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """A picture at every size, each (size, size, 3) uint8 RGB: turned as its EXIF says, alpha laid over white.

    Of an animation it is the first picture.

    Raises:
        Unreadable: truncated, not a picture, missing, too large to be meant, or of values whose white nobody states.
    """
    picture = _opened(path, DRAFT_GAP * max(sizes))
    return [np.asarray(picture.resize((size, size), RESAMPLING)) for size in sizes]


def whole(path: Path) -> Image.Image:
    """A picture in RGB, at the size that it has, turned and laid over white as by `decode`.

    Raises:
        Unreadable: as `decode`.
    """
    return _opened(path)


def _opened(path: Path, least: int | None = None) -> Image.Image:
    try:
        with Image.open(path, formats=_formats()) as image:
            if least is not None:
                # Does nothing but for JPEGs, and keeps clear of the sizes asked for.
                image.draft("RGB", (least,) * 2)
            layout = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
            image.load()
            picture = to_rgb(image, layout)
            if (turn := _turn(image)) is not None:
                picture = picture.transpose(turn)
            return picture
    except UnidentifiedImageError:
        raise Unreadable(_recognised(path) or "of no kind of picture that is known") from None
    # Pillow's decoders raise nearly anything over bytes they did not expect.
    except Exception as error:
        raise Unreadable(one_line(error) or type(error).__name__) from None


def has_size(path: Path, size: tuple[int, int]) -> bool:
    """Is a picture (width, height) as stored, or as its EXIF turns it? By its head; yes where that says nothing."""
    try:
        with Image.open(path, formats=_formats()) as image:
            return size == image.size or (size == image.size[::-1] and _turn(image) in _QUARTERS)
    except Exception:
        return True


def encode_jpeg(array: np.ndarray, quality: int) -> bytes:
    """(size, size, 3) uint8 as a JPEG without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _recognised(path: Path) -> str | None:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        head = file.read(512)
        if not head:
            return "the file is empty"
        if what := recognise(head):
            return f"not a picture, but {what}"
    return None


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION))
    # A damaged EXIF block says nothing about the pixels.
    except Exception:
        return None
