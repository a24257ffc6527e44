"""Finished trainings opened again: the picture of all arms, and the generalisation gap."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from evidence import generalisation, plots, results, trained
from evidence import profile as profiles
from tests.support.worlds import untrained_generator
from trainer import generator_file

EVALUATE = {"split": "val", "batch": 7, "classifier": {"epochs": 1, "batch": 16, "width": 4, "features": 8}}


@pytest.fixture
def finished(world, load):
    """Results of two arms whose generators are noise, in the world's folder."""
    sections = yaml.safe_load((world / "params.yaml").read_text())
    plan, values = load(seeds=[0], ablations=[], overrides={**sections, "evaluate": EVALUATE})
    jobs = profiles.jobs(plan, values)
    for job in jobs:
        folder = world / "trainings" / job.name
        (folder / "run").mkdir(parents=True, exist_ok=True)
        (folder / "params.yaml").write_text(yaml.safe_dump(job.params))
        generator_file.save(
            untrained_generator(dialogue=job.params["model"]["dialogue"]), folder / "run/generator.safetensors"
        )
    return results.Results(plan, world, jobs, {}, {}, {}, {})


def test_all_arms_paint_the_same_texts(finished, tmp_path):
    path = plots.pictures(tmp_path / "pictures.png", finished)
    with Image.open(path) as picture:
        # Rows of real pictures and of two arms, eight columns, with words beside and below.
        assert picture.width > 8 * 192
        assert picture.height > 3 * 192
    (finished.work / "trainings/caption-0/run/generator.safetensors").unlink()
    assert plots.pictures(tmp_path / "none.png", finished) is None


def test_pictures_are_painted_from_the_split_s_own_texts(finished):
    one = trained.Trained(finished.work, finished.of("recurrent")[0])
    assert (one.dialogue, one.side) == ("recurrent", 64)
    assert [len(one.texts(split)) for split in ("train", "val")] == [48, 24]
    painted = one.paint(one.texts("val"), np.arange(3))
    assert (painted.shape, painted.dtype) == ((3, 64, 64, 3), np.uint8)
    assert (painted == one.paint(one.texts("val"), np.arange(3))).all()
    assert (painted[0] != painted[1]).any()


def test_training_and_held_out_texts_are_scored_alike(finished):
    job = finished.of("recurrent")[0]
    folder = finished.work / "trainings" / job.name
    [(which, seen, unseen)] = generalisation.scores(finished.work, "colour_accuracy", [job], 16, "cpu")
    assert which is job
    for split, score in (("train", seen), ("val", unseen)):
        record = json.loads((folder / f"{split}-16/metrics.json").read_text())
        assert (record["evaluated"][0]["split"], record["evaluated"][0]["images"]) == (split, 16)
        assert record["stage1_colour_accuracy"] == pytest.approx(score, abs=1e-6)
    # The classifier is the same for both: it learned from the same pictures.
    one, other = (
        load_file(finished.work / name) for name in ("classifier.safetensors", "classifier-train.safetensors")
    )
    assert all((one[name] == other[name]).all() for name in one)
    # What is known is not painted again.
    (folder / "run/generator.safetensors").unlink()
    assert list(generalisation.scores(finished.work, "colour_accuracy", [job], 16, "cpu")) == [(job, seen, unseen)]


def test_the_gap_between_training_and_held_out_texts(load):
    plan, _ = load()
    found = {"caption": {0: (0.5, 0.4), 1: (0.5, 0.5)}, "recurrent": {0: (0.9, 0.5), 1: (0.8, 0.5)}}
    assert generalisation.table(found).rows == [
        ["caption", "2", "0.500 ± 0.000", "0.450 ± 0.071", "0.050 ± 0.071"],
        ["recurrent", "2", "0.850 ± 0.071", "0.500 ± 0.000", "0.350 ± 0.071"],
    ]
    [compared] = generalisation.comparisons(plan, found)
    assert (compared["a"], compared["b"]) == ("recurrent", "caption")
    assert compared["over_seeds"]["difference"] == pytest.approx(0.3)  # of 0.4 − 0.1 and 0.3 − 0.0
