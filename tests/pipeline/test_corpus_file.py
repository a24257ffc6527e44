"""The corpus file: what is written is read, and what is no corpus is refused by its column or row."""

import contextlib
import os
import re
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.corpora import corpus
from pipeline.corpora.corpus import Row
from pipeline.corpora.parquet_footer import count_values
from store.errors import ChatPainterError
from tests.support.mutate import damaged_bytes

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.integers(-(2**63), 2**63 - 1)
rows = st.lists(
    st.builds(
        Row,
        image_id=ids,
        file_name=texts,
        width=st.none() | st.integers(1, 2**31 - 1),
        height=st.none() | st.integers(1, 2**31 - 1),
        captions=st.lists(st.tuples(ids, texts), max_size=4),
        rounds=st.lists(st.tuples(texts, texts), max_size=4),
        visdial_caption=texts,
    ),
    unique_by=lambda row: row.image_id,
    max_size=8,
)
ROWS = [Row(n, f"{n}.jpg", 8, None, [(10 * n, f"caption {n}")], [("q", "a")] * n, f"said {n}") for n in range(5)]


def write(path: Path, **columns: object) -> Path:
    """A corpus with some columns in place of its own; None leaves a column out."""
    table = corpus.table(ROWS)
    for name, column in columns.items():
        place = table.column_names.index(name)
        table = table.remove_column(place) if column is None else table.set_column(place, name, column)
    pq.write_table(table, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ChatPainterError) as caught:
        corpus.read(path)
    assert "\n" not in caught.value.message
    assert f"chatpainter-prepare corpus --split {path.stem}" in caught.value.message
    return caught.value.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_rows_come_back_as_they_were_written(tmp_path: Path, written: list[Row]) -> None:
    corpus.write(written, tmp_path / "t.parquet")
    assert list(corpus.rows(corpus.read(tmp_path / "t.parquet"))) == written


def test_more_rows_than_are_decoded_at_once(tmp_path: Path) -> None:
    written = [Row(n, "", None, None, [], [(f"q{n}", "")], "") for n in range(3 * corpus._STEP + 7)]
    corpus.write(written, tmp_path / "t.parquet")
    assert list(corpus.rows(corpus.read(tmp_path / "t.parquet"))) == written


def test_rows_of_some_images_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    corpus.write(ROWS, tmp_path / "t.parquet")
    table = corpus.read(tmp_path / "t.parquet")
    assert list(corpus.rows(corpus.of_images(table, [4, 99, 1]))) == [ROWS[1], ROWS[4]]
    assert list(corpus.rows(corpus.of_images(table, []))) == []


def test_the_caption_that_stands_for_an_image() -> None:
    assert ROWS[1].caption == "caption 1"
    assert Row(1, "", None, None, [], [], "said").caption == "said"
    assert Row(1, "", None, None, [], [], "").caption == ""


