"""COCO's and VisDial's files as published, and every way in which people end up with something else."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.corpora import coco, releases, visdial
from store.errors import ChatPainterError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def shuffled(draw: st.DrawFn, record: dict) -> dict:
    """The same object with its keys in another order."""
    return {key: record[key] for key in draw(st.permutations(list(record)))}


@st.composite
def visdial_files(draw: st.DrawFn) -> tuple[str, list[tuple[int, str, list[tuple[str, str]]]]]:
    """A VisDial file as text, and the dialogues that it holds."""
    questions = draw(st.lists(texts, min_size=1, max_size=6))
    answers = draw(st.lists(texts, min_size=1, max_size=6))
    options = draw(st.booleans())
    entries, expected = [], []
    for image_id in draw(st.lists(st.integers(0, 2**40), unique=True, max_size=4)):
        turns, said = [], []
        rounds = draw(st.integers(1, 10))
        for number in range(rounds):
            question = draw(st.integers(0, len(questions) - 1))
            answer = draw(st.integers(0, len(answers) - 1))
            turn: dict[str, Any] = {"question": question, "answer": answer}
            if options:
                turn |= {"answer_options": draw(st.lists(st.integers(0, 99), max_size=3)), "gt_index": 0}
            if number == rounds - 1 and draw(st.booleans()):
                del turn["answer"]
                turn.pop("gt_index", None)
            said.append((fold(questions[question]), fold(answers[answer]) if "answer" in turn else ""))
            turns.append(shuffled(draw, turn))
        caption = draw(texts)
        entries.append(shuffled(draw, {"image_id": image_id, "caption": caption, "dialog": turns}))
        expected.append((image_id, fold(caption), said))
    data = shuffled(draw, {"questions": questions, "answers": answers, "dialogs": entries})
    content = shuffled(draw, {"version": "1.0", "split": "val2018", "data": data})
    return json.dumps(content, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))), expected


def fold(text: str) -> str:
    """Whitespace as the documentation promises it, written another way than the code's."""
    words, word = [], ""
    for character in text + " ":
        if character.isspace():
            words += [word] if word else []
            word = ""
        else:
            word += character
    return " ".join(words)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(visdial_files())
def test_any_visdial_file_is_read_as_it_was_written(tmp_path: Path, file: tuple) -> None:
    path = tmp_path / "visdial.json"
    path.write_text(file[0], encoding="utf-8")
    read = visdial.read(path).dialogues
    assert [(d.image_id, d.caption, d.rounds) for d in read.values()] == file[1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(visdial_files(), st.data())
def test_a_visdial_file_cut_anywhere_says_so(tmp_path: Path, file: tuple, data: st.DataObject) -> None:
    whole = file[0].encode()
    path = tmp_path / "visdial_1.0_val.json"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ChatPainterError, match=r"visdial_1\.0_val\.json: .*(empty|half downloaded).*visualdialog\.org"):
        visdial.read(path)


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def one_dialogue(**changes: object) -> dict:
    entry = {"image_id": 5, "caption": "c", "dialog": [{"question": 0, "answer": 0}, {"question": 1, "answer": 0}]}
    data = {"questions": ["q0", "q1"], "answers": ["a0"], "dialogs": [entry | changes]}
    return {"version": "1.0", "split": "val", "data": data}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one_dialogue(dialog=[{"question": 2, "answer": 0}]), "round 1: question 2 is outside its pool of 2"),
        (one_dialogue(dialog=[{"question": -1, "answer": 0}]), "question -1 is outside its pool of 2"),
        (
            one_dialogue(dialog=[{"question": 0, "answer": 0}, {"question": 0, "answer": 1}]),
            r"dialogs\[0\] \(image 5\), round 2: answer 1 is outside its pool of 1",
        ),
        (one_dialogue(dialog=[{"question": 0}, {"question": 1, "answer": 0}]), "round 1: 'answer' is missing"),
        (one_dialogue(dialog=[{"answer": 0}]), "round 1: 'question' is missing; found 'answer'"),
        (one_dialogue(dialog=[{"question": True, "answer": 0}]), "'question' should be a whole number"),
        (one_dialogue(dialog=[{"question": 1.0, "answer": 0}]), "'question' should be a whole number"),
        (one_dialogue(dialog={"question": 1}), "'dialog' should be a list, found an object"),
        (one_dialogue(dialog=[[1, 2]]), "round 1: expected an object"),
        (one_dialogue(image_id="5"), r"dialogs\[0\]: 'image_id' should be a whole number, found a text"),
        (one_dialogue(caption=None), "'caption' should be a text"),
        ({"dialogs": []}, "'data' is missing; found 'dialogs'"),
        ({"data": {"questions": [], "answers": []}}, "'dialogs' is missing"),
        ({"data": {"questions": ["a", 3], "answers": [], "dialogs": []}}, r"questions\[1\] should be a text, found 3"),
        ({"data": []}, "'data' should be an object, found a list"),
        ([1, 2], "expected a JSON object, found a list"),
        ("<html>Not found</html>", "not JSON, but an HTML page"),
        ('{"data": }', "not valid JSON"),
    ],
)
def test_what_is_not_visdial_is_named(tmp_path: Path, content: object, message: str) -> None:
    path = write(tmp_path / "visdial_1.0_val.json", content)
    with pytest.raises(ChatPainterError, match=rf"(?s)visdial_1\.0_val\.json.*{message}") as caught:
        visdial.read(path)
    assert "\n" not in caught.value.message


