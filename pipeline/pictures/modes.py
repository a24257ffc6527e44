"""Any mode in which Pillow opens a file to 8-bit RGB, where Pillow's own conversion would clip or forget."""

import numpy as np
from PIL import Image

# TIFF's tags of how many bits a grey value has, and whether 0 is white.
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def to_rgb(image: Image.Image, layout: str = "") -> Image.Image:
    """A picture in RGB: deep greys scaled to 8 bits, what is transparent laid over white.

    Args:
        layout: how the file keeps a PNG's pixels, in Pillow's words (`L;2`, `RGB;16B`, ...).

    Raises:
        ValueError: a mode whose black and white nobody states (whole numbers of 32 bits, floating point), or one that
            Pillow cannot convert (LAB).
    """
    key = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        return _grey(image, key)
    if image.mode in ("I", "F"):
        what = "whole numbers of 32 bits" if image.mode == "I" else "floating point"
        raise ValueError(f"its values are {what}, and nothing says which of them is white; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if key is not None:
        image.info["transparency"] = _eight_bits(key, layout)
    return _over_white(image.convert("RGBA"))


def _grey(image: Image.Image, key: int | None) -> Image.Image:
    """Grey of up to 16 bits (Pillow spreads PGM's values over all 16); `key` is the value that is transparent."""
    values, tags = np.asarray(image).astype(np.int64), getattr(image, "tag_v2", {})
    most = 2 ** (tags[_BITS][0] if _BITS in tags else 16) - 1
    grey = ((values.clip(0, most) * 255 + most // 2) // most).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if key is not None:
        grey[values == key] = 255
    return Image.fromarray(grey).convert("RGB")


def _eight_bits(key: object, layout: str) -> object:
    """PNG's transparent colour, stated in the file's bits a value, in the 8 bits that Pillow made of the pixels."""
    if isinstance(key, int) and layout in ("L;2", "L;4"):
        return key * 255 // (2 ** int(layout[-1]) - 1)
    if isinstance(key, tuple) and layout.endswith("16B"):
        return tuple(value >> 8 for value in key)
    return key


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
