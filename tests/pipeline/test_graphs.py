"""COCO's instances and stuff as scene graphs: masks, sg2im's relations and filters, the four stores, hostile files."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ragged
from pipeline.corpora import corpus
from pipeline.graphs import published, stores
from pipeline.graphs.annotations import GraphSettings, read
from pipeline.graphs.masks import mask, run_lengths
from pipeline.graphs.relations import PREDICATES, centres, table, triples
from pipeline.prepare_cli import main
from store.errors import ChatPainterError
from trainer.feed.data import TrainingData
from trainer.feed.inputs import BOXES, MASKS, OBJECTS, TRIPLES

# Relations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["full_masks", "formula_masks"])
def test_relations_are_those_of_sg2im(shared_data: Path, which: str) -> None:
    path = shared_data.parent / "reference/parity/sg2im.json"
    case = json.loads(path.read_text())["functions"][f"relations.{which}"]
    boxes = np.array(case["boxes_in_sixteenths"]) / 16
    masks = np.ones((12, 16, 16), bool)
    if which == "formula_masks":
        masks = (np.sin(0.11 * np.arange(12 * 256) + 32) > 0.5).reshape(12, 16, 16)
        masks[3] = False
    found, wanted = table(boxes, centres(boxes, masks)), np.array(case["table[subject][object]"])
    unsure = np.zeros((12, 12), bool)
    unsure[tuple(np.array(case["on_a_boundary"], int).reshape(-1, 2).T)] = True
    assert (found == wanted)[~unsure].all()
    assert (~unsure).sum() > 110


def by_angle(dx: int, dy: int) -> str:
    """The published conditions, with the angle itself."""
    theta = math.atan2(dy, dx)
    if theta >= 3 * math.pi / 4 or theta <= -3 * math.pi / 4:
        return "left of"
    if -3 * math.pi / 4 <= theta < -math.pi / 4:
        return "above"
    return "right of" if -math.pi / 4 <= theta < math.pi / 4 else "below"


def test_every_direction_of_a_grid_with_the_diagonals_and_equal_centres() -> None:
    grid = np.array(list(itertools.product(range(-3, 4), repeat=2)), float)
    flat = np.concatenate([grid, grid], 1)  # boxes of no area contain nothing
    found = table(flat, grid)
    for a, b in itertools.permutations(range(len(grid)), 2):
        assert PREDICATES[found[a, b]] == by_angle(*(grid[a] - grid[b]).astype(int)), (grid[a], grid[b])
    same = table(np.zeros((2, 4)), np.zeros((2, 2)))
    assert PREDICATES[same[0, 1]] == PREDICATES[same[1, 0]] == "right of"


def test_a_box_that_shares_a_side_is_not_inside() -> None:
    boxes = np.array([[0, 0, 8, 8], [0, 2, 4, 4], [1, 2, 4, 4]], float)
    found = table(boxes, (boxes[:, :2] + boxes[:, 2:]) / 2)
    assert [PREDICATES[found[2, 0]], PREDICATES[found[0, 2]]] == ["inside", "surrounding"]
    assert PREDICATES[found[1, 0]] not in ("inside", "surrounding")


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_triples_hold_every_ordered_pair_and_that_each_is_in_the_image(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    corner = draw.random((n, 2))
    boxes, masks = np.concatenate([corner, corner + draw.random((n, 2))], 1), draw.random((n, 16, 16)) > 0.7
    found = triples(boxes, masks)
    assert found.shape == (n * (n - 1) + n, 3)
    assert found.dtype == np.int16
    assert [(s, o) for s, _, o in found[:-n].tolist()] == [(a, b) for a in range(n) for b in range(n) if a != b]
    assert found[-n:].tolist() == [[i, 0, n] for i in range(n)]
    assert (found[:-n, 1] > 0).all()


# Masks ------------------------------------------------------------------------------------------------------------


def spelt(runs: list[int]) -> str:
    """COCO's compressed spelling, written from its description (maskApi.c, rleToString)."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != -1 if bits & 16 else value != 0
            text += chr((bits | 32 if more else bits) + 48)
    return text


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40))
def test_run_lengths_in_both_spellings_are_columns_of_the_picture(runs: list[int]) -> None:
    height = 3
    runs = [*runs, -sum(runs) % height]
    width = sum(runs) // height
    if not width:
        return
    wanted = np.array([n % 2 for n, run in enumerate(runs) for _ in range(run)], bool).reshape(width, height).T
    for counts in (runs, spelt(runs)):
        assert (run_lengths({"size": [height, width], "counts": counts}, width, height) == wanted).all()


