"""Birds and flowers from their official archives: StackGAN's squares by hand, its splits, and files that lie."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.corpora import corpus, cub, oxford
from pipeline.prepare_cli import main
from store import Store
from store.errors import ChatPainterError
from tests.support.classed import BIRDS, SIZE, picture, write_cub, write_oxford, write_pickles
from tests.support.mutate import damaged_bytes
from tests.support.outcomes import right_or_refused
from tests.support.pickles import Hostile


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    write_cub(tmp_path / "birds")
    return tmp_path / "birds"


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    write_oxford(tmp_path / "flowers")
    return tmp_path / "flowers"


def annotations(raw: Path, kind: str, split: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((raw / "annotations" / f"{kind}_{split}.json").read_text())
    return values


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        # The middle is (160, 140), the longer side 200: reach 150; above and to the left lies nothing more.
        ((60.0, 90.0, 200.0, 100.0), (500, 400), (10, 0, 310, 290)),
        # Fractions go first: (60, 27, 325, 304) → middle (222, 179), reach 243; cut off on three sides.
        ((60.9, 27.9, 325.4, 304.2), (500, 335), (0, 0, 465, 335)),
        # An odd side is halved and rounded down: middle (7, 12), reach int(7.5 * 0.75 → int(11 * 0.75) = 8).
        ((2.0, 10.0, 11.0, 5.0), (100, 100), (0, 4, 15, 20)),
        # The whole of a small picture, and no pixel outside it.
        ((0.0, 0.0, 60.0, 40.0), (60, 40), (0, 0, 60, 40)),
        ((1.0, 1.0, 1.0, 1.0), (60, 40), (1, 1, 1, 1)),  # of one pixel nothing is left: int(0.75) is 0
    ],
)
def test_the_square_around_a_bird_is_stackgan_s(
    box: tuple[float, ...], size: tuple[int, int], expected: tuple[int, ...]
) -> None:
    assert cub.square(box, size) == expected


@given(
    st.tuples(*[st.floats(0, 400)] * 2, *[st.floats(1, 400)] * 2),
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
)
def test_a_square_is_that_of_the_published_lines(box: tuple[float, ...], size: tuple[int, int]) -> None:
    """StackGAN's custom_crop on an array (height, width), its lines in numpy."""
    bbox = [int(value) for value in box]
    center_x, center_y = int((2 * bbox[0] + bbox[2]) / 2), int((2 * bbox[1] + bbox[3]) / 2)
    r = int(np.maximum(bbox[2], bbox[3]) * 0.75)
    top, bottom = np.maximum(0, center_y - r), np.minimum(size[1], center_y + r)
    left, right = np.maximum(0, center_x - r), np.minimum(size[0], center_x + r)
    assert cub.square(box, size) == (left, top, right, bottom)


def test_birds_become_coco_with_classes_beside(birds: Path, tmp_path: Path) -> None:
    """CUB's own split; what is kept of each picture is its square, pixel for pixel."""
    raw = tmp_path / "raw"
    assert cub.make(birds, raw) == {"train": 2, "test": 2}
    for split, numbers in (("train", (1, 4)), ("test", (2, 7))):
        captions = annotations(raw, "captions", split)
        assert [image["id"] for image in captions["images"]] == list(numbers)
        said = [(one["image_id"], one["caption"]) for one in captions["annotations"]]
        assert said == [pair for n in numbers for pair in ((n, f"a bird, number {n}"), (n, f"its beak is {n}"))]
        assert len({one["id"] for one in captions["annotations"]}) == len(said)
        for image in captions["images"]:
            box = BIRDS[image["id"]][2]
            left, top, right, bottom = cub.square(box, SIZE)
            kept = Image.open(raw / "images" / split / image["file_name"])
            assert kept.size == (image["width"], image["height"]) == (right - left, bottom - top)
            np.testing.assert_array_equal(kept, np.asarray(picture(image["id"]))[top:bottom, left:right])
        classes = annotations(raw, "classes", split)
        assert {one["image_id"]: one["class_id"] for one in classes["images"]} == {n: BIRDS[n][1] for n in numbers}
        assert {"id": 2, "name": "002.Wren"} in classes["classes"]
    cub.make(birds, raw, crop=False)  # over what it made before
    assert (raw / "images/test/Ibis_0001_14.jpg").read_bytes() == next(birds.rglob("Ibis_0001_14.jpg")).read_bytes()