def test_a_second_dialogue_of_an_image_is_refused(tmp_path: Path) -> None:
    content = one_dialogue()
    content["data"]["dialogs"] *= 2
    with pytest.raises(ChatPainterError, match=r"dialogs\[1\]: image 5 has a second dialogue"):
        visdial.read(write(tmp_path / "v.json", content))


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_bytes(json.dumps(one_dialogue()).encode().replace(b"a0", b"\xff0"))
    with pytest.raises(ChatPainterError, match=r"v\.json: not UTF-8 text \(byte \d+, in .*ISO-8859-1"):
        visdial.read(path)


def test_options_are_skipped_without_being_parsed_and_talk_of_them_is_kept(tmp_path: Path) -> None:
    content = one_dialogue()
    trap = 'is it "answer_options": [1, 2] here'
    content["data"]["questions"][0] = trap
    options = list(range(1000, 1100))
    content["data"]["dialogs"] = [
        {"image_id": n, "caption": "c", "dialog": [{"question": 0, "answer_options": options, "answer": 0}] * 10}
        for n in range(300)
    ]
    path = write(tmp_path / "v.json", content)
    tracemalloc.start()
    read = visdial.read(path).dialogues
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read[7].rounds == [(trap, "a0")] * 10
    # 300,000 options would take 10 MB as Python objects.
    assert peak < 5e6 < path.stat().st_size * 5


def test_real_visdial(shared_data: Path) -> None:
    first = visdial.read(shared_data / "visdial" / "visdial_1.0_val_first50.json").dialogues
    assert len(first) == 50
    assert {len(dialogue.rounds) for dialogue in first.values()} == {10}
    texts = json.loads((shared_data / "visdial" / "visdial_1.0_val_text_2064.json").read_text())
    said = {int(entry["img"][-16:-4]): entry["dialog"] for entry in texts}
    for image_id, dialogue in first.items():
        assert [dialogue.caption, *(f"{q}? {a}" for q, a in dialogue.rounds)] == said[image_id]


# COCO -------------------------------------------------------------------------------------------------------------