def test_published_spelling() -> None:
    # Of COCO's documentation tools: 1 outside, 2 inside and so on of a picture 3 wide and 2 high.
    assert spelt([1, 2, 3]) == "123"
    assert spelt([6, 1, 40, 22]) == "61X1e0"
    assert run_lengths({"size": [2, 3], "counts": "123"}, 3, 2).tolist() == [[False, True, False], [True, False, False]]


def test_polygons_fill_what_they_enclose_within_the_box() -> None:
    full = mask([[10, 20, 50, 20, 50, 60, 10, 60]], (10, 20, 40, 40), 100, 100)
    assert full.all()
    left = mask([[10, 20, 30, 20, 30, 60, 10, 60]], (10, 20, 40, 40), 100, 100)
    assert left[:, :8].all()
    assert not left[:, 8:].any()
    triangle = mask([[0, 0, 64, 64, 0, 64]], (0, 0, 64, 64), 64, 64)
    below = np.tri(16, dtype=bool)
    assert (triangle == below).mean() > 0.93
    assert triangle[np.tri(16, k=-1, dtype=bool)].all()
    assert mask([[5, 5, 5.2, 5, 5.2, 5.2]], (5, 5, 0.2, 0.2), 10, 10).shape == (16, 16)  # less than a pixel


def test_large_pictures_take_no_more_memory_than_their_pixels() -> None:
    corners = [[0, 0, 10000, 0, 10000, 5000, 0, 5000]]
    found = mask(corners, (0, 0, 10000, 10000), 10000, 10000)
    assert found[:8].all()
    assert not found[8:].any()
    with pytest.raises(ValueError, match="too large to be meant"):
        mask(corners, (0, 0, 10, 10), 60000, 60000)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "should be polygons or run lengths"),
        ([[1, 2, 3, 4]], "three corners"),
        ([[1, 2, 3, 4, 5, math.nan]], "three corners"),
        ([["a"] * 6], "three corners"),
        ({"counts": [5, 5], "size": [10, 10]}, "10 pixels long, but the picture has 100"),
        ({"counts": [100], "size": [10, 11]}, "size should be"),
        ({"counts": [-1, 101], "size": [10, 10]}, "lengths of runs"),
        ({"counts": [1 << 60], "size": [10, 10]}, "lengths of runs"),
        ({"counts": "\x10\x10", "size": [10, 10]}, "spells no run"),
        ({"counts": "o", "size": [10, 10]}, "in the middle of a run"),
        ({"counts": "oooooooooo", "size": [10, 10]}, "spells no run"),
        ({"counts": 7, "size": [10, 10]}, "lengths of runs"),
    ],
)
def test_segmentations_that_are_none(segmentation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask(segmentation, (0, 0, 5, 5), 10, 10)


# Files ------------------------------------------------------------------------------------------------------------

SQUARE = [[0, 0, 10, 0, 10, 10, 0, 10]]


def annotation(image_id: int, category: int, box: list[float], segmentation: Any = None) -> dict[str, Any]:
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {"image_id": image_id, "category_id": category, "bbox": box, "segmentation": segmentation or polygon}


def write(raw: Path, name: str, marked: list[dict[str, Any]], kinds: dict[int, str], **changes: Any) -> None:
    images = [{"id": n, "width": 100, "height": 50, "file_name": f"{n}.jpg"} for n in (1, 2, 3)]
    named = [{"id": number, "name": text} for number, text in kinds.items()]
    (raw / "annotations").mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": marked, "categories": named} | changes
    (raw / "annotations" / f"{name}.json").write_text(json.dumps(content))


def test_filters_are_those_of_sg2im(tmp_path: Path) -> None:
    # 5000 pixels: a box of 100 is exactly 2 %, which is too small; 101 is enough.
    things = [annotation(1, 1, [0, 0, 10, 10.1]), annotation(1, 3, [0, 0, 10, 10]), annotation(2, 1, [0, 0, 50, 50])]
    stuff = [annotation(1, 5, [0, 0, 100, 25]), annotation(1, 6, [0, 25, 100, 25])]
    write(tmp_path, "instances_x", things, {1: "dog", 3: "cat"})
    write(tmp_path, "stuff_x", stuff, {5: "sky", 6: "other"})
    found = read(tmp_path, "x", {1, 2, 3}, GraphSettings(least=1))
    assert found.names == ("__image__", "dog", "NONE", "cat", "NONE", "sky", "other")
    assert list(found.pictured) == [1]  # 2 is not in the stuff file
    one = found.pictured[1]
    assert one.objects.tolist() == [1, 5, 0]
    assert one.boxes.tolist() == [[0, 0, pytest.approx(0.1), pytest.approx(0.202)], [0, 0, 1, 0.5], [0, 0, 1, 1]]
    assert one.masks.all()
    assert list(read(tmp_path, "x", {1}, GraphSettings(least=1, other=True)).pictured[1].objects) == [1, 5, 6, 0]
    assert not read(tmp_path, "x", {1, 2}, GraphSettings()).pictured  # three objects at least
    (tmp_path / "annotations/stuff_x.json").unlink()
    assert list(read(tmp_path, "x", {1, 2}, GraphSettings(least=1)).pictured) == [1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [annotation(1, 9, [0, 0, 50, 50])]}, "category 9 is not among"),
        ({"annotations": [annotation(1, 0, [0, 0, 50, 50])]}, "category 0 is not among"),
        ({"annotations": [annotation(1, 1, [0, 0, 50, 50]) | {"bbox": [0, 0, 50]}]}, "bbox should be"),
        ({"annotations": [annotation(1, 1, [0, 0, 50, 50]) | {"bbox": [0, 0, float("nan"), 1]}]}, "bbox should be"),
        ({"annotations": [annotation(1, 1, [50, 50, -50, -50])]}, "bbox should be"),
        ({"annotations": [annotation(1, 1, [0, 0, 50, 50]) | {"bbox": [0, 0, True, 50]}]}, "bbox should be"),
        ({"annotations": [annotation(1, 1, [0, 0, 50, 50], {"counts": "oo"})]}, "segmentation: size should be"),
        ({"annotations": {}}, "'annotations' should be a list"),
        ({"categories": [{"id": 10**9, "name": "x"}]}, "'id' should be a whole number from 1 to 10,000"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "another has its name"),
        ({"images": [{"id": 1, "width": 0, "height": 5}]}, "'width' should be a whole number from 1"),
        ({"images": []}, "image 1 is not among the file's images"),
    ],
)
def test_hostile_files_end_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path, "instances_x", [annotation(1, 1, [0, 0, 50, 50])], {1: "dog"}, **changes)
    with pytest.raises(ChatPainterError) as caught:
        read(tmp_path, "x", {1}, GraphSettings(least=1))
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert "instances_x.json" in caught.value.message