def test_what_other_writers_of_parquet_make_of_it_is_the_same_corpus(tmp_path: Path) -> None:
    """pandas, Polars and Spark: long offsets, everything nullable, columns more and in another order."""
    large = pa.schema(
        [
            ("visdial_caption", pa.large_string()),
            ("captions", pa.large_list(pa.struct([("text", pa.large_string()), ("caption_id", pa.int64())]))),
            ("rounds", pa.list_(pa.field("element", pa.struct([("question", pa.string()), ("answer", pa.string())])))),
            ("image_id", pa.int64()),
            ("file_name", pa.large_string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
        ]
    )
    plain = corpus.table(ROWS).to_pylist()
    table = pa.Table.from_pylist(plain, large).append_column("__index_level_0__", pa.array(range(5)))
    pq.write_table(table, tmp_path / "t.parquet")
    found = corpus.read(tmp_path / "t.parquet")
    assert found.schema.equals(corpus.schema())
    assert list(corpus.rows(found)) == ROWS


def test_through_pandas_and_back(tmp_path: Path) -> None:
    corpus.write(ROWS, tmp_path / "t.parquet")
    frame = pq.read_table(tmp_path / "t.parquet").to_pandas()
    frame[frame["image_id"] > 1].drop(columns="height").assign(height=5).astype({"height": "int32"}).to_parquet(
        tmp_path / "t.parquet"
    )
    assert [row.image_id for row in corpus.rows(corpus.read(tmp_path / "t.parquet"))] == [2, 3, 4]


# What is no corpus ---------------------------------------------------------------------------------------------------

CAPTION = pa.struct([("caption_id", pa.int64()), ("text", pa.string())])
ROUND = pa.struct([("question", pa.string()), ("answer", pa.string())])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": pa.array(list("01234"))}, "'image_id' should be int64, found string"),
        ({"image_id": pa.array([0.0, 1, 2, 3, 4])}, "'image_id' should be int64, found double"),
        ({"image_id": pa.array(range(5), pa.uint64())}, "'image_id' should be int64, found uint64"),
        ({"image_id": pa.array([0, 1, None, 3, 4])}, "row 3: 'image_id' has no value"),
        ({"image_id": pa.array([0, 1, 2, 3, 1])}, "image 1 has more than one row"),
        ({"image_id": None}, r"'image_id' is not among its columns \['file_name', "),
        ({"file_name": pa.array([b"x"] * 5)}, "'file_name' should be string, found binary"),
        ({"captions": pa.array([["a"]] * 5)}, "'captions' should be list<.*, found list<.*string>"),
        ({"captions": pa.array(["a"] * 5)}, "'captions' should be list<.*, found string"),
        ({"captions": pa.array([[], [], None, [], []], pa.list_(CAPTION))}, "row 3: 'captions' has no value"),
        (
            {"captions": pa.array([[], [(1, "a")], [], [(2, "b"), None], []], pa.list_(CAPTION))},
            "row 4: 'captions' .* lacks one inside",
        ),
        ({"captions": pa.array([[(1, "a")], [], [(2, None)], [], []], pa.list_(CAPTION))}, "row 3: 'captions'"),
        ({"captions": pa.array([[(None, "a")], [], [], [], []], pa.list_(CAPTION))}, "row 1: 'captions'"),
        ({"rounds": pa.array([["q"]] * 5)}, "'rounds' should be list<"),
        ({"rounds": pa.array([[], [], [], [], [("q", None)]], pa.list_(ROUND))}, "row 5: 'rounds'"),
        ({"rounds": None}, "'rounds' is not among its columns"),
        ({"visdial_caption": pa.array(range(5))}, "'visdial_caption' should be string, found int64"),
        ({"visdial_caption": pa.array(["a", None, "b", "c", "d"])}, "row 2: 'visdial_caption' has no value"),
        ({"width": pa.array(range(5))}, "'width' should be int32, found int64"),
    ],
)
def test_columns_of_another_type_and_values_that_lack_are_named(tmp_path: Path, columns: dict, message: str) -> None:
    said = refusal(write(tmp_path / "t.parquet", **columns))
    assert re.search(rf"t\.parquet: .*{message}", said)


def test_a_null_in_a_later_chunk_is_counted_from_the_start(tmp_path: Path) -> None:
    many = [Row(n, "", None, None, [(1, "a")], [], "") for n in range(2 * corpus._STEP + 9)]
    table = corpus.table(many)
    captions = [[{"caption_id": 1, "text": "a" if row.image_id != 2 * corpus._STEP + 4 else None}] for row in many]
    table = table.set_column(4, "captions", pa.array(captions, pa.list_(CAPTION)))
    pq.write_table(table, tmp_path / "t.parquet")
    assert f"row {2 * corpus._STEP + 5}: 'captions'" in refusal(tmp_path / "t.parquet")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = corpus.table(ROWS)
    pq.write_table(table.append_column("file_name", table["file_name"]), tmp_path / "t.parquet")
    assert "'file_name' is there twice" in refusal(tmp_path / "t.parquet")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    good = pa.array(["caption"] * 5)
    bad = pa.StringArray.from_buffers(
        5, good.buffers()[1], pa.py_buffer(good.buffers()[2].to_pybytes().replace(b"p", b"\xff"))
    )
    said = refusal(write(tmp_path / "t.parquet", visdial_caption=bad))
    assert "UTF8" in said