def test_stackgan_s_split_goes_by_class_and_keeps_its_order(birds: Path, tmp_path: Path) -> None:
    names = {"train": [BIRDS[7][0], BIRDS[4][0]], "test": [BIRDS[2][0], BIRDS[1][0]]}
    write_pickles(birds, names, {"train": [9, 4], "test": [1, 1]})  # by other numbers, but parted alike
    assert cub.make(birds, tmp_path / "raw") == {"train": 2, "test": 2}
    assert [image["id"] for image in annotations(tmp_path / "raw", "captions", "train")["images"]] == [7, 4]
    assert [image["id"] for image in annotations(tmp_path / "raw", "captions", "test")["images"]] == [2, 1]
    for split, classes, words in (
        ("test", [1, 2], "parts the pictures otherwise"),
        ("train", [9, 9], "parts the pictures otherwise"),
        ("test", [1], "classes of 1 pictures, but filenames.pickle beside it names 2"),
    ):
        write_pickles(birds, names, {"train": [9, 4], "test": [1, 1]} | {split: classes})
        with pytest.raises(ChatPainterError, match=words):
            cub.make(birds, tmp_path / "raw2")
    for wrong, words in (([BIRDS[7][0], "009.Owl/Owl"], "names '009.Owl/Owl'"), ([BIRDS[2][0]], "2 times")):
        write_pickles(birds, names | {"train": wrong}, {"train": [1] * len(wrong), "test": [1, 1]})
        (birds / "train/class_info.pickle").unlink()
        with pytest.raises(ChatPainterError, match=words):
            cub.make(birds, tmp_path / "raw2")
    hostile = Hostile(tmp_path / "ran")
    (birds / "train/filenames.pickle").write_bytes(hostile.pickled())
    with pytest.raises(ChatPainterError, match="was not read"):
        cub.make(birds, tmp_path / "raw2")
    assert not hostile.ran
    assert not (tmp_path / "raw2").exists()