def test_the_stores_are_read_as_a_batch(tmp_path: Path) -> None:
    boxes = [[0.0, 0, 20, 20], [50.0, 0, 40, 40], [0.0, 25, 50, 25]]
    things = [annotation(2, n + 1, box) for n, box in enumerate(boxes)] + [annotation(3, 1, [0, 0, 60, 50])]
    write(tmp_path, "instances_x", things, {1: "dog", 2: "cat", 3: "cow"})
    rows = [corpus.Row(n, f"{n}.jpg", None, None, [(n, "a dog")], [("q", "a")], "") for n in (3, 1, 2)]
    corpus.write(rows, tmp_path / "x.parquet")
    made = stores.prepare(tmp_path / "x.parquet", tmp_path, "x", tmp_path / "images/x", GraphSettings(least=1))
    assert (made.images, made.objects, made.without) == (2, 4, 1)
    data = TrainingData((OBJECTS, BOXES, MASKS, TRIPLES), tmp_path / "none", tmp_path / "images/x")
    assert data.vocabulary("objects") == {"objects": ("__image__", "dog", "cat", "cow"), "predicates": PREDICATES}
    batch = data.at(np.array([0, 1]))
    assert batch["image_id"].tolist() == [2, 3]
    assert batch["objects"].tolist() == [[1, 2, 3, 0], [1, 0, 0, 0]]
    assert batch["objects.length"].tolist() == [4, 2]
    assert batch["boxes"][1, :2].tolist() == [[0, 0, pytest.approx(0.6), 1], [0, 0, 1, 1]]
    assert batch["masks"].shape == (2, 4, 16, 16)
    assert batch["triples.length"].tolist() == [9, 1]
    assert batch["triples"][1, 0].tolist() == [0, 0, 1]
    assert batch["triples"][0, 0].tolist() == [0, PREDICATES.index("left of"), 1]
    before = {path: path.read_bytes() for path in (tmp_path / "images/x").rglob("*.*")}
    stores.prepare(tmp_path / "x.parquet", tmp_path, "x", tmp_path / "images/x", GraphSettings(least=1))
    assert before == {path: path.read_bytes() for path in (tmp_path / "images/x").rglob("*.*")}
    with pytest.raises(ChatPainterError, match=r"no picture of .* has from 5 to 8 objects"):
        stores.prepare(tmp_path / "x.parquet", tmp_path, "x", tmp_path / "images/x", GraphSettings(least=5))
    stores.remove(tmp_path / "images/x")
    assert not list((tmp_path / "images/x").rglob("*.*"))


