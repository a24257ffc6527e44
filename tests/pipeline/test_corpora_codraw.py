"""CoDraw: who said what to whom, and scenes drawn as the game drew them."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.corpora import codraw, corpus
from pipeline.corpora.codraw_renderer import KINDS, ClipArt, Renderer, parse
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import prepare
from pipeline.prepare_cli import main
from store.errors import ChatPainterError

messages = st.one_of(st.just(""), st.text(st.sampled_from("ab \n?"), max_size=8))


def turn(told: str, replied: str) -> dict:
    return {"msg_t": told, "msg_d": replied, "abs_d": "", "seq_t": "1"}


@given(st.lists(st.tuples(messages, messages), max_size=8))
def test_every_word_is_in_its_place(said: list[tuple[str, str]]) -> None:
    """Teller's messages make caption and questions, in order; the drawer's words between two of them the answer."""
    spoken = [(who, " ".join(words.split())) for pair in said for who, words in zip("td", pair) if words.split()]
    teller = [words for who, words in spoken if who == "t"]
    entry = {"dialog": [turn(*pair) for pair in said]}
    if not teller:
        with pytest.raises(ChatPainterError, match="the teller says nothing"):
            codraw.said(entry, "x")
        return
    caption, rounds = codraw.said(entry, "x")
    assert [caption, *(question for question, _ in rounds)] == teller
    flat = " ".join(words for pair in rounds for words in pair if words)
    starts = [i for i, (who, _) in enumerate(spoken) if who == "t"]
    assert flat == " ".join(words for _, words in spoken[starts[1] :] if words) if len(starts) > 1 else flat == ""


def test_a_dialogue_of_one_message_is_a_caption_without_rounds() -> None:
    assert codraw.said({"dialog": [turn("", "hi"), turn("a boy", "ok"), turn("", "done")]}, "x") == ("a boy", [])


# Scenes -----------------------------------------------------------------------------------------------------------


def test_a_scene_is_parsed_and_what_is_not_in_use_left_out() -> None:
    scene = "3,s_3s.png,0,3,0,253.5,64,0,1,hb0_10s.png,3,10,2,-10000,-10000,0,0,t_4s.png,5,4,7,188,332,2,0,"
    assert parse(scene, "x") == [
        ClipArt("s_3s", "sky", 3, 253.5, 64.0, 0, True),
        ClipArt("t_4s", "toy", 4, 188.0, 332.0, 2, False),
    ]
    assert parse("0", "x") == parse("0,", "x") == []


@pytest.mark.parametrize(
    "scene",
    ["", "x", "1", "2,s_3s.png,0,3,0,253,64,0,1", "1,s_3s.png,0,3,0,253,64,3,1", "1,s_3s.png,0,3,9,253,64,0,1",
     "1,../../x.png,0,3,0,253,64,0,1", "1,s_3s.png,0,3,0,east,64,0,1"],
)  # fmt: skip
def test_what_is_not_a_scene_is_named(scene: str) -> None:
    with pytest.raises(ChatPainterError, match="dialogue 7: not a scene"):
        parse(scene, "dialogue 7")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A CoDraw of three dialogues with sprites of our own."""
    folder = tmp_path / "CoDraw"
    (folder / "Pngs").mkdir(parents=True)
    draw = np.random.default_rng(0)
    Image.new("RGBA", (500, 400), (90, 160, 80, 255)).save(folder / "Pngs" / "background.png")
    for number, name in enumerate(("s_0s", "p_1s", "hb0_2s", "t_3s")):
        shape = (20 + 2 * number, 30, 4)
        pixels = np.concatenate(
            [draw.integers(0, 256, (*shape[:2], 3)), draw.integers(0, 2, (*shape[:2], 1)) * 255], axis=2
        )
        Image.fromarray(pixels.astype(np.uint8), "RGBA").save(folder / "Pngs" / f"{name}.png")
    Image.new("RGB", (10, 10)).save(folder / "Pngs" / "title.png")
    data = {
        f"{split}_{n:05d}": {
            "image_id": n,
            "abs_t": "1,t_3s.png,0,3,7,100,200,0,0",
            "dialog": [turn(f"one of {n}", "ok"), turn("two", "what"), turn("three", "")][: n + 1],
        }
        for n, split in enumerate(("train", "val", "test"))
    }
    (folder / "CoDraw_1_0.json").write_text(json.dumps({"data": data}))
    return folder


