"""One picture file to square arrays: decoded once, whatever its mode and orientation, and resized in one fixed way."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

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
_ORIENTATION = 0x0112


class Unreadable(Exception):
    """A picture that cannot be decoded; the message says why, in the decoder's words."""


def decode(path: Path, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """A picture at every size, each (size, size, 3) uint8 RGB: turned as its EXIF says, alpha laid over white.

    Raises:
        Unreadable: truncated, not a picture, missing, or too large to be meant.
    """
    try:
        with Image.open(path) as image:
            # Does nothing but for JPEGs, and keeps clear of the sizes asked for.
            image.draft("RGB", (DRAFT_GAP * max(sizes),) * 2)
            image.load()
            picture = _rgb(_upright(image))
            return [np.asarray(picture.resize((size, size), RESAMPLING)) for size in sizes]
    # Pillow's decoders raise nearly anything over bytes they did not expect.
    except Exception as error:
        raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None


def encode_jpeg(array: np.ndarray, quality: int) -> bytes:
    """(size, size, 3) uint8 as a JPEG without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    # A damaged EXIF block says nothing about the pixels.
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips sixteen bits to eight instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
