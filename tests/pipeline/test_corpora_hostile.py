"""Damaged and odd files by the hundred: what is read is right, and what is not right is refused in one line."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.corpora import coco, codraw, corpus, releases, visdial
from pipeline.corpora.corpus import Row
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import in_lines, prepare
from pipeline.pictures.pool import Failed, Recipe, decode_all
from pipeline.pictures.prepare import ImagesSettings
from pipeline.pictures.prepare import prepare as prepare_pictures
from tests.support.mutate import as_json, damaged_bytes, damaged_records
from tests.support.outcomes import one_line, right_or_refused

KEEP = CorpusSettings("keep", "keep", "keep")
COCO = {
    "info": {"description": "three images"},
    "images": [
        {"id": 7, "file_name": "7.jpg", "width": 40, "height": 30},
        {"id": 8, "file_name": "sub/8.jpg", "width": None},
        {"id": 9, "file_name": "sub\\9.jpg"},
    ],
    "annotations": [
        {"id": 70, "image_id": 7, "caption": "a dog"},
        {"id": 71, "image_id": 7, "caption": "ein Hündchen"},
        {"id": 80, "image_id": 8, "caption": " two\ncats "},
        {"id": 90, "image_id": 9, "caption": "a bird"},
    ],
}
VISDIAL = {
    "version": "1.0",
    "split": "t",
    "data": {
        "questions": ["is it black", "any trees"],
        "answers": ["yes", "no"],
        "dialogs": [
            {"image_id": 7, "caption": "a dog", "dialog": [{"question": 0, "answer": 1}, {"question": 1, "answer": 0}]},
            {"image_id": 8, "caption": "cats", "dialog": [{"question": 1, "answer": 1}, {"question": 0}]},
            {"image_id": 10, "caption": "none", "dialog": []},
        ],
    },
}


def checked(path: Path) -> list[Row]:
    """A corpus that was made: its file can be read, and every value is one that people may meet."""
    rows = list(corpus.rows(corpus.read(path)))
    for row in rows:
        assert isinstance(row.image_id, int)
        assert row.width is None or row.width > 0
        for text in (*(text for _, text in row.captions), *(part for turn in row.rounds for part in turn)):
            assert text == " ".join(text.split())
            text.encode()
    return rows


def put(raw: Path, captions: bytes, dialogues: bytes) -> None:
    for name in ("annotations", "visdial", "images/t/sub"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    (raw / "annotations" / "captions_t.json").write_bytes(captions)
    (raw / "visdial" / "visdial_1.0_t.json").write_bytes(dialogues)


def made(raw: Path, out: Path) -> list[Row]:
    path, report = prepare(raw, "t", out, KEEP, None)
    for line in in_lines(report):
        one_line(line)
    return checked(path)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("which", ["captions", "dialogues"])
def test_records_with_one_field_changed(tmp_path: Path, which: str, seed: int) -> None:
    whole = {"captions": COCO, "dialogues": VISDIAL}
    put(tmp_path, as_json(COCO), as_json(VISDIAL))
    good = {row.image_id: row for row in made(tmp_path, tmp_path / "out")}
    assert list(good) == [7, 8, 9, 10]
    for name, value in damaged_records(whole[which], seed=seed, count=150):
        data = {kind: as_json(value if kind == which else content) for kind, content in whole.items()}
        put(tmp_path, data["captions"], data["dialogues"])
        rows, said = right_or_refused(lambda: made(tmp_path, tmp_path / "out"))
        if rows is None:
            assert f"{which}_t.json" in said or "visdial_1.0_t.json" in said, (name, said)
            continue
        # One field was changed: whoever it does not concern has what they had.
        same = [row for row in rows if good.get(row.image_id) == row]
        assert len(same) >= len(good) - 2, (name, rows)
    assert not list((tmp_path / "out").glob("*.tmp"))


@pytest.mark.parametrize("which", ["captions", "dialogues"])
def test_bytes_changed(tmp_path: Path, which: str) -> None:
    whole = {"captions": COCO, "dialogues": VISDIAL}
    plain = {kind: json.dumps(content, ensure_ascii=False).encode() for kind, content in whole.items()}
    for _, value in damaged_bytes(plain[which], seed=3, count=250):
        data = {kind: value if kind == which else content for kind, content in plain.items()}
        put(tmp_path, data["captions"], data["dialogues"])
        right_or_refused(lambda: made(tmp_path, tmp_path / "out"))


CODRAW = {
    f"{split}_{n:05d}": {
        "image_id": n,
        "abs_t": "2,t_3s.png,0,3,7,100,200,0,0,s_0s.png,0,0,0,250,90,2,1",
        "dialog": [{"msg_t": "a boy", "msg_d": "ok"}, {"msg_t": "by a tree", "msg_d": "left ?"}],
    }
    for n, split in enumerate(("train", "val", "test"))
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "CoDraw"
    (folder / "Pngs").mkdir(parents=True)
    Image.new("RGBA", (500, 400), "green").save(folder / "Pngs" / "background.png")
    for name in ("t_3s", "s_0s"):
        Image.new("RGBA", (3, 1), "red").save(folder / "Pngs" / f"{name}.png")
    return folder


def test_codraw_with_one_field_changed(tmp_path: Path, source: Path) -> None:
    for _, value in damaged_records({"data": CODRAW}, seed=5, count=120):
        (source / "CoDraw_1_0.json").write_bytes(as_json(value))
        counts, _ = right_or_refused(lambda: codraw.make(source, tmp_path / "raw"))
        if counts:
            for split in [split for split, number in counts.items() if number]:
                path, _ = prepare(tmp_path / "raw", split, tmp_path / "out", KEEP, "1.0")
                assert all(row.file_name.startswith(f"CoDraw_{split}_") for row in checked(path))


def test_codraw_lines_with_bytes_changed(tmp_path: Path, source: Path) -> None:
    lines = "".join(json.dumps({"key": key, **entry}) + "\n" for key, entry in CODRAW.items()).encode()
    packed = gzip.compress(lines)
    damaged = [value for _, value in damaged_bytes(packed, seed=1, count=80)]
    damaged += [gzip.compress(value) for _, value in damaged_bytes(lines, seed=2, count=80)]
    for value in damaged:
        (source / "codraw_dialogs.jsonl.gz").write_bytes(value)
        right_or_refused(lambda: codraw.make(source, tmp_path / "raw"))


@pytest.mark.parametrize(
    "scene",
    ["1,t_3s.png,0,3,7,nan,200,0,0", "1,t_3s.png,0,3,7,inf,200,0,0", "1,t_3s.png,0,3,7,1e300,200,0,0",
     "1,t_3s.png,0,3,7,100,-20000,0,0", "1,t_3s.png,0,3,7,100,200,²,0", "9" * 5000, "-1", "1e9"],
)  # fmt: skip
def test_codraw_scenes_that_nobody_can_draw(tmp_path: Path, source: Path, scene: str) -> None:
    entry = CODRAW["val_00001"] | {"abs_t": scene}
    (source / "CoDraw_1_0.json").write_bytes(as_json({"data": {"val_00001": entry}}))
    _, said = right_or_refused(lambda: codraw.make(source, tmp_path / "raw"))
    assert "dialogue val_00001: not a scene (" in said


def test_a_codraw_image_twice_and_a_line_without_end(tmp_path: Path, source: Path) -> None:
    twice = {"train_00000": CODRAW["train_00000"], "train_00001": CODRAW["train_00000"]}
    (source / "CoDraw_1_0.json").write_bytes(as_json({"data": twice}))
    assert (
        "dialogue train_00001: image 0 appears twice"
        in right_or_refused(lambda: codraw.make(source, tmp_path / "raw"))[1]
    )
    (source / "CoDraw_1_0.json").unlink()
    (source / "codraw_dialogs.jsonl.gz").write_bytes(gzip.compress(b'{"key": "' + bytes(50_000_000)))
    assert "damaged or half downloaded" in right_or_refused(lambda: codraw.make(source, tmp_path / "raw"))[1]


# The corpus' file ---------------------------------------------------------------------------------------------------

ROWS = [Row(n, f"{n}.png", 8, 8, [(n, f"caption {n}")] * 2, [("is it", "yes")] * n, "said") for n in range(30)]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_corpus_with_bytes_changed(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "t.parquet"
    # Pages with checksums would be found out; ours have none, and other people's neither.
    pq.write_table(corpus.table(ROWS), path, compression=compression, row_group_size=8)
    for _, value in damaged_bytes(path.read_bytes(), seed=7, count=400):
        path.write_bytes(value)
        table, _ = right_or_refused(lambda: corpus.read(path))
        if table is not None:
            assert table.schema.equals(corpus.schema())
            assert len(set(table["image_id"].to_pylist())) == len(table)
            for row in corpus.rows(table):
                for text in (row.file_name, row.visdial_caption, *(text for _, text in row.captions)):
                    text.encode()


ODD = [
    pa.array([None] * 3, kind) for kind in (pa.null(), pa.int64(), pa.string(), pa.list_(pa.string()))
] + [
    pa.array([1, 2, 3]), pa.array([1.5, 2, 3]), pa.array(["a", "b", "c"]), pa.array([b"a", b"\xff", b"c"]),
    pa.array([[1], [2], [3]]), pa.array([["a"], [], ["b"]]), pa.array([{"a": 1}] * 3), pa.array([[{"text": "a"}]] * 3),
    pa.array([[[("x", 1)]]] * 3, pa.list_(pa.map_(pa.string(), pa.int64()))), pa.array([True, False, True]),
    pa.array(["a", "b", "a"]).dictionary_encode(), pa.array([2**63, 1, 2], pa.uint64()),
    pa.array([1, 2, 3], pa.timestamp("s")), pa.array([1, 2, 3], pa.decimal128(30, 2)),
    pa.array([None, [None], [{"question": None, "answer": None}]], corpus.schema().field("rounds").type),
]  # fmt: skip


@pytest.mark.parametrize("name", corpus.schema().names)
def test_columns_of_every_other_type(tmp_path: Path, name: str) -> None:
    table = corpus.table(ROWS[:3])
    place = table.column_names.index(name)
    for odd in ODD:
        pq.write_table(table.set_column(place, name, odd), tmp_path / "t.parquet")
        found, said = right_or_refused(lambda: corpus.read(tmp_path / "t.parquet"))
        assert found is None or corpus._plain(odd.type) in ("string", str(corpus.schema().field(name).type)), odd.type
        assert found is not None or f"'{name}'" in said or "image" in said


# Pictures ------------------------------------------------------------------------------------------------------------


def pictures() -> dict[str, bytes]:
    """A picture of every format and mode that Pillow writes."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    found = {}
    for kind, mode in (
        ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "I;16"),
        ("PNG", "1"), ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("TIFF", "F"), ("TIFF", "I;16"),
        ("WEBP", "RGBA"), ("BMP", "RGB"), ("PPM", "RGB"), ("PPM", "I"), ("TGA", "RGBA"), ("JPEG2000", "RGB"),
        ("ICO", "RGBA"),
        ("PCX", "P"), ("SGI", "RGB"), ("AVIF", "RGB"), ("MPO", "RGB"),
    ):  # fmt: skip
        buffer = io.BytesIO()
        first = image.convert("L").convert("I") if mode in ("I", "I;16") else image
        first.convert(mode).save(buffer, kind)
        found[f"{kind} {mode}"] = buffer.getvalue()
    return found


