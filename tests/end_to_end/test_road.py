"""`dvc repro` from nothing to painted pictures; and what a change re-runs."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from .conftest import Project, stages_run


def test_the_road_ends_in_pictures_and_figures(road: Project) -> None:
    for stage, size in ("stage1", 64), ("stage2", 256):
        grids = sorted((road.folder / "runs" / stage / "grids").glob("*.png"))
        assert grids, f"{stage} painted no grid"
        with Image.open(grids[-1]) as grid:
            assert min(grid.size) >= size
            assert np.asarray(grid.convert("L")).std() > 0
        assert (road.folder / "runs" / stage / "generator.safetensors").is_file()
    figures = json.loads((road.folder / "runs/evaluate/metrics.json").read_text())
    assert figures
    shown = road.run("dvc", "metrics", "show").stdout
    assert "runs/evaluate/metrics.json" in shown
    assert "stage2" in road.run("dvc", "dag").stdout


def test_every_store_made_from_untrained_weights_says_so(road: Project) -> None:
    manifests = sorted((road.folder / "data/embeddings").rglob("manifest.json"))
    assert len(manifests) == 6
    for manifest in manifests:
        assert '"trained": false' in manifest.read_text()


def test_a_second_repro_does_nothing(road: Project) -> None:
    assert stages_run(road.run("dvc", "repro").stdout) == set()


def test_trainings_done_again_give_the_same_lock(road: Project) -> None:
    lock = (road.folder / "dvc.lock").read_bytes()
    for stage in "stage1", "stage2":
        shutil.rmtree(road.folder / "runs" / stage)
    assert stages_run(road.run("dvc", "repro").stdout) == {"stage1", "stage2"}  # evaluated already: the same generator
    assert (road.folder / "dvc.lock").read_bytes() == lock


def test_a_change_of_stage_2_reruns_stage_2_only(road: Project) -> None:
    road.params({"stage2": {"g_lr": 1e-5}})
    assert stages_run(road.run("dvc", "repro").stdout) == {"stage2", "evaluate"}


def test_vectors_travel_through_a_remote(road: Project, tmp_path) -> None:
    vectors = next((road.folder / "data/embeddings/val/turns").glob("vectors-*.h5"))
    before = vectors.read_bytes()
    road.run("dvc", "remote", "add", "-f", "-d", "here", str(tmp_path))
    road.run("dvc", "push", "-q", "embed@val")
    vectors.unlink()
    road.run("rm", "-rf", ".dvc/cache")
    road.run("dvc", "pull", "-q", "-f", "embed@val")
    assert vectors.read_bytes() == before
    road.run("chatpainter-store", "verify", "data/embeddings/val/turns")


@pytest.mark.parametrize("command", ["prepare", "embed", "train", "evaluate"])
def test_an_unknown_key_is_refused_by_every_command(road: Project, command: str) -> None:
    file = road.folder / "params.yaml"
    before = file.read_text()
    file.write_text(yaml.safe_dump({**yaml.safe_load(before), "stagee1": {}}))
    words = {
        "prepare": ["chatpainter-prepare", "corpus", "--split", "val"],
        "embed": ["chatpainter-embed", "--split", "val"],
        "train": ["chatpainter-train", "stage1"],
        "evaluate": ["chatpainter-evaluate"],
    }[command]
    try:
        output = road.run(*words, status=1).stdout
    finally:
        file.write_text(before)
    assert "unknown key 'stagee1'; did you mean 'stage1'?" in output
    assert "Traceback" not in output
