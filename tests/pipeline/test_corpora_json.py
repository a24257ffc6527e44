"""What people save in place of an annotations file, told by what it is."""

import bz2
import gzip
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.corpora import coco, json_files, visdial
from store.errors import ChatPainterError

GOOD = {
    "images": [{"id": 1, "file_name": "1.jpg"}],
    "annotations": [{"id": 1, "image_id": 1, "caption": "ein Hündchen"}],
}


def refusal(tmp_path: Path, data: bytes, name: str = "captions_mine.json") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ChatPainterError) as caught:
        coco.read(path)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(str(path))
    return caught.value.message


def packed(tmp_path: Path, kind: str) -> bytes:
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(GOOD))
    path = tmp_path / "packed"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain)
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(plain)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html>\n<html><title>404</title></html>", "not JSON, but an HTML page"),
        (b"\xef\xbb\xbf \n<HTML>", "not JSON, but an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not JSON, but XML or HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "Git LFS, .*: run git lfs pull$"),
        (b"/annex/objects/MD5-s3--1\n", "git-annex, .*: run git annex get$"),
        (gzip.compress(b"{}", mtime=0), "compressed with gzip: unpack it with gunzip$"),
        (bz2.compress(b"{}"), "compressed with bzip2: unpack it with bunzip2$"),
        (lzma.compress(b"{}"), "compressed with xz: unpack it with unxz$"),
        (b"404: Not Found", 'begins with "404: Not Found"'),
        (b"Quota exceeded.", "begins with"),
        (b" \n\t", "empty but for white space"),
        (json.dumps(GOOD, ensure_ascii=False).encode("latin-1"), r"not UTF-8 text \(byte \d+, in .*ISO-8859-1\?\)"),
        (json.dumps(GOOD).encode() + bytes(4096), "ends in 4,096 zero bytes, half downloaded"),
        (bytes(4096), "ends in 4,096 zero bytes"),
        (b'{"id": 1}\n{"id": 2}\n', "more than one JSON value .*line 2; JSON Lines"),
        (b'{"images": [], "images": []}', r'an object says \\?"images\\?" twice'),
        (b'{"images": ' + b"[" * 100_000, "half downloaded|too deep to be meant"),
        (b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deep to be meant"),
        (b'{"images": ' + b"1" * 5000 + b"}", "not valid JSON .*4300 digits"),
        (b'{"images": [1,]}', "not valid JSON .*line 1 column"),
        (b"[1, 2]", r"expected a JSON object, found a list \(\[1, 2\]\)"),
        (b"PAR1\x15\x04", "not JSON, but a Parquet file"),
    ],
)
def test_what_lies_there_instead_is_recognised(tmp_path: Path, data: bytes, message: str) -> None:
    import re

    assert re.search(message, refusal(tmp_path, data))


@pytest.mark.parametrize(
    ("kind", "message"), [("zip", "a ZIP archive: unpack it"), ("tar", "a tar archive: unpack it")]
)
def test_archives_are_recognised(tmp_path: Path, kind: str, message: str) -> None:
    assert message in refusal(tmp_path, packed(tmp_path, kind))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_of_json_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "c.json").write_bytes(json.dumps(GOOD, ensure_ascii=False).encode(encoding))
    assert coco.read(tmp_path / "c.json")[1].captions == [(1, "ein Hündchen")]


@pytest.mark.parametrize("split", coco.OFFICIAL)
def test_official_sets_are_taken_again_where_they_were_published(tmp_path: Path, split: str) -> None:
    assert refusal(tmp_path, b"", f"captions_{split}.json").endswith(
        "take the file again from cocodataset.org (annotations)"
    )


@pytest.mark.parametrize("split", ["mine", "train", "mini2014", "minival2014", "vizwiz_val"])
def test_converted_sets_are_made_again(tmp_path: Path, split: str) -> None:
    said = refusal(tmp_path, b"", f"captions_{split}.json")
    assert "cocodataset" not in said
    assert said.endswith("write it again with whatever made it, or name another folder with --raw")
    path = tmp_path / f"visdial_1.0_{split}x.json"
    path.write_bytes(b"")
    with pytest.raises(ChatPainterError, match="write it again with whatever made it"):
        visdial.read(path)


# Values that no column can hold --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**63) - 1, 10**4000, 0xFE0A5F1C3B2D4E6F])
@pytest.mark.parametrize("place", ["image", "caption"])
def test_numbers_beyond_64_bits_are_named(tmp_path: Path, value: int, place: str) -> None:
    content = json.loads(json.dumps(GOOD))
    content["images" if place == "image" else "annotations"][0]["id"] = value
    said = refusal(tmp_path, json.dumps(content).encode())
    where = "images[0]" if place == "image" else "annotations[0]"
    assert f"{where}: 'id' should be a whole number of 64 bits, found {str(value)[:30]}" in said


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 0])
def test_numbers_of_64_bits_are_kept(tmp_path: Path, value: int) -> None:
    images = [{"id": value, "file_name": "1.jpg"}]
    captions = [{"id": value, "image_id": value, "caption": "c"}]
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "annotations": captions}))
    assert coco.read(tmp_path / "c.json")[value].captions == [(value, "c")]


@pytest.mark.parametrize("side", ["width", "height"])
@pytest.mark.parametrize("value", [2**31, -1, 0, -(2**40), 640.0, True])
def test_sides_that_no_picture_has_are_named(tmp_path: Path, side: str, value: object) -> None:
    content = json.loads(json.dumps(GOOD))
    content["images"][0][side] = value
    assert f"images[0]: '{side}' should be a whole number" in refusal(tmp_path, json.dumps(content).encode())


@pytest.mark.parametrize("text", ["a \ud800", "\udfff", "\ud83d x", "\udc00\ud800"])
def test_half_characters_are_named(tmp_path: Path, text: str) -> None:
    content = json.loads(json.dumps(GOOD))
    content["annotations"][0]["caption"] = text
    said = refusal(tmp_path, json.dumps(content).encode())
    assert "annotations[0]: 'caption' has half a character (\\ud" in said
    said.encode()
    for field, value in (("questions", [text]), ("answers", ["a", text])):
        data = {"questions": ["q"], "answers": ["a"], "dialogs": []} | {field: value}
        (tmp_path / "v.json").write_text(json.dumps({"data": data}))
        with pytest.raises(ChatPainterError, match=rf"data\.{field}\[{len(value) - 1}\] has half a character"):
            visdial.read(tmp_path / "v.json")


def test_a_whole_character_of_two_halves_is_one(tmp_path: Path) -> None:
    content = json.loads(json.dumps(GOOD))
    content["annotations"][0]["caption"] = "\U0001f436"
    (tmp_path / "c.json").write_text(json.dumps(content))  # as \ud83d\udc36
    assert coco.read(tmp_path / "c.json")[1].captions == [(1, "\U0001f436")]


def test_messages_are_short_whatever_was_found() -> None:
    deep: object = 0
    for _ in range(5000):
        deep = [deep]
    for value in (deep, "x" * 10**6, {"a": ["\ud800"] * 1000}, 10**4000, "a\nb\x1b[2J"):
        with pytest.raises(ChatPainterError) as caught:
            json_files.field({"id": value}, "id", list if not isinstance(value, list) else int, "here")
        assert len(caught.value.message) < 120
        assert caught.value.message.isprintable()