def test_pictures_with_bytes_changed(tmp_path: Path) -> None:
    """A changed pixel is another picture; but it is one, or it is named as none."""
    path, recipe = tmp_path / "picture", Recipe((8, 130), (None, 90))
    outcomes = {True: 0, False: 0}
    for name, data in pictures().items():
        for what, value in damaged_bytes(data, seed=11, count=40):
            path.write_bytes(value)
            (result,) = decode_all(None, 1, [path], recipe)
            outcomes[isinstance(result, Failed)] += 1
            if isinstance(result, Failed):
                one_line(result.reason)
            else:
                assert np.asarray(result[0]).shape == (8, 8, 3), (name, what)
                assert np.asarray(result[0]).dtype == np.uint8
                assert isinstance(result[1], bytes)
    assert min(outcomes.values()) > 100


def test_a_split_of_damaged_pictures(tmp_path: Path) -> None:
    """With `skip` the rest is made, aligned; whatever lies there under a picture's name."""
    folder = tmp_path / "raw" / "images" / "t"
    folder.mkdir(parents=True)
    good, rows = pictures()["PNG RGB"], []
    for number, (_, value) in enumerate(damaged_bytes(good, seed=2, count=40)):
        (folder / f"{number}.png").write_bytes(good if number % 4 == 0 else value)
        rows.append(Row(number, f"{number}.png", None, None, [], [], ""))
    corpus.write(rows, tmp_path / "t.parquet")
    settings = ImagesSettings(sizes=(8,), unreadable="skip")
    result = prepare_pictures(tmp_path / "t.parquet", tmp_path / "raw", "t", tmp_path / "out", settings)
    from store.reader import Store

    store = Store(tmp_path / "out" / "8")
    assert {0, 4, 8, 36} <= set(store.column("image_id").tolist())
    assert set(store.column("image_id").tolist()) | set(result.unreadable) == set(range(40))
    whole = store.take(store.column("row"))[store.column("image_id") % 4 == 0]
    assert (whole == whole[0]).all()
    for _, reason in result.unreadable.values():
        one_line(reason)


