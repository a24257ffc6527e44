"""Pictures as cameras, scanners and instruments save them: files written here byte by byte, and the RGB they mean."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from pipeline.pictures.decode import FORMATS, Unreadable, decode
from pipeline.pictures.pool import Failed, Recipe, decode_all

SIDE = 16
WHITE = [255, 255, 255]


def rgb(tmp_path: Path, data: bytes, name: str = "picture") -> np.ndarray:
    path = tmp_path / name
    path.write_bytes(data)
    (got,) = decode(path, (SIDE,))
    return got.astype(int)


def png(
    pixels: bytes, depth: int, colour: int, transparent: bytes | None = None, palette: bytes | None = None
) -> bytes:
    """A PNG of 16 x 16 whose rows are all `pixels`, as the specification has it (colour: 0 grey, 2 RGB, 3 palette)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0))]
    parts += [chunk(b"PLTE", palette)] if palette else []
    parts += [chunk(b"tRNS", transparent)] if transparent else []
    rows = (b"\0" + pixels) * SIDE
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def tiff(
    values: np.ndarray, order: Literal["<", ">"] = "<", sample: int = 1, photometric: int = 1, bits: int | None = None
) -> bytes:
    """An uncompressed grey TIFF, (h, w); sample: 1 whole numbers, 2 signed ones, 3 floating point."""
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = {
        256: values.shape[1], 257: values.shape[0], 258: bits or values.itemsize * 8, 259: 1, 262: photometric,
        273: 8, 277: 1, 278: values.shape[0], 279: len(data), 339: sample,
    }  # fmt: skip
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)


RAMP = np.linspace(0, 65535, SIDE).round().astype(np.uint16)[None].repeat(SIDE, axis=0)
EXPECTED = (RAMP / 257).round()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(RAMP[0].astype(">u2").tobytes(), 16, 0), id="PNG"),
        pytest.param(b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes(), id="PGM"),
        pytest.param(tiff(RAMP), id="TIFF"),
        pytest.param(tiff(RAMP, ">"), id="TIFF, big endian"),
        pytest.param(tiff(65535 - RAMP, photometric=0), id="TIFF, 0 is white"),
    ],
)
def test_sixteen_bits_are_scaled(tmp_path: Path, data: bytes) -> None:
    got = rgb(tmp_path, data)
    assert np.abs(got - EXPECTED[..., None]).max() <= 1


