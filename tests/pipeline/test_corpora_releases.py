"""VisDial's releases: which file is a split's, and what a file says of itself."""

import json
from pathlib import Path

import pytest

from pipeline.corpora import corpus, releases, visdial
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import in_lines, prepare
from pipeline.pictures import files
from store.errors import ChatPainterError

Claim = str | float | None


def put(raw: Path, name: str, version: Claim = None, split: str | None = None, ids: tuple[int, ...] = (1,)) -> None:
    dialogs = [{"image_id": i, "caption": "c", "dialog": [{"question": 0, "answer": 0}]} for i in ids]
    content = {"data": {"questions": ["q"], "answers": ["a"], "dialogs": dialogs}}
    content |= {} if version is None else {"version": version}  # type: ignore[dict-item]
    content |= {} if split is None else {"split": split}  # type: ignore[dict-item]
    (raw / "visdial").mkdir(parents=True, exist_ok=True)
    (raw / "visdial" / name).write_text(json.dumps(content))


def checked(raw: Path, split: str, version: str | None = None) -> str | None:
    release = releases.find(raw, split, version)
    return releases.check(release, visdial.read(release.path), split)


@pytest.mark.parametrize(
    ("there", "split"),
    [
        (["visdial_0.9_train.json", "visdial_1.0_train.json"], "train2014"),
        (["visdial_0.9_val.json", "visdial_1.0_train.json"], "val2014"),
        (["visdial_0.9_train2014.json", "visdial_1.0_train.json"], "train2014"),
        (["visdial_0.9_train2014.json", "visdial_1.0_train2014.json"], "train2014"),
        (["visdial_0.9_mini.json", "visdial_1.0_mini.json"], "mini"),
    ],
)
def test_of_two_releases_side_by_side_one_must_be_asked_for(tmp_path: Path, there: list[str], split: str) -> None:
    for name in there:
        put(tmp_path, name)
    with pytest.raises(ChatPainterError, match=f"{there[0]}, {there[1]}: say which with --visdial-version"):
        releases.find(tmp_path, split, None)
    assert [releases.find(tmp_path, split, version).path.name for version in ("0.9", "1.0")] == there


@pytest.mark.parametrize(
    ("name", "version", "claim", "split"),
    [
        ("visdial_1.0_val.json", "1.0", "val2018", "val"),  # as published
        ("visdial_1.0_val.json", "1.0", "val", "val2018"),
        ("visdial_1.0_test.json", "1.0", "test", "test2018"),
        ("visdial_0.9_train.json", "0.9", "train2014", "train2014"),
        ("visdial_0.9_train.json", "0.9", "train", "train2014"),
        ("visdial_0.9_train.json", 0.9, "train2014", "train"),
        ("visdial_0.9_val2014.json", "0.9", "val", "val2014"),
        ("visdial_1.0_train.json", "1.0", "train", "val2014"),
        ("visdial_1.0_train2014.json", "1.0", "train", "train2014"),
        ("visdial_1.0_train2017.json", "1.0", "train", "train2017"),
        ("visdial_1.0_mine.json", "1.0", "mine", "mine"),
        ("visdial_1.0_val.json", None, None, "val"),
    ],
)
def test_a_file_that_is_what_its_name_says(tmp_path: Path, name: str, version: Claim, claim: str, split: str) -> None:
    put(tmp_path, name, version, claim)
    assert checked(tmp_path, split) is None