@pytest.mark.parametrize(
    "noted", [b"", b"[]", b"{}", b'[{"sha256": 5}]', b"[1]", b"\xff", b'"x"', b"[" * 100_000, b"null"]
)
def test_notes_of_an_earlier_run_only_spare_work(tmp_path: Path, noted: bytes) -> None:
    folder = tmp_path / "raw" / "images" / "t"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(pictures()["PNG RGB"])
    corpus.write([Row(1, "1.png", None, None, [], [], "")], tmp_path / "t.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "unreadable.json").write_bytes(noted)
    settings = ImagesSettings(sizes=(8,), unreadable="skip")
    assert prepare_pictures(tmp_path / "t.parquet", tmp_path / "raw", "t", tmp_path / "out", settings).images == 1


# Names of splits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["", "x" * 300, "x" * 5000, "../x", "a/b", "a\nb", "a\0b", "\udc80", "/etc/passwd"])
def test_names_that_no_split_has(tmp_path: Path, split: str) -> None:
    from click.testing import CliRunner

    from pipeline.prepare_cli import main
    from tests.support.outcomes import refused

    params = tmp_path / "params.yaml"
    params.write_text(f"raw: {tmp_path}\nvisdial_version: '1.0'\n")
    for command in ("corpus", "images"):
        refused(CliRunner().invoke(main, ["--params", str(params), command, "--split", split]))


def test_readers_given_nothing_of_theirs(tmp_path: Path) -> None:
    """Each other's files, and those of the whole house."""
    files: dict[str, bytes] = pictures() | {"coco": as_json(COCO), "visdial": as_json(VISDIAL)}
    corpus.write(ROWS, tmp_path / "c")
    files["parquet"] = (tmp_path / "c").read_bytes()
    readers: dict[str, Any] = {"coco": coco.read, "visdial": visdial.read, "parquet": corpus.read}
    for name, data in files.items():
        (tmp_path / "file").write_bytes(data)
        for reader, read in readers.items():
            found, said = right_or_refused(lambda read=read: read(tmp_path / "file"))
            assert (found is None) == (name != reader), (name, reader, said)


def test_a_folder_of_files_that_are_almost_named_right(tmp_path: Path) -> None:
    (tmp_path / "visdial").mkdir()
    for name in (
        "visdial_.json",
        "visdial__t.json",
        "visdial_1.0_.json",
        "visdial_1.0_t.json.part",
        "visdial_1.0_T.json",
    ):
        (tmp_path / "visdial" / name).write_text("{}")
    (tmp_path / "visdial" / "visdial_0.9_t.json").mkdir()
    _, said = right_or_refused(lambda: releases.find(tmp_path, "t", "1.0"))
    assert "no such file for split 't'; found there: " in said