@pytest.mark.parametrize("data", [b"", b"PAR1", b"text", bytes(1000), b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_files_that_are_not_parquet(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(data)
    assert "not a corpus (it cannot be read: " in refusal(tmp_path / "t.parquet")


def test_a_page_saved_as_a_corpus_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"<!doctype html><title>404</title>")
    assert "not a corpus, but an HTML page" in refusal(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in refusal(tmp_path / "t.parquet")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    corpus.write(ROWS, tmp_path / "folder.parquet" / "part-0.parquet")
    assert "is a folder, where one Parquet file is expected" in refusal(tmp_path / "folder.parquet")
    os.mkfifo(tmp_path / "pipe.parquet")
    assert "no such corpus; make it with: " in refusal(tmp_path / "pipe.parquet")
    assert "no such corpus; make it with: " in refusal(tmp_path / "none.parquet")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, st.integers(1, 4), st.sampled_from(["zstd", "none"]))
def test_values_are_counted_as_arrow_counts_them(tmp_path: Path, written: list[Row], group: int, packed: str) -> None:
    pq.write_table(corpus.table(written), tmp_path / "t.parquet", row_group_size=group, compression=packed)
    about = pq.read_metadata(tmp_path / "t.parquet")
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    expected = sum(group.column(k).num_values for group in groups for k in range(group.num_columns))
    assert count_values(tmp_path / "t.parquet") == expected


def test_a_damaged_footer_is_a_value_error(tmp_path: Path) -> None:
    pq.write_table(corpus.table(ROWS), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    for _, footer in damaged_bytes(whole[-8 - length : -8], count=300):
        (tmp_path / "t.parquet").write_bytes(whole[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1")
        with contextlib.suppress(ValueError):
            assert count_values(tmp_path / "t.parquet") >= 0
    for data in (b"", b"PAR1", whole[:-1], whole[:-8] + b"\xff\xff\xff\xffPAR1", b"\x4c" * 5000 + b"\x88\x13\0\0PAR1"):
        (tmp_path / "t.parquet").write_bytes(data)
        with pytest.raises(ValueError, match="footer"):
            count_values(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("number", "inside", "text"), [(3_000, 0, "x" * 200_000), (9_000_000, 0, ""), (1, 17_000_000, "")]
)
def test_a_small_file_that_decodes_to_more_than_there_is_memory_for(
    tmp_path: Path, number: int, inside: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long text many times, nothing at all still more often, or inside one row: kilobytes on disk."""
    same = np.zeros(number, np.int32)
    strings = pa.DictionaryArray.from_arrays(same, [text])
    nothing = pa.StructArray.from_arrays([np.zeros(inside, np.int64), pa.array([""]).take(np.zeros(inside, np.int8))],
                                         fields=list(CAPTION))  # fmt: skip
    captions = pa.ListArray.from_arrays(np.append(same, inside).astype(np.int32), nothing)
    rounds = pa.ListArray.from_arrays(np.append(same, 0), pa.array([], ROUND))
    columns = [pa.array(same.astype(np.int64)), strings, pa.array(same), pa.array(same), captions, rounds, strings]
    table = pa.table(columns, corpus.schema().names)
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "t.parquet").stat().st_size < 1_000_000
    monkeypatch.setattr(corpus, "available_memory", lambda: 2**28)
    if not text:
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("decoded before it counted"))
    del table, columns, strings, captions, rounds, nothing
    before = pa.total_allocated_bytes()
    said = refusal(tmp_path / "t.parquet")
    assert "takes more than half of the memory that is left (0.1 GiB) once decoded, although the file has " in said
    assert pa.total_allocated_bytes() - before < 2**28