def test_pixels_are_those_of_the_painter_from_far_to_near(source: Path) -> None:
    """Composited here pixel by pixel: the sky behind all, far before near, as written within a depth."""
    scene = [
        ClipArt("t_3s", "toy", 3, 250, 100, 0, True),
        ClipArt("p_1s", "large", 1, 240, 100, 0, False),
        ClipArt("s_0s", "sky", 0, 245, 105, 0, False),
        ClipArt("hb0_2s", "boy", 2, 5, 395, 0, False),
    ]
    got = np.asarray(Renderer(source / "Pngs").picture(scene))
    expected = np.full((400, 500, 3), (90, 160, 80), np.uint8)
    for thing in (scene[2], scene[0], scene[1], scene[3]):
        with Image.open(source / "Pngs" / f"{thing.sprite}.png") as image:
            sprite = np.asarray(image)
        sprite = sprite[:, ::-1] if thing.flip else sprite
        top, left = int(thing.y - sprite.shape[0] / 2), int(thing.x - sprite.shape[1] / 2)
        for row in range(sprite.shape[0]):
            for column in range(sprite.shape[1]):
                if sprite[row, column, 3] and 0 <= top + row < 400 and 0 <= left + column < 500:
                    expected[top + row, left + column] = sprite[row, column, :3]
    np.testing.assert_array_equal(got, expected)


def test_far_things_are_smaller_and_behind_but_before_the_sky(source: Path) -> None:
    renderer = Renderer(source / "Pngs")
    ground = np.asarray(renderer.picture([]))
    for z, scale in ((0, 1.0), (1, 0.7), (2, 0.49)):
        changed = (np.asarray(renderer.picture([ClipArt("t_3s", "toy", 3, 250, 200, z, False)])) != ground).any(axis=2)
        ys, xs = np.nonzero(changed)
        assert (ys.max() - ys.min() + 1, xs.max() - xs.min() + 1) == pytest.approx((26 * scale, 30 * scale), abs=1.01)
        assert (ys.mean(), xs.mean()) == pytest.approx((200, 250), abs=1.5)
    Image.new("RGBA", (30, 30), (255, 0, 0, 255)).save(source / "Pngs" / "a_0s.png")
    sun, dog = ClipArt("s_0s", "sky", 0, 250, 200, 0, False), ClipArt("a_0s", "animal", 0, 250, 200, 2, False)
    assert np.asarray(renderer.picture([dog, sun]))[200, 250].tolist() == [255, 0, 0]
    near, far = ClipArt("t_3s", "toy", 3, 250, 200, 0, False), ClipArt("p_1s", "large", 1, 252, 202, 2, False)
    np.testing.assert_array_equal(renderer.picture([near, far]), renderer.picture([far, near]))


def test_a_missing_sprite_is_named(source: Path) -> None:
    with pytest.raises(ChatPainterError, match=r"e_0s\.png: sprite cannot be read"):
        Renderer(source / "Pngs").picture([ClipArt("e_0s", "food", 0, 1, 1, 0, False)])
    (source / "Pngs" / "background.png").unlink()
    with pytest.raises(ChatPainterError, match=r"background\.png"):
        Renderer(source / "Pngs")