def test_stores_without_a_vocabulary_cannot_be_published(tmp_path: Path) -> None:
    for name in ("objects", "triples"):
        row = (3,) if name == "triples" else ()
        ragged.write(tmp_path / name, name, "x", [1], [np.zeros((2, *row), np.int16)], {}, lengths=name)
    with pytest.raises(ChatPainterError, match="objects: states no vocabulary; make the images again"):
        next(published.graphs(tmp_path))


def test_published_graphs_are_of_the_same_objects_and_relations(tmp_path: Path) -> None:
    boxes = [[0.0, 0, 20, 20], [50.0, 0, 40, 40], [0.0, 25, 50, 25]]
    things = [annotation(2, n + 1, box) for n, box in enumerate(boxes)] + [annotation(3, 1, [0, 0, 60, 50])]
    write(tmp_path, "instances_x", things, {1: "dog", 2: "cat", 3: "cow"})
    corpus.write([corpus.Row(n, f"{n}.jpg", None, None, [], [], "") for n in (3, 2)], tmp_path / "x.parquet")
    stores.prepare(tmp_path / "x.parquet", tmp_path, "x", tmp_path / "images/x", GraphSettings(least=1))
    command = ["graphs", "--split", "x", "--images", str(tmp_path / "images"), "--out", str(tmp_path / "graphs.json")]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.output == f"{tmp_path / 'graphs.json'}: 2 scene graphs\n"
    alone, three = json.loads((tmp_path / "graphs.json").read_text())
    assert alone == {"image_id": 3, "objects": ["dog"], "relationships": []}
    assert (three["image_id"], three["objects"]) == (2, ["dog", "cat", "cow"])
    true = {(0, 1): "left of", (0, 2): "above", (1, 2): "right of"}
    true |= {(1, 0): "right of", (2, 0): "below", (2, 1): "left of"}
    assert {row for subject, _, object_ in three["relationships"] for row in (subject, object_)} == {0, 1, 2}
    for subject, predicate, object_ in three["relationships"]:
        assert true[subject, object_] == predicate
    (tmp_path / "images/x/objects/manifest.json").unlink()
    assert "no finished store" in CliRunner().invoke(main, command).output
