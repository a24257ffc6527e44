"""Captions, dialogues and pictures joined into one Parquet file, and the command that does it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpora import corpus
from pipeline.corpora.coco import Image
from pipeline.corpora.join import CorpusSettings, join
from pipeline.corpora.prepare import prepare
from pipeline.corpora.visdial import DialogueRecord
from pipeline.pictures.files import PictureFiles
from pipeline.prepare_cli import main
from store.errors import ChatPainterError

KEEP = CorpusSettings("keep", "keep", "keep")


class Folder(PictureFiles):
    """Has the files of these images."""

    def __init__(self, there: set[int]) -> None:
        self.there = there

    def find(self, file_name: str) -> Path | None:
        return Path(file_name) if int(Path(file_name).stem) in self.there else None

    def find_official(self, image_id: int, prefixes: tuple[str, ...] = ()) -> Path | None:
        return self.find(f"{image_id}.jpg")

    def name(self, path: Path) -> str:
        return path.name


@given(st.data())
def test_who_stays_and_who_is_counted(data: st.DataObject) -> None:
    listed = data.draw(st.lists(st.integers(0, 30), unique=True))
    captioned = data.draw(st.sets(st.sampled_from(listed))) if listed else set()
    talked = data.draw(st.lists(st.integers(0, 30), unique=True))
    silent = data.draw(st.sets(st.sampled_from(talked))) if talked else set()
    there = data.draw(st.sets(st.integers(0, 30)))
    alone = data.draw(st.booleans())
    fates: list[Any] = [data.draw(st.sampled_from(["drop", "keep"])) for _ in range(3)]
    images = {i: Image(i, f"{i}.jpg", 1, 2, [(i, "c")] if i in captioned else []) for i in listed}
    dialogues = {i: DialogueRecord(i, "v", [] if i in silent else [("q", "a")]) for i in talked}

    rows, counts = join(images, dialogues, cast(Any, Folder(there)), CorpusSettings(*fates), alone)

    everyone = listed + [i for i in talked if i not in listed and alone]
    without = [
        [i for i in everyone if i not in captioned],
        [i for i in everyone if i not in talked or i in silent],
        [i for i in everyone if i not in there],
    ]
    dropped = {i for some, fate in zip(without, fates) for i in some if fate == "drop"}
    assert [row.image_id for row in rows] == [i for i in everyone if i not in dropped]
    for lack, some in zip((counts.without_caption, counts.without_dialogue, counts.without_image), without):
        assert (lack.count, lack.first) == (len(some), some[:5])
    assert counts.other_splits == (0 if alone else len([i for i in talked if i not in listed]))
    for row in rows:
        assert row.captions == ([(row.image_id, "c")] if row.image_id in captioned else [])
        assert row.rounds == ([("q", "a")] if row.image_id in talked and row.image_id not in silent else [])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A dataset of four images: 1 has all, 2 no caption, 3 no dialogue, 4 no file."""
    folder = tmp_path / "raw"
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 10 * n, "height": 5} for n in (3, 1, 2, 4)]
    captions = [{"id": 10 * n + k, "image_id": n, "caption": f"caption {k} of {n}"} for n in (1, 3, 4) for k in (0, 1)]
    write(folder / "annotations" / "captions_val.json", {"images": images, "annotations": captions})
    dialogs = [
        {"image_id": n, "caption": "said", "dialog": [{"question": 0, "answer": 0}, {"question": 1}]} for n in (2, 4, 1)
    ]
    data = {"questions": ["what", "where"], "answers": ["here"], "dialogs": dialogs}
    write(folder / "visdial" / "visdial_1.0_val.json", {"version": "1.0", "split": "val", "data": data})
    for n in (1, 2, 3):
        write(folder / "images" / "val" / f"{n}.jpg", {})
    return folder


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def test_one_row_an_image_with_everything_said_about_it(raw: Path, tmp_path: Path) -> None:
    path, report = prepare(raw, "val", tmp_path / "out", CorpusSettings(), "1.0")
    assert corpus.read(path).to_pylist() == [
        {
            "image_id": 1,
            "file_name": "1.jpg",
            "width": 10,
            "height": 5,
            "captions": [{"caption_id": 10, "text": "caption 0 of 1"}, {"caption_id": 11, "text": "caption 1 of 1"}],
            "rounds": [{"question": "what", "answer": "here"}, {"question": "where", "answer": ""}],
            "visdial_caption": "said",
        }
    ]
    assert report == json.loads((tmp_path / "out" / "val.report.json").read_text())
    assert report["lacking"] == {
        "without_caption": {"fate": "drop", "count": 1, "first": [2]},
        "without_dialogue": {"fate": "drop", "count": 1, "first": [3]},
        "without_image": {"fate": "drop", "count": 1, "first": [4]},
    }
    assert (report["images"], report["captions"], report["rounds"]) == (1, 2, 2)


def test_kept_images_come_in_the_order_of_the_captions_file(raw: Path, tmp_path: Path) -> None:
    path, report = prepare(raw, "val", tmp_path, KEEP, None)
    table = corpus.read(path)
    assert table["image_id"].to_pylist() == [3, 1, 2, 4]
    assert [len(rounds) for rounds in table["rounds"].to_pylist()] == [0, 2, 2, 2]
    assert report["rounds_per_dialogue"] == {"0": 1, "2": 3}
    assert table["file_name"].to_pylist()[3] == "4.jpg"