def coco_file(**changes: object) -> dict:
    return {
        "info": {},
        "images": [
            {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480},
            {"id": 0, "file_name": "COCO_val2014_000000000000.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 0, "caption": "  A dog\nand  a\tcat. \n"},
            {"id": 2, "image_id": 9, "caption": "A bird"},
            {"id": 3, "image_id": 0, "caption": "Two animals"},
        ],
    } | changes


def test_captions_go_to_their_images_with_whitespace_folded(tmp_path: Path) -> None:
    images = coco.read(write(tmp_path / "c.json", coco_file()))
    assert list(images) == [9, 0]
    assert images[0].captions == [(1, "A dog and a cat."), (3, "Two animals")]
    assert (images[9].width, images[9].height, images[0].width) == (640, 480, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annotations": [{"id": 4, "image_id": 9, "caption": " \n"}]},
            r"annotations\[0\]: caption 4 of image 9 is empty",
        ),
        ({"annotations": [{"id": 4, "image_id": 9, "caption": ""}]}, "caption 4 of image 9 is empty"),
        ({"annotations": [{"id": 4, "image_id": 7, "caption": "x"}]}, "caption 4 is of image 7, not among `images`"),
        ({"annotations": [{"id": 4, "image_id": 9}]}, "'caption' is missing"),
        ({"annotations": [{"id": 4, "image_id": 9, "caption": 3}]}, "'caption' should be a text"),
        ({"annotations": [{"id": 4, "image_id": 9, "caption": "x"}] * 2}, "caption id 4 appears twice"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, "image id 1 appears twice"),
        ({"images": [{"id": 1, "file_name": "../../etc/passwd"}]}, "leads out of its folder"),
        ({"images": [{"id": 1, "file_name": "/etc/passwd"}]}, "is absolute"),
        ({"images": [{"id": 1, "file_name": ""}]}, "is empty"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "width": "640"}]}, "'width' should be a whole number"),
        ({"images": None}, "'images' should be a list"),
    ],
)
def test_what_is_not_coco_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ChatPainterError, match=rf"captions_val2014\.json.*{message}") as caught:
        coco.read(write(tmp_path / "captions_val2014.json", coco_file(**changes)))
    assert "\n" not in caught.value.message


def test_an_instances_file_is_not_taken_for_captions(tmp_path: Path) -> None:
    boxes = [{"id": 1, "image_id": 9, "bbox": [0, 0, 1, 1], "category_id": 1}]
    with pytest.raises(ChatPainterError, match=r"annotations\[0\]: 'caption' is missing; found .*'bbox'"):
        coco.read(write(tmp_path / "instances.json", coco_file(annotations=boxes)))


def test_real_coco(shared_data: Path) -> None:
    images = coco.read(shared_data / "coco" / "captions_val2017.json")
    counts = [len(image.captions) for image in images.values()]
    assert (len(counts), sum(counts)) == (5000, 25014)
    assert [counts.count(n) for n in (5, 6, 7)] == [4987, 12, 1]
    assert all(text == text.strip() and "\n" not in text for image in images.values() for _, text in image.captions)


def test_half_of_a_real_file_is_refused(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "coco" / "captions_val2017.json").read_bytes()
    path = tmp_path / "captions_val2017.json"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ChatPainterError, match="half downloaded"):
        coco.read(path)


# Which file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "split", "version", "expected"),
    [
        (["visdial_1.0_val.json"], "val", "1.0", ("visdial_1.0_val.json", True)),
        (["visdial_0.9_mini.json"], "mini", None, ("visdial_0.9_mini.json", True)),
        # The published names: v0.9's train and val are COCO's train2014 and val2014.
        (["visdial_0.9_train.json"], "train2014", "0.9", ("visdial_0.9_train.json", True)),
        (["visdial_0.9_val.json"], "val2014", None, ("visdial_0.9_val.json", True)),
        # v1.0's train holds the pictures of both.
        (["visdial_1.0_train.json"], "train2014", "1.0", ("visdial_1.0_train.json", False)),
        (["visdial_1.0_train.json", "visdial_1.0_val.json"], "val2014", "1.0", ("visdial_1.0_train.json", False)),
        (["visdial_1.0_train.json"], "train2017", "1.0", ("visdial_1.0_train.json", False)),
        (
            ["visdial_1.0_train2014.json", "visdial_1.0_train.json"],
            "train2014",
            "1.0",
            ("visdial_1.0_train2014.json", True),
        ),
    ],
)
def test_which_dialogues_belong_to_a_split(
    tmp_path: Path, there: list, split: str, version: str, expected: tuple
) -> None:
    for name in there:
        write(tmp_path / "visdial" / name, "{}")
    release = releases.find(tmp_path, split, version)
    alone = not releases.covers_others(release, visdial.VisDial(None, None, {}), split)
    assert (release.path.name, alone) == expected


def test_no_dialogues_or_too_many_to_choose_from(tmp_path: Path) -> None:
    write(tmp_path / "visdial" / "visdial_0.9_val.json", "{}")
    with pytest.raises(ChatPainterError, match=r"visdial_1\.0_val\.json: no such file .* visdial_0\.9_val\.json"):
        releases.find(tmp_path, "val", "1.0")
    write(tmp_path / "visdial" / "visdial_1.0_val.json", "{}")
    with pytest.raises(ChatPainterError, match="say which with --visdial-version"):
        releases.find(tmp_path, "val", None)
