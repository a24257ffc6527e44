"""Pictures of every turn: the sample world's, stated beside COCO's files, and the stores aligned with turns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.corpora import corpus, films, sample_files
from pipeline.corpora.films import Film, FilmFrame
from pipeline.corpora.sample_films import KINDS, told
from pipeline.corpora.sample_words import AnnotatedRound, facts
from pipeline.corpora.sample_world import BLANK, PAPER, Scene, Thing, WorldSettings
from pipeline.pictures import films as stores
from store.errors import ChatPainterError
from trainer.feed.data import TrainingData
from trainer.feed.inputs import FIRST_PICTURES, FIRST_PRESENCE, PRESENCE, TURN_PICTURES

CIRCLE = Thing("top left", "red", "circle", "small", (0.28, 0.28))
SQUARE = Thing("bottom right", "blue", "square", "large", (0.72, 0.72))


def test_an_object_is_there_once_all_of_it_is_told() -> None:
    talk = [
        AnnotatedRound("q", "a", ("top left: colour",)),
        AnnotatedRound("q", "a", ("ground",)),
        AnnotatedRound("q", "a", ("top left: size",)),
        AnnotatedRound("q", "a", ()),
        AnnotatedRound("q", "a", ("top left: shape",)),
        AnnotatedRound("q", "a", facts("bottom right", "top right")),
    ]
    seen = told(Scene("snow", (CIRCLE, SQUARE)), talk)
    assert [one.ground for one in seen] == [BLANK] * 2 + ["snow"] * 5
    assert [one.things for one in seen] == [()] * 5 + [(CIRCLE,), (CIRCLE, SQUARE)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films") / "sample"
    sample_files.make(folder, WorldSettings(seed=5, train=6, val=3, image_size=64, turn_pictures=True))
    return folder


def test_the_last_picture_of_a_film_is_the_scene_and_the_first_is_blank(world: Path) -> None:
    found = films.read(films.films_file(world, "train"))
    truth = {one["image_id"]: one for one in json.loads((world / "truth_train.json").read_text())["scenes"]}
    assert len(found.films) == 6
    assert found.objects == tuple(" ".join(kind) for kind in KINDS)
    for image_id, film in found.films.items():
        assert len(film.turns) == 10
        assert film.first.present == ()
        first = np.asarray(Image.open(world / "images/train" / film.first.file_name))
        assert (first == PAPER).all()
        whole = (world / "images/train" / sample_files.file_name("train", image_id)).read_bytes()
        assert (world / "images/train" / film.turns[-1].file_name).read_bytes() == whole
        names = {found.objects[kind] for kind in film.turns[-1].present}
        assert names == {f"{one['colour']} {one['shape']}" for one in truth[image_id]["objects"]}
        # What was told stays told.
        for before, after in zip(film.turns, film.turns[1:]):
            assert set(before.present) <= set(after.present)
    # Nothing is drawn that no turn names.
    drawn = {path.name for path in (world / "images/train/turns").iterdir()}
    named = {Path(one.file_name).name for film in found.films.values() for one in (film.first, *film.turns)}
    assert drawn == named


def test_a_world_with_films_is_otherwise_the_world_without(world: Path, tmp_path: Path) -> None:
    sample_files.make(tmp_path / "plain", WorldSettings(seed=5, train=6, val=3, image_size=64))
    for path in (path for path in (tmp_path / "plain").rglob("*") if path.is_file() and "truth" not in path.name):
        assert path.read_bytes() == (world / path.relative_to(tmp_path / "plain")).read_bytes()
    with_films, plain = (json.loads((f / "truth_val.json").read_text()) for f in (world, tmp_path / "plain"))
    assert with_films["world"].pop("turn_pictures") is True
    assert with_films == plain
    sample_files.make(world, WorldSettings(seed=5, train=6, val=3, image_size=64, turn_pictures=True))  # its own folder


# Stores -----------------------------------------------------------------------------------------------------------


def dataset(raw: Path) -> Path:
    """Three images of two, none and three turns, in colours that name the turn; the path of their corpus."""
    (raw / "images/x/turns").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (20, 10), (40 * number, 0, 0)).save(raw / f"images/x/turns/{number}.png")
    film = [
        Film(7, FilmFrame("turns/0.png", ()), (FilmFrame("turns/1.png", (0,)), FilmFrame("turns/2.png", (0, 2)))),
        Film(9, FilmFrame("turns/0.png", (1,)), tuple(FilmFrame(f"turns/{n}.png", (1,)) for n in (3, 3, 5))),
    ]
    (raw / "annotations").mkdir()
    films.films_file(raw, "x").write_text(json.dumps(films.layout(["dog", "cat", "cow"], film)))
    rows = [
        corpus.Row(9, "9.png", None, None, [], [("a", "b")] * 3, ""),
        corpus.Row(8, "8.png", None, None, [], [("a", "b")], ""),
        corpus.Row(7, "7.png", None, None, [], [("a", "b")] * 2, ""),
    ]
    corpus.write(rows, raw / "x.parquet")
    return raw / "x.parquet"


@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_the_stores_are_read_as_a_batch(tmp_path: Path, shard_bytes: int) -> None:
    path = dataset(tmp_path)
    made = stores.prepare(path, tmp_path, "x", tmp_path / "images/x", 8, shard_bytes)
    assert (made.images, made.pictures, made.without) == (2, 5, 1)
    data = TrainingData((TURN_PICTURES, PRESENCE, FIRST_PICTURES, FIRST_PRESENCE), tmp_path, tmp_path / "images/x")
    assert data.vocabulary("presence") == {"objects": ("dog", "cat", "cow")}
    batch = data.at(np.array([0, 1]))
    assert batch["image_id"].tolist() == [7, 9]
    assert batch["turn_pictures"].shape == (2, 3, 8, 8, 3)
    assert batch["turn_pictures"][:, :, 0, 0, 0].tolist() == [[40, 80, 0], [120, 120, 200]]
    assert batch["turn_pictures.length"].tolist() == batch["presence.length"].tolist() == [2, 3]
    assert batch["presence"].tolist() == [[[1, 0, 0], [1, 0, 1], [0, 0, 0]], [[0, 1, 0]] * 3]
    assert batch["first_pictures"].shape == (2, 8, 8, 3)
    assert not batch["first_pictures"].any()
    assert batch["first_presence"].tolist() == [[0, 0, 0], [0, 1, 0]]
    decoded: list[int] = []
    again = stores.prepare(path, tmp_path, "x", tmp_path / "images/x", 8, shard_bytes, done=decoded.append)
    assert again == made
    assert not decoded
    stores.remove(tmp_path / "images/x")
    assert not [one for name in stores.NAMES if (one := tmp_path / "images/x" / name).exists()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0]["turns"].pop(), "image 7 has 1 turns, but 2 rounds"),
        (lambda c: c["images"].clear(), "has no film of an image of"),
        (lambda c: c["images"].append(c["images"][0]), "image 7 appears twice"),
        (lambda c: c["images"][0]["first"].update(file_name="../../x"), "leads out of its folder"),
        (lambda c: c["images"][0]["first"].update(file_name="turns/9.png"), "no such file lies in"),
        (lambda c: c["images"][0].pop("first"), "'file_name'"),
        (lambda c: c["images"][0]["turns"][1]["present"].append(3), "present names 3, but there are 3 objects"),
        (lambda c: c["images"][0]["turns"][1]["present"].append(True), "present names True"),
        (lambda c: c.update(objects=["dog", "dog"]), "objects[1] should be a name of its own"),
        (lambda c: c.update(objects="dog"), "'objects' should be a list"),
    ],
)
def test_hostile_files_end_in_one_line(tmp_path: Path, change: Any, message: str) -> None:
    path = dataset(tmp_path)
    content = json.loads(films.films_file(tmp_path, "x").read_text())
    change(content)
    films.films_file(tmp_path, "x").write_text(json.dumps(content))
    with pytest.raises(ChatPainterError) as caught:
        stores.prepare(path, tmp_path, "x", tmp_path / "images/x", 8, 1 << 20)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "images/x/turn_pictures/manifest.json").exists()


def test_a_damaged_picture_ends_in_one_line(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    (tmp_path / "images/x/turns/2.png").write_bytes(b"<html>")
    with pytest.raises(ChatPainterError, match=r"2\.png: cannot be read .*make the dataset's folder again"):
        stores.prepare(path, tmp_path, "x", tmp_path / "images/x", 8, 1 << 20)
    assert not (tmp_path / "images/x/turn_pictures/manifest.json").exists()