def test_flowers_become_coco_with_classes_beside(flowers: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    assert oxford.make(flowers, raw) == {"train": 2, "val": 2, "test": 1}
    assert [image["id"] for image in annotations(raw, "captions", "train")["images"]] == [1, 4]
    assert annotations(raw, "classes", "val")["images"] == [
        {"image_id": 3, "class_id": 3},
        {"image_id": 5, "class_id": 9},
    ]
    for path in raw.glob("images/*/*"):
        assert path.read_bytes() == (flowers / "jpg" / path.name).read_bytes()
    write_pickles(
        flowers,
        {"train": ["jpg/image_00003", "image_00004.jpg"], "test": ["image_00005", "jpg/image_00001.jpg"]},
        {"train": [3, 3], "test": [0, 1]},
    )
    assert oxford.make(flowers, raw) == {"train": 2, "test": 2}
    assert [image["id"] for image in annotations(raw, "captions", "test")["images"]] == [5, 1]
    assert not (raw / "annotations/captions_val.json").exists()


def test_the_road_goes_on_as_for_coco(birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corpus, pictures and classes, by the commands of the profile."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[2] / "profiles" / "cub.yaml", "params.yaml")

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "2 train, 2 test pictures" in call("cub", "--source", str(birds))
    call("corpus")
    assert "classes of 2 images: 2" in call("images", "--size", "8", "--workers", "1")
    rows = list(corpus.rows(corpus.read("data/corpus/train.parquet")))
    assert [row.image_id for row in rows] == [1, 4]
    assert [text for _, text in rows[1].captions] == ["a bird, number 4", "its beak is 4"]
    assert rows[0].rounds == []
    store = Store("data/images/train/classes")
    assert store.take(np.arange(2)).tolist() == [[1], [2]]
    assert store.column("image_id").tolist() == [1, 4]
    assert store.manifest.made_from["classes"] == {"1": "001.Auk", "2": "002.Wren", "3": "003.Ibis"}
    (tmp_path / "data/raw/cub/annotations/classes_train.json").write_text('{"classes": [], "images": []}')
    result = CliRunner().invoke(main, ["images", "--size", "8", "--workers", "1", "--split", "train"])
    assert result.exit_code == 1
    assert "no class of image 1" in result.output
    (tmp_path / "data/raw/cub/annotations/classes_train.json").unlink()
    call("images", "--size", "8", "--workers", "1", "--split", "train")
    assert not Path("data/images/train/classes").exists()


CUB = "CUB_200_2011"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (f"{CUB}/images.txt", None, "images.txt: cannot be read"),
        (f"{CUB}/images.txt", "", "holds no line"),
        (f"{CUB}/images.txt", "1 a.jpg\n1 b.jpg\n", "line 2: image 1 a second time"),
        (f"{CUB}/images.txt", "1 001.Auk/Auk_0001_11.jpg x\n", "line 1: expected a number and a value"),
        (f"{CUB}/images.txt", "1 ../../etc/passwd.jpg\n", "leads out of its folder"),
        (f"{CUB}/images.txt", "1 /etc/passwd.jpg\n", "is absolute"),
        (f"{CUB}/images.txt", "1 001.Auk/None.jpg\n", "None.jpg: cannot be read|None.txt: cannot be read"),
        (f"{CUB}/bounding_boxes.txt", "1 1 2 3\n", "expected a number and 4 values"),
        (f"{CUB}/bounding_boxes.txt", "1 1 2 3 4\n", "no box of image 2"),
        (f"{CUB}/bounding_boxes.txt", "1 nan 2 3 4\n", "image 1: nan 2 3 4.* is no box|'nan 2 3 4' is no box"),
        (f"{CUB}/bounding_boxes.txt", "1 1e99 2 3 4\n", "is no box"),
        (f"{CUB}/bounding_boxes.txt", "1 300 200 3 4\n2 1 1 9 9\n4 1 1 9 9\n7 1 1 9 9\n", "nothing of it lies"),
        (f"{CUB}/image_class_labels.txt", "1 1\n", "nothing of image 2"),
        (f"{CUB}/image_class_labels.txt", "1 x\n2 1\n4 2\n7 3\n", "'x' of image 1"),
        (f"{CUB}/train_test_split.txt", "1 2\n2 1\n4 0\n7 0\n", "'2' of image 1"),
        (f"{CUB}/train_test_split.txt", "1 1\n2 1\n4 1\n7 1\n", "split 'test' would hold no picture"),
        (f"{CUB}/images/001.Auk/Auk_0001_11.jpg", "hello", "Auk_0001_11.jpg: cannot be read"),
        ("text_c10/001.Auk/Auk_0001_11.txt", None, "Auk_0001_11.txt: cannot be read"),
        ("text_c10/001.Auk/Auk_0001_11.txt", "\n \n", "holds no caption"),
        ("text_c10/001.Auk/Auk_0001_11.txt", b"\xff\xfe", "not text in UTF-8"),
        ("text_c10/001.Auk/Auk_0001_11.txt", "x" * 1_100_000, "larger than captions"),
    ],
)  # fmt: skip
def test_a_missing_or_wrong_file_of_birds_gets_one_line(
    birds: Path, tmp_path: Path, file: str, content: str | bytes | None, words: str
) -> None:
    path = birds / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ChatPainterError, match=words) as refused:
        cub.make(birds, tmp_path / "raw")
    assert "\n" not in refused.value.message
    assert not (tmp_path / "raw").exists()


