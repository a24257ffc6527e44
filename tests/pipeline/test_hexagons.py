"""Hexagons: boards drawn and read back, the way tiles touch, the truth of every step, hostile files."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.corpora import films, hexagons
from pipeline.corpora.hexagons import COLUMNS, NAMES, PLACES, ROWS
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import prepare
from pipeline.prepare_cli import main
from store.errors import ChatPainterError
from trainer.evaluation.scenes import SceneReader
from trainer.evaluation.truth import Truth

BLANK = [0] * ROWS * COLUMNS


@settings(max_examples=settings.default.max_examples // 2)
@given(st.lists(st.integers(0, 7), min_size=180, max_size=180), st.sampled_from([64, 76, 128]))
def test_any_board_is_read_back_from_its_picture(board: list[int], side: int) -> None:
    assert hexagons.read(hexagons.picture(tuple(board), side)) == tuple(board)


def test_every_board_of_the_dev_split_is_read_back_at_64_pixels(shared_data: Path) -> None:
    procedures = hexagons._read(shared_data / "hexagons/dev.jsonl")
    assert len(procedures) == 62
    boards = sorted({board for _, _, seen in procedures for board in seen})
    assert [board for board in boards[::3] if hexagons.read(hexagons.picture(board, 64)) != board] == []


def test_tiles_touch_as_people_say_they_do(shared_data: Path) -> None:
    """ "Color all tiles touching the purple tile": the six that people coloured are the six nearest that we draw."""
    with (shared_data / "hexagons/train.jsonl").open() as file:
        procedures = [json.loads(line)["drawing_procedure"] for line in itertools.islice(file, 2)]
    step = procedures[1][1]
    assert "the eighth row from the left, vertically, and the fifth tile down" in step[1]
    coloured = {name for name, tile in zip(PLACES, step[2], strict=True) if tile}
    assert nearest("row 5 column 8") == coloured


def nearest(place: str) -> set[str]:
    """The six tiles round one, as if hexagons were regular: columns lie 1.5 sides apart, rows the root of three."""
    x, y = PLACES[place]

    def apart(other: str) -> float:
        a, b = PLACES[other]
        return math.hypot((a - x) / hexagons._STEP * 1.5, (b - y) / hexagons._HEIGHT * math.sqrt(3))

    return set(sorted(PLACES, key=apart)[1:7])


def source(folder: Path, *entries: Any) -> Path:
    folder.mkdir(parents=True)
    for split in hexagons.SPLITS:
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


def procedure(*boards: list[int]) -> dict[str, Any]:
    steps = [[n, "NONE" if n == 0 else f"step  {n}", board] for n, board in enumerate([BLANK, *boards])]
    return {"image_id": "P01C01T14", "drawing_procedure": steps}


ONE = [4, *BLANK[1:]]
TWO = [3, *BLANK[1:-1], 7]


def test_a_corpus_with_a_picture_and_the_truth_of_every_step(tmp_path: Path) -> None:
    folder, raw = source(tmp_path / "hexagons", procedure(ONE, TWO), procedure(ONE)), tmp_path / "raw"
    command = ["hexagons", "--source", str(folder), "--raw", str(raw), "--image-size", "64"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.output == f"{raw}: 2 train, 2 dev procedures\n"
    _, report = prepare(raw, "dev", tmp_path / "corpus", CorpusSettings(), None)
    assert (report["images"], report["rounds"]) == (2, 3)
    found = films.read(films.films_file(raw, "dev"))
    assert found.objects == NAMES
    film = next(iter(found.films.values()))
    assert [[NAMES[n] for n in one.present] for one in (film.first, *film.turns)] == [[], ["red"], ["green", "orange"]]
    seen = np.stack([np.asarray(Image.open(raw / "images/dev" / one.file_name)) for one in (film.first, *film.turns)])
    assert [hexagons.read(Image.fromarray(one)) for one in seen] == [tuple(BLANK), tuple(ONE), tuple(TWO)]
    truth = Truth.load(raw / "truth_dev.json")
    ids = np.array([film.image_id])
    wanted = truth.targets_by_round(ids, 2)[0]
    colour = np.array([head.kind == "colour" for head in truth.heads()])
    reading = SceneReader(truth, 1).read(seen)
    assert (reading.colours + 1 == wanted[:, colour]).all()
    assert (reading.grounds == 0).all()
    rounds = truth.words[int(ids[0])]["rounds"]
    assert [one["speaks_of"] for one in rounds] == [["row 1 column 1"], ["row 1 column 1", "row 10 column 18"]]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": "a"}, "line 1: 'drawing_procedure' is missing"),
        (procedure(), "line 1: has no step"),
        (procedure(ONE[1:]), "line 1: step 1: the board should be 180 numbers"),
        (procedure([8, *BLANK[1:]]), "line 1: step 1: tile 8 is no colour from 0 to 7"),
        (procedure([True, *BLANK[1:]]), "tile True is no colour"),
        ({"image_id": "a", "drawing_procedure": [[0, BLANK]]}, "step 0 should be a number, a text and a board"),
        ([1], "expected an object with 'image_id'"),
    ],
)
def test_hostile_lines_end_in_one_line(tmp_path: Path, entry: Any, message: str) -> None:
    folder = source(tmp_path / "hexagons", entry)
    with pytest.raises(ChatPainterError) as caught:
        hexagons.make(folder, tmp_path / "raw", 64)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": 1', "line 1: ends in the middle"), (b"\xff\n", "not UTF-8"), (b"\n", "holds no procedure"),
     (b"<html>", "line 1: not JSON")],
)  # fmt: skip
def test_hostile_files_end_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    folder = source(tmp_path / "hexagons", procedure(ONE))
    (folder / "train.jsonl").write_bytes(content)
    with pytest.raises(ChatPainterError) as caught:
        hexagons.make(folder, tmp_path / "raw", 64)
    assert message in caught.value.message
    (folder / "train.jsonl").unlink()
    with pytest.raises(ChatPainterError, match="cannot be read"):
        hexagons.make(folder, tmp_path / "raw", 64)
