"""Real COCO pictures with real VisDial rounds, down the road by the commands themselves."""

import json
import shutil

import pyarrow.parquet as pq

from .conftest import Project


def test_real_pictures_and_dialogues_end_in_a_painting(mini: Project) -> None:
    output = mini.run("chatpainter-prepare", "corpus", "--split", "mini2014").stdout
    report = json.loads((mini.folder / "data/corpus/mini2014.report.json").read_text())
    assert report["lacking"]["without_caption"]["count"] == 17
    assert "17" in output
    corpus = pq.read_table(mini.folder / "data/corpus/mini2014.parquet")
    assert corpus.num_rows == 8
    mini.run("chatpainter-prepare", "images", "--split", "mini2014")
    mini.run("chatpainter-prepare", "weights")
    mini.run("chatpainter-embed", "--split", "mini2014")
    for kind in "captions", "turns", "dialogues":
        mini.run("chatpainter-store", "verify", f"data/embeddings/mini2014/{kind}")
    for stage in "stage1", "stage2":
        mini.run("chatpainter-train", stage, "--split", "mini2014", "--held-out", "mini2014", "--steps", "20")
        assert list((mini.folder / "runs" / stage / "grids").glob("*.png"))
        assert (mini.folder / "runs" / stage / "generator.safetensors").is_file()


def test_a_changed_dialogue_reruns_what_depends_on_it_only(mini: Project, tmp_path) -> None:
    """One answer changes: the corpus and what is made from it follow, and the pictures stay as they were."""
    shutil.rmtree(mini.folder / "data/corpus", ignore_errors=True)
    for folder in "data/embeddings", "data/images", "data/untrained", "runs":
        shutil.rmtree(mini.folder / folder, ignore_errors=True)
    mini.run("dvc", "init", "--no-scm", "-q")
    mini.run("dvc", "repro", "images", "embed")
    pictures = mini.folder / "data/images/mini2014/76/images-00000.h5"
    before = pictures.stat().st_mtime_ns, pictures.read_bytes()
    file = mini.folder / "data/raw/mini/visdial/visdial_0.9_mini2014.json"
    values = json.loads(file.read_text())
    values["data"]["answers"][0] = "no"
    file.write_text(json.dumps(values))
    output = mini.run("dvc", "repro", "images", "embed").stdout
    assert "corpus@mini2014" in output
    assert "embed@mini2014" in output
    assert pictures.read_bytes() == before[1]