def test_captions_that_lie_nowhere_are_asked_for(birds: Path, flowers: Path, tmp_path: Path) -> None:
    shutil.rmtree(birds / "text_c10")
    shutil.rmtree(flowers / "text_c10")
    for make, source in ((cub.make, birds), (oxford.make, flowers)):
        with pytest.raises(ChatPainterError, match="text_c10: no such folder; unpack Reed's captions"):
            make(source, tmp_path / "raw")


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("imagelabels.mat", None, "cannot be read"),
        ("imagelabels.mat", b"hello", "not a MATLAB file"),
        ("imagelabels.mat", b"", "not a MATLAB file"),
        ("imagelabels.mat", bytes(1_100_000), "larger than such a file"),
        ("imagelabels.mat", {"other": [[1]]}, "no row of numbers named 'labels'"),
        ("imagelabels.mat", {"labels": "x"}, "no row of numbers named 'labels'"),
        ("imagelabels.mat", {"labels": [[1.5, 2]]}, "not a row of whole numbers"),
        ("imagelabels.mat", {"labels": [[0, 1]]}, "not a row of whole numbers"),
        ("imagelabels.mat", {"labels": [[1, 2], [3, 4]]}, "not a row of whole numbers"),
        ("imagelabels.mat", {"labels": [[float("nan")]]}, "not a row of whole numbers"),
        ("imagelabels.mat", {"labels": [[1] * 9]}, "no image_00006.txt"),
        ("setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[9]]}, "tstid has picture 9"),
        ("setid.mat", {"trnid": [[1]], "valid": [[1]], "tstid": [[2]]}, "stands in two sets"),
        ("setid.mat", {"trnid": [[1]]}, "no row of numbers named 'valid'"),
        ("jpg/image_00001.jpg", b"", "image_00001.jpg: cannot be read"),
    ],
)
def test_a_missing_or_wrong_file_of_flowers_gets_one_line(
    flowers: Path, tmp_path: Path, file: str, values: Any, words: str
) -> None:
    from scipy.io import savemat

    if values is None:
        (flowers / file).unlink()
    elif isinstance(values, bytes):
        (flowers / file).write_bytes(values)
    else:
        savemat(flowers / file, values)
    with pytest.raises(ChatPainterError, match=words) as refused:
        oxford.make(flowers, tmp_path / "raw")
    assert "\n" not in refused.value.message
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("file", ["bounding_boxes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt"])
def test_a_damaged_list_is_read_or_refused_in_one_line(birds: Path, tmp_path: Path, file: str) -> None:
    assert_some_made_and_some_refused(cub.make, birds, tmp_path / "raw", birds / CUB / file, count=24)


@pytest.mark.parametrize("file", ["imagelabels.mat", "setid.mat"])
def test_a_damaged_matlab_file_is_read_or_refused_in_one_line(flowers: Path, tmp_path: Path, file: str) -> None:
    assert_some_made_and_some_refused(oxford.make, flowers, tmp_path / "raw", flowers / file, count=40)


def assert_some_made_and_some_refused(make: Any, source: Path, raw: Path, path: Path, count: int) -> None:
    """Damage `path` in `count` ways: what is made of it has pictures, what is refused names the place."""
    outcomes = {True: 0, False: 0}
    for name, data in damaged_bytes(path.read_bytes(), count=count):
        path.write_bytes(data)
        made, message = right_or_refused(lambda: make(source, raw))
        outcomes[made is None] += 1
        assert made is None or sum(made.values()) > 0, name
        assert not message or str(source) in message or str(raw) in message, name
    assert min(outcomes.values()) > 0, outcomes


@pytest.mark.parametrize("name", ["cub", "oxford"])
def test_the_profiles_hold_stackgan_s_numbers(name: str) -> None:
    from store import params
    from trainer import systems

    path = Path(__file__).parents[2] / "profiles" / f"{name}.yaml"
    values = params.load(path)
    for system, epochs, batch, halve in (
        ("stage1", 600, 64, 50),
        ("stage2", 600, 64, 100),
        ("stackgan-v2", 600, 24, None),
    ):
        training: Any = systems.find(system).configure(values, str(path)).training
        assert (training.epochs, training.batch, training.halve_every_epochs) == (epochs, batch, halve)
        assert (training.g_lr, training.d_lr, training.kl_weight) == (2e-4, 2e-4, 2.0)
    model: Any = systems.find("stage2").configure(values, str(path))
    assert (model.model.gf, model.model.df, model.model.residual_blocks, model.model.dialogue) == (128, 64, 4, "none")