# On disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", [True, False])
def test_it_is_read_as_coco_and_visdial_are(source: Path, tmp_path: Path, published: bool) -> None:
    if not published:
        data = json.loads((source / "CoDraw_1_0.json").read_text())["data"]
        (source / "CoDraw_1_0.json").unlink()
        with gzip.open(source / "codraw_dialogs.jsonl.gz", "wt") as file:
            file.writelines(json.dumps({"key": key, **entry}) + "\n" for key, entry in reversed(data.items()))
    assert codraw.make(source, tmp_path / "raw") == {"train": 1, "val": 1, "test": 1}
    keep = CorpusSettings(without_dialogue="keep")
    found = [corpus.read(prepare(tmp_path / "raw", s, tmp_path / "c", keep, "1.0")[0]) for s in codraw.SPLITS]
    assert [table["rounds"].to_pylist() for table in found] == [
        [[]],
        [[{"question": "two", "answer": "what"}]],
        [[{"question": "two", "answer": "what"}, {"question": "three", "answer": ""}]],
    ]
    assert [table["captions"].to_pylist()[0][0]["text"] for table in found] == ["one of 0", "one of 1", "one of 2"]
    truth = json.loads((tmp_path / "raw" / "truth_val.json").read_text())
    assert truth["world"]["sprites"] == ["hb0_2s", "p_1s", "s_0s", "t_3s"]
    assert truth["scenes"][0]["objects"] == [
        {"sprite": "t_3s", "kind": "toy", "index": 3, "x": 100.0, "y": 200.0, "z": 0, "flip": False}
    ]
    picture = Image.open(tmp_path / "raw" / "images" / "val" / found[1]["file_name"].to_pylist()[0])
    assert picture.size == (500, 400)


def test_damaged_and_missing_files_are_named(source: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    whole = (source / "CoDraw_1_0.json").read_text()
    (source / "CoDraw_1_0.json").write_text(whole[:100])
    with pytest.raises(ChatPainterError, match=r"CoDraw_1_0\.json: ends in the middle"):
        codraw.make(source, raw)
    (source / "CoDraw_1_0.json").write_text(whole.replace("train_0", "trian_0"))
    with pytest.raises(ChatPainterError, match="'trian_00000' is of no split"):
        codraw.make(source, raw)
    (source / "CoDraw_1_0.json").write_text(whole.replace('"msg_t": "two"', '"msg_t": 2'))
    with pytest.raises(ChatPainterError, match="dialogue val_00001, turn 2: 'msg_t' should be a text"):
        codraw.make(source, raw)
    (source / "CoDraw_1_0.json").unlink()
    with pytest.raises(ChatPainterError, match=r"no such file \(nor codraw_dialogs\.jsonl\.gz\).*--source"):
        codraw.make(source, raw)
    lines = gzip.compress(b'{"key": "val_00001"}\n' * 1000)
    for bad in (lines[: len(lines) // 2], b"no gzip", gzip.compress(b'{"key": "val')):
        (source / "codraw_dialogs.jsonl.gz").write_bytes(bad)
        with pytest.raises(ChatPainterError, match=r"jsonl\.gz: damaged or half downloaded"):
            codraw.make(source, raw)
    assert not raw.exists()


def test_real_dialogues(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "codraw"
    arguments = ["codraw", "--source", str(folder), "--raw", str(tmp_path / "raw"), "--limit", "15"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "15 train, 15 val, 15 test scenes" in result.output
    path, report = prepare(tmp_path / "raw", "test", tmp_path, CorpusSettings(), "1.0")
    row = corpus.read(path).to_pylist()[1]
    assert row["captions"][0]["text"] == "big sun on right corner , a half is hidden ."
    assert row["rounds"][-1] == {"question": "move tree to the left , it is cut 1 2 . thanks .", "answer": ""}
    assert not any(lack["count"] for lack in report["lacking"].values())
    truth = json.loads((tmp_path / "raw" / "truth_test.json").read_text())
    assert len(truth["world"]["sprites"]) == 126
    assert {thing["sprite"] for scene in truth["scenes"] for thing in scene["objects"]} <= set(
        truth["world"]["sprites"]
    )
    # Sky above, meadow below, wherever nothing lies: the corners of most scenes.
    corners = []
    for file in (tmp_path / "raw" / "images" / "test").iterdir():
        pixels = np.asarray(Image.open(file)).astype(int)
        corners.append([pixels[395, 250, 1] > pixels[395, 250, 2], pixels[150, 250, 2] > 120])
    assert np.mean(corners) > 0.7


def test_all_real_dialogues_can_be_read(shared_data: Path) -> None:
    told, rounds, kinds = 0, [], set()
    for key, entry in codraw._entries(shared_data / "codraw"):
        caption, answered = codraw.said(entry, key)
        told += 1 + len(answered)
        rounds.append(len(answered))
        kinds |= {thing.kind for thing in parse(entry["abs_t"], key)}
        assert caption
    assert (len(rounds), told, min(rounds), max(rounds)) == (9993, 70297, 1, 34)
    assert kinds == set(KINDS)
