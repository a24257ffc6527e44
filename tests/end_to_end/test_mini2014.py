"""Real COCO pictures with real VisDial rounds, down the road by the commands themselves."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from .conftest import Project, stages_run


@pytest.fixture(scope="module")
def prepared(mini: Project) -> Project:
    """Down to the stores."""
    mini.run("dvc", "init", "--no-scm", "-q")
    mini.run("dvc", "repro", "images", "embed")
    return mini


def test_real_pictures_and_dialogues_become_stores(prepared: Project) -> None:
    report = json.loads((prepared.folder / "data/corpus/mini2014.report.json").read_text())
    assert report["lacking"]["without_caption"]["count"] == 17
    assert pq.read_table(prepared.folder / "data/corpus/mini2014.parquet").num_rows == 8
    verified = prepared.run("chatpainter-store", "verify", "data").stdout
    assert verified.count("whole: ") == 3 + 2, verified


@pytest.mark.slow
def test_real_pictures_and_dialogues_end_in_a_painting(prepared: Project) -> None:
    for stage in "stage1", "stage2":
        prepared.run("chatpainter-train", stage, "--split", "mini2014", "--held-out", "mini2014", "--steps", "20")
        assert list((prepared.folder / "runs" / stage / "grids").glob("*.png"))
        assert (prepared.folder / "runs" / stage / "generator.safetensors").is_file()


def test_a_changed_answer_makes_the_stores_of_dialogues_again_and_no_other_file(prepared: Project) -> None:
    """Every stage below the corpus looks again; files that do not depend on the answer are not even written."""
    folders = [prepared.folder / "data/images", prepared.folder / "data/embeddings"]

    def written() -> dict[str, int]:
        files = [file for folder in folders for file in folder.rglob("*.h5")]
        return {str(file.relative_to(prepared.folder)): file.stat().st_mtime_ns for file in files}

    before = written()
    file = prepared.folder / "data/raw/mini/visdial/visdial_0.9_mini2014.json"
    values = json.loads(file.read_text())
    row = pq.read_table(prepared.folder / "data/corpus/mini2014.parquet").to_pylist()[0]
    dialogue = next(each for each in values["data"]["dialogs"] if each["image_id"] == row["image_id"])
    values["data"]["answers"].append("not in the least")
    dialogue["dialog"][0]["answer"] = len(values["data"]["answers"]) - 1
    file.write_text(json.dumps(values))
    output = prepared.run("dvc", "repro", "images", "embed").stdout
    assert stages_run(output) == {f"{stage}@mini2014" for stage in ("corpus", "images", "embed")} | {"weights"}
    after = written()
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert {Path(name).parent.name for name in changed} == {"turns", "dialogues"}
    assert prepared.run("dvc", "repro", "images", "embed").stdout.count("Running stage") == 0
