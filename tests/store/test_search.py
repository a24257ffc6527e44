"""search: what is nearest, by an independent count of every row."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from store import ChatPainterError, Store, StoreError
from store.cli import main
from store.search import nearest
from tests.support.stores import write_store


def written(path: Path, rows: np.ndarray) -> Store:
    index = {"row": range(len(rows)), "image_id": range(len(rows)), "text": [f"text {row}" for row in range(len(rows))]}
    write_store(path, rows, index, kind="captions")
    return Store(path)


@given(
    rows=st.integers(2, 40),
    count=st.integers(1, 50),
    block=st.integers(1, 400),
    seed=st.integers(0, 9),
    same=st.booleans(),
)
def test_the_nearest_are_those_of_a_plain_count(
    tmp_path_factory: pytest.TempPathFactory, rows: int, count: int, block: int, seed: int, same: bool
) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(rows, 5)).astype(np.float16)
    if same:
        vectors[rows // 2 :] = vectors[0]  # equal rows: the first in the store comes first
    query = random.normal(size=5).astype(np.float32)

    def cosine(vector: np.ndarray) -> float:
        a, b = [float(value) for value in vector], [float(value) for value in query]
        return sum(x * y for x, y in zip(a, b)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5

    expected = sorted(((-round(cosine(vector), 9), row) for row, vector in enumerate(vectors)))[:count]
    found = nearest(written(tmp_path_factory.mktemp("s"), vectors), query, count, block_bytes=block)
    assert [row for row, _ in found] == [row for _, row in expected]
    np.testing.assert_allclose([cosine for _, cosine in found], [-minus for minus, _ in expected], atol=2e-9)


def test_rows_without_a_direction_are_never_found(tmp_path: Path) -> None:
    rows = np.array([[0, 0], [-1, 0], [0, 0], [3, 0]], np.float16)
    found = nearest(written(tmp_path / "s", rows), np.array([2.0, 0.0]), 9)
    assert found == [(3, 1.0), (1, -1.0)]


def test_large_numbers_of_float16_do_not_overflow(tmp_path: Path) -> None:
    rows = np.full((2, 8), 60_000, np.float16)
    assert nearest(written(tmp_path / "s", rows), rows[0], 1) == [(0, 1.0)]


@pytest.mark.parametrize("query", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_a_query_without_a_direction_is_refused(tmp_path: Path, query: list[float]) -> None:
    store = written(tmp_path / "s", np.ones((2, 2), np.float16))
    with pytest.raises(ChatPainterError, match="no direction"):
        nearest(store, np.array(query), 1)


def test_pictures_and_other_widths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="vectors of 2, where"):
        nearest(written(tmp_path / "s", np.ones((2, 2), np.float16)), np.ones(3), 1)
    pictures = np.zeros((2, 4, 4, 3), np.uint8)
    write_store(tmp_path / "p", pictures, {"row": [0, 1], "image_id": [0, 1]}, kind="images")
    done = CliRunner().invoke(main, ["search", str(tmp_path / "p"), "--row", "0"])
    assert done.exit_code == 1
    assert "holds images of 4 x 4 x 3 uint8, not vectors to compare" in done.output


def test_a_row_is_nearest_to_itself_and_shown_with_its_own_turn(tmp_path: Path, make_store) -> None:
    rows = make_store(tmp_path)  # dialogues of 3, 1, 10, 2, 5 turns
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit[6]), kind="stable")[:3]
    done = CliRunner().invoke(main, ["search", str(tmp_path), "--row", "6", "-n", "3"])
    assert done.exit_code == 0, done.output
    first, *others = done.output.splitlines()
    assert first == "+1.0000  row 6  image_id 14  rounds 10  'dialogue 2 turn 2'"
    assert [line.split("row ")[1].split()[0] for line in others] == [str(row) for row in order[1:]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a text or a --row, one of them"),
        (["a text", "--row", "0"], "name a text or a --row, one of them"),
        (["--row", "21"], "has no row 21, but 0 to 20"),
        (["a text"], "'test' is none of this program's; name its module with --encoders"),
    ],
)
def test_what_cannot_be_looked_for_is_said(tmp_path: Path, make_store, arguments: list[str], said: str) -> None:
    make_store(tmp_path)
    done = CliRunner().invoke(main, ["search", str(tmp_path), *arguments])
    assert done.exit_code == 1
    assert said in done.output


def test_without_the_room_of_encoders_a_text_is_refused_by_name(
    tmp_path: Path, make_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    done = CliRunner().invoke(main, ["search", str(tmp_path), "a text"])
    assert done.exit_code == 1
    assert "pip install 'chatpainter[pipeline]', or name a row: --row" in done.output