def test_the_same_input_gives_the_same_bytes_and_other_input_others(raw: Path, tmp_path: Path) -> None:
    def made() -> list[bytes]:
        prepare(raw, "val", tmp_path / "out", KEEP, "1.0")
        return [(tmp_path / "out" / name).read_bytes() for name in ("val.parquet", "val.report.json")]

    first = made()
    assert made() == first
    path = raw / "visdial" / "visdial_1.0_val.json"
    path.write_text(path.read_text().replace("here", "over there"))
    assert made()[0] != first[0]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["val.parquet", "val.report.json"]


def test_a_failed_run_leaves_the_corpus_as_it_was(raw: Path, tmp_path: Path) -> None:
    path, _ = prepare(raw, "val", tmp_path / "out", KEEP, "1.0")
    before = path.read_bytes()
    (raw / "visdial" / "visdial_1.0_val.json").write_text('{"data": {')
    with pytest.raises(ChatPainterError):
        prepare(raw, "val", tmp_path / "out", KEEP, "1.0")
    assert path.read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_no_image_left_is_an_error_that_counts(raw: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw / "images")
    with pytest.raises(ChatPainterError, match=r"no image is left .*4 without image.*images/val") as caught:
        prepare(raw, "val", tmp_path / "out", CorpusSettings(), "1.0")
    assert "\n" not in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_damaged_or_foreign_corpus_is_refused(raw: Path, tmp_path: Path) -> None:
    path, _ = prepare(raw, "val", tmp_path, KEEP, "1.0")
    whole = path.read_bytes()
    for bad in (whole[: len(whole) // 2], b"", b"PAR1"):
        path.write_bytes(bad)
        with pytest.raises(ChatPainterError, match="chatpainter-prepare corpus --split val"):
            corpus.read(path)
    pq.write_table(corpus_without_rounds(whole, tmp_path), path)
    with pytest.raises(ChatPainterError, match="not a corpus"):
        corpus.read(path)
    with pytest.raises(ChatPainterError, match="no such corpus"):
        corpus.read(tmp_path / "train.parquet")


def corpus_without_rounds(whole: bytes, tmp_path: Path) -> object:
    (tmp_path / "whole.parquet").write_bytes(whole)
    return pq.read_table(tmp_path / "whole.parquet").drop_columns(["rounds"])


# The command ------------------------------------------------------------------------------------------------------


def run(tmp_path: Path, *arguments: object, params: str = "dataset: sample\n") -> Result:
    (tmp_path / "params.yaml").write_text(params)
    return CliRunner().invoke(main, ["--params", str(tmp_path / "params.yaml"), *map(str, arguments)])


def test_the_command_reads_params_and_options_go_before_them(raw: Path, tmp_path: Path) -> None:
    params = f"raw: {raw}\nvisdial_version: '1.0'\nsplits: [val]\ncorpus: {{without_caption: keep}}\n"
    result = run(tmp_path, "corpus", "--out", tmp_path / "c", params=params)
    assert result.exit_code == 0, result.output
    assert "val.parquet: 2 images, 2 captions, 4 rounds" in result.output
    assert "without caption: 1, kept (images 2)" in result.output
    result = run(tmp_path, "corpus", "--out", tmp_path / "c", "--without-caption", "drop", params=params)
    assert "val.parquet: 1 images" in result.output
    assert "without image: 1, left out (images 4)" in result.output


@pytest.mark.parametrize(
    ("arguments", "params", "message"),
    [
        (
            ["--split", "test"],
            "raw: {raw}\nvisdial_version: '1.0'\n",
            "no such file for split 'test'; splits found there: val",
        ),
        (["--split", "val"], "raw: {raw}\nvisdial_version: '0.9'\n", "visdial_0.9_val.json: no such file"),
        (["--split", "val"], "raw: {raw}/nowhere\nvisdial_version: '1.0'\n", "no captions_*.json lies there"),
        (["--split", "val"], "corpus: {{without_captoin: keep}}\n", "did you mean 'without_caption'?"),
        (["--split", "val"], "splits: [val]\n", "raw must be given"),
        (["--split", "val", "--raw", "{raw}", "--out", "{raw}/images/val/1.jpg"], "dataset: sample", "1.jpg"),
    ],
)
def test_what_is_wrong_is_one_line(raw: Path, tmp_path: Path, arguments: list, params: str, message: str) -> None:
    result = run(tmp_path, "corpus", *(a.format(raw=raw) for a in arguments), params=params.format(raw=raw))
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.startswith("Error: ")
    assert len(result.output.strip().splitlines()) == 1


def test_the_real_mini_set(shared_data: Path, tmp_path: Path) -> None:
    result = run(tmp_path, "corpus", "--split", "mini2014", "--raw", shared_data / "coco_mini", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "8 images, 30 captions, 70 rounds" in result.output
    assert "without caption: 17, left out" in result.output
    arguments = ["--raw", shared_data / "coco_mini", "--out", tmp_path, "--without-caption", "keep"]
    assert "25 images, 30 captions, 176 rounds" in run(tmp_path, "corpus", "--split", "mini2014", *arguments).output


def test_help_is_there_at_once() -> None:
    seen = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from pipeline.prepare_cli import main; main(['--help'])"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(corpus.__file__).parents[2])},
    )
    assert all(command in seen.stdout for command in ("world", "corpus", "images", "codraw", "weights"))
    imported = {line.split("|")[-1].strip() for line in seen.stderr.splitlines()}
    assert not imported & {"torch", "dask", "pandas", "pyarrow", "numpy", "PIL", "tqdm", "h5py"}