@pytest.mark.parametrize(
    ("name", "version", "claim", "split", "message"),
    [
        # VisDial 1.0's own val, of pictures that no COCO split has, numbered anew.
        ("visdial_1.0_val2014.json", "1.0", "val", "val2014", r"its split is 'val' \(val2018\), .* split 'val2014'"),
        ("visdial_1.0_val2014.json", "1.0", "val2018", "val2014", "its split is 'val2018'"),
        ("visdial_1.0_train.json", "1.0", "val2018", "train2014", "its split is 'val2018'"),
        ("visdial_1.0_train.json", "1.0", "test", "train", r"its split is 'test' \(test2018\)"),
        ("visdial_0.9_train.json", "0.9", "val2014", "train2014", "its split is 'val2014'"),
        ("visdial_0.9_val.json", "0.9", "train", "val", r"its split is 'train' \(train2014\)"),
        ("visdial_1.0_val2014.json", "1.0", "mini", "val2014", "its split is 'mini', but"),
        ("visdial_1.0_train.json", "0.9", "train", "train2014", "its version is '0.9', its name says '1.0'"),
        ("visdial_0.9_val.json", 1.0, "val", "val", "its version is '1.0', its name says '0.9'"),
        ("visdial_1.0_mine.json", "1.1", "mine", "mine", "its version is '1.1'"),
    ],
)
def test_a_file_that_is_another_is_refused(
    tmp_path: Path, name: str, version: Claim, claim: str, split: str, message: str
) -> None:
    put(tmp_path, name, version, claim)
    with pytest.raises(ChatPainterError, match=rf"{name}: says that {message}") as caught:
        checked(tmp_path, split)
    assert "\n" not in caught.value.message


def test_a_name_of_ones_own_is_believed_and_the_difference_said(tmp_path: Path) -> None:
    put(tmp_path, "visdial_0.9_minival.json", "0.9", "val2014")
    assert (
        checked(tmp_path, "minival")
        == f"{tmp_path}/visdial/visdial_0.9_minival.json says of itself that its split is 'val2014'"
    )
    # COCO 2017's pictures keep the numbers that they had in 2014.
    put(tmp_path, "visdial_0.9_val2017.json", "0.9", "val2014")
    assert "says of itself" in str(checked(tmp_path, "val2017"))


@pytest.mark.parametrize(("claim", "value"), [("version", 1), ("split", 3), ("split", ["val"]), ("version", {})])
def test_a_claim_of_another_type_is_named(tmp_path: Path, claim: str, value: object) -> None:
    put(tmp_path, "visdial_1.0_val.json", **{claim: value})  # type: ignore[arg-type]
    with pytest.raises(ChatPainterError, match=f"visdial_1.0_val.json: '{claim}' should be a text"):
        checked(tmp_path, "val")


@pytest.mark.parametrize("split", ["a[b]", "[!x]", "a*", "?", "a{b}", "~x"])
def test_names_with_brackets_are_names(tmp_path: Path, split: str) -> None:
    put(tmp_path, f"visdial_1.0_{split}.json", "1.0", split)
    put(tmp_path, "visdial_1.0_ab.json", "1.0", "ab")
    assert releases.find(tmp_path, split, None).path.name == f"visdial_1.0_{split}.json"
    captions = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"id": 1, "image_id": 1, "caption": "c"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / f"captions_{split}.json").write_text(json.dumps(captions))
    path, _ = prepare(tmp_path, split, tmp_path / "out", CorpusSettings(without_image="keep"), None)
    assert path.name == f"{split}.parquet"
    assert corpus.read(path)["image_id"].to_pylist() == [1]


def test_a_train_file_of_1_0_under_another_name_still_covers_several_splits(tmp_path: Path) -> None:
    put(tmp_path, "visdial_1.0_train2014.json", "1.0", "train", ids=(1, 2, 3))
    captions = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"id": 1, "image_id": 1, "caption": "c"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_train2014.json").write_text(json.dumps(captions))
    keep = CorpusSettings("keep", "keep", "keep")
    path, report = prepare(tmp_path, "train2014", tmp_path / "out", keep, "1.0")
    assert corpus.read(path)["image_id"].to_pylist() == [1]
    assert "dialogues of other splits, not read: 2" in list(in_lines(report))


@pytest.mark.parametrize(
    ("version", "claim", "expected"),
    [
        ("0.9", "train2014", files.COCO),
        ("1.0", "train", files.COCO),
        ("1.0", "val", files.VISDIAL_VAL),
        ("1.0", "val2018", files.VISDIAL_VAL),
        ("1.0", "test", files.VISDIAL_TEST),
        ("1.0", "mine", files.COCO),
    ],
)
def test_whose_pictures_dialogues_are_about(version: str, claim: str, expected: tuple[str, ...]) -> None:
    release = releases.Release(Path("x"), version, "mine")
    assert releases.prefixes(release, visdial.VisDial(version, claim, {})) == expected
