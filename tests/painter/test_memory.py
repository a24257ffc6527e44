"""What a picture is painted again from: written into PNG and JSON, read back as strictly as what is typed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from painter import Dialogue
from painter.dialogue import DialogueError, read, to_visdial
from painter.memory import LETTERS, Remembered, recall, recall_png

KEPT = Remembered("a red circle", (("is it large", "yes"), ("wörter", "„ja“ 𝄞")), 41, 0.5, 3, ("why",), "stage2")


def painted(path: Path, kept: Remembered) -> Path:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, pnginfo=kept.to_png())
    return path


def test_png_json_and_saved_conversation_give_it_back(tmp_path: Path) -> None:
    assert recall(KEPT.to_json()) == recall(KEPT.to_file()) == recall_png(painted(tmp_path / "a.png", KEPT)) == KEPT
    assert read(tmp_path / "a.png") == [KEPT.dialogue]
    (tmp_path / "a.json").write_text(KEPT.to_file())
    (said,) = read(tmp_path / "a.json")
    assert (said.caption, said.rounds) == (KEPT.caption, KEPT.rounds), "a saved conversation is a VisDial file too"


def test_dialogues_of_others_are_opened_too() -> None:
    said = Dialogue("a dog", (("is it black", "yes"),))
    for values in (to_visdial([said, Dialogue("a cat")]), {"caption": "a dog", "rounds": [["is it black", "yes"]]}):
        assert recall(json.dumps(values)) == Remembered("a dog", said.rounds)


def test_the_text_lies_in_the_file_uncompressed(tmp_path: Path) -> None:
    """As the page's script reads it: the chunk iTXt, keyword, two zero bytes for "not compressed", no language."""
    content = painted(tmp_path / "a.png", KEPT).read_bytes()

    assert b"iTXtchatpainter\0\0\0\0\0" + KEPT.to_json().encode() in content


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("x" * (LETTERS + 1), "at most 2,000,000 are opened"),
        ("[]", "holds no caption"),
        ("5", "expected an object with a text `caption`"),
        ('{"chatpainter": 5}', "expected an object with a text `caption`"),
        ('{"caption": 5, "seed": 1}', "caption: expected str"),
        ('{"caption": "a", "seed": 1, "more": 1}', "unknown key"),
        ('{"caption": "a", "seed": 1, "rounds": [["q"]]}', "expected 2 values"),
        ('{"data": {"questions": []}}', "answers"),
    ],
)
def test_what_is_none_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(DialogueError, match=words) as caught:
        recall(text)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_pictures_without_words_and_other_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "bare.png")
    (tmp_path / "none.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    bomb = PngImagePlugin.PngInfo()
    bomb.add_itxt("chatpainter", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "bomb.png", pnginfo=bomb)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").rename(tmp_path / "photo.png")
    for name, words in (("bare", "carries no words"), ("none", "cannot be read"), ("bomb", "."), ("photo", "cannot"),
                        ("absent", "cannot be read")):  # fmt: skip
        with pytest.raises(DialogueError, match=words):
            read(tmp_path / f"{name}.png")