def test_the_depth_that_a_pgm_states_is_its_white(tmp_path: Path) -> None:
    """4,095 is white where the head says so: twelve bits, as instruments have."""
    for most in (255, 1023, 4095):
        values = (RAMP.astype(int) * most // 65535).astype(">u2" if most > 255 else "u1")
        got = rgb(tmp_path, f"P5 16 16 {most}\n".encode() + values.tobytes())
        assert np.abs(got - EXPECTED[..., None]).max() <= 1


def test_twelve_bits_of_a_tiff_reach_white(tmp_path: Path) -> None:
    """Two values in three bytes, most significant bits first (TIFF 6.0, FillOrder 1)."""
    values = (RAMP.astype(int) >> 4).reshape(-1, 2)
    packed = np.stack([values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], axis=1)
    data = tiff(packed.astype(np.uint8).reshape(SIDE, -1), bits=12)
    data = data.replace(struct.pack("<HHII", 256, 4, 1, SIDE * 3 // 2), struct.pack("<HHII", 256, 4, 1, SIDE))
    got = rgb(tmp_path, data)
    assert np.abs(got - EXPECTED[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(tiff(RAMP.astype(np.uint32) << 16), "whole numbers of 32 bits", id="32 bits"),
        pytest.param(tiff(RAMP.astype(np.int32) * 32768, sample=2), "whole numbers of 32 bits", id="32 bits, signed"),
        pytest.param(tiff((RAMP >> 1).astype(np.int16), sample=2), "whole numbers of 32 bits", id="16 bits, signed"),
        pytest.param(tiff((RAMP / 65535).astype(np.float32), sample=3), "floating point", id="float, 0 to 1"),
        pytest.param(tiff(RAMP.astype(np.float32), sample=3), "floating point", id="float, 0 to 65535"),
        pytest.param(b"Pf 16 16 -1.0\n" + RAMP.astype("<f4").tobytes(), "floating point", id="PFM"),
    ],
)  # fmt: skip
def test_values_whose_white_nobody_states_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=f"{message}.*which of them is white; save it with 8 or 16 bits"):
        rgb(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "grey"),
    [
        (png(bytes([7, 9] * 8), 8, 0, struct.pack(">H", 7)), 9),
        (png(struct.pack(">HH", 1000, 40000) * 8, 16, 0, struct.pack(">H", 1000)), 156),
        # Only all sixteen bits together are the transparent value.
        (png(struct.pack(">HH", 40001, 40000) * 8, 16, 0, struct.pack(">H", 40001)), 156),
        (png(bytes([0x12] * 8), 4, 0, struct.pack(">H", 1)), 34),
        (png(bytes([0b00011011] * 4), 2, 0, struct.pack(">H", 2)), None),
        (png(bytes([0b01010101] * 2), 1, 0, struct.pack(">H", 0)), 255),
        (png(bytes([0b01010101] * 2), 1, 0, struct.pack(">H", 1)), None),
        (png(bytes([1, 2, 3, 4, 4, 4] * 8), 8, 2, struct.pack(">HHH", 1, 2, 3)), 4),
        (png(struct.pack(">6H", 258, 515, 772, 1028, 1028, 1028) * 8, 16, 2, struct.pack(">HHH", 258, 515, 772)), 4),
        (png(bytes([0, 1] * 8), 8, 3, bytes([0]), bytes([9, 9, 9, 5, 5, 5])), 5),
        (png(struct.pack(">4H", 0, 0, 40000, 65535) * 8, 16, 4), 156),
    ],
)
def test_png_keeps_what_is_transparent_at_every_depth(tmp_path: Path, data: bytes, grey: int | None) -> None:
    """What is transparent lies over white; the pixels beside it keep their grey."""
    got = rgb(tmp_path, data)
    if grey is None:
        assert got[0, :4, 0].tolist() in ([0, 85, 255, 255], [0, 255, 0, 255])
        return
    assert (got[:, 0::2] == 255).all()
    assert (got[:, 1::2] == grey).all()


def test_half_transparent_palettes_and_alpha_lie_over_white(tmp_path: Path) -> None:
    got = rgb(tmp_path, png(bytes([0, 1] * 8), 8, 3, bytes([128, 255]), bytes([0, 0, 0, 5, 5, 5])))
    assert (got[0, 0] == 127).all()
    buffer = io.BytesIO()
    Image.new("PA", (SIDE, SIDE), (0, 0)).save(buffer, "TIFF")
    assert (rgb(tmp_path, buffer.getvalue()) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path, kind: str) -> None:
    first, second = Image.new("RGB", (SIDE, SIDE), (250, 0, 0)), Image.new("RGB", (SIDE, SIDE), (0, 0, 250))
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=[second])
    got = rgb(tmp_path, buffer.getvalue())
    assert np.abs(got - [250, 0, 0]).max() < 8


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_turns_a_picture_once(tmp_path: Path, kind: str) -> None:
    upright = Image.new("RGB", (SIDE, SIDE), (250, 250, 250))
    upright.paste((250, 0, 0), (0, 0, SIDE, SIDE // 2))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(
        buffer, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})
    )
    np.testing.assert_array_equal(rgb(tmp_path, buffer.getvalue()), np.asarray(upright))


def test_lab_becomes_srgb(tmp_path: Path) -> None:
    """A lightness of 50 without colour is 119 of 255 in sRGB, by the standard's formula."""
    buffer = io.BytesIO()
    Image.new("LAB", (SIDE, SIDE), (128, 128, 128)).save(buffer, "TIFF")
    assert np.abs(rgb(tmp_path, buffer.getvalue()) - 119).max() <= 1


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("started a program"))
    with pytest.raises(Unreadable):
        rgb(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n", "picture.eps")
    assert "EPS" not in FORMATS


# Bombs and foreign files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [12_000, 40_000, 2**31 - 1])
def test_a_picture_that_claims_to_be_immense_is_one_line(
    tmp_path: Path, side: int, capfd: pytest.CaptureFixture
) -> None:
    """Of 144 million pixels and of more: heads without the pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    body = zlib.compress(bytes(100))
    body = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    path = tmp_path / "bomb.png"
    path.write_bytes(start + body)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = decode_all(None, 1, [path], Recipe((8,), (None,)))
    assert isinstance(result, Failed)
    assert "\n" not in result.reason
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><title>404</title>", "not a picture, but an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "a pointer of Git LFS.*git lfs pull"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "compressed with gzip"),
        (b"nothing known", "^of no kind of picture that is known$"),
    ],
)
def test_what_is_no_picture_is_recognised(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        rgb(tmp_path, content, "picture.jpg")


def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"directory|denied"):
        decode(tmp_path, (8,))
