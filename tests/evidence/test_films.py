"""A dialogue turn by turn, true and as every arm paints it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from evidence import films, trained
from evidence import profile as profiles
from evidence.profile import Job
from store.errors import ChatPainterError
from tests.support.models import SMALL_ITERATIVE
from tests.support.worlds import small_world, untrained_generator
from trainer import generator_file, systems
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData

IMAGE, ROUNDS = 1_000_002, 10
ARMS: dict[str, Any] = {
    "collapsed": {"model": {"dialogue": "collapsed"}},
    "recurrent": {"model": {"dialogue": "recurrent"}},
    "iterative": {"system": "iterative", "iterative": SMALL_ITERATIVE},
}


@pytest.fixture
def finished(tmp_path: Path, load: Any) -> tuple[Path, dict[str, Job]]:
    """A work folder with an edited world, and its arms, whose generators are noise."""
    work = tmp_path / "work"
    world = {"seed": 3, "train": 12, "val": 4, "image_size": 76, "edits": 0.5, "turn_pictures": True}
    work.mkdir()
    small_world(work, world=world, images={"sizes": [76], "turn_size": 76})
    sections = yaml.safe_load((work / "params.yaml").read_text())
    overrides = {**sections, "evaluate": {"split": "val"}}
    plan, values = load(arms=ARMS, compare=[], ablations=[], seeds=[0], overrides=overrides)
    jobs = {job.arm: job for job in profiles.jobs(plan, values)}
    for arm, job in jobs.items():
        if arm == "iterative":
            system, data = systems.find(arm), work / "data"
            config = system.configure({arm: SMALL_ITERATIVE}, "params.yaml")
            read = TrainingData(system.inputs(config), data / "embeddings/train", data / "images/train")
            generator = system.trainable(config, read, Ranks(0, 1, torch.device("cpu")), None).average
        else:
            generator = untrained_generator(dialogue=arm)
        (work / "trainings" / job.name / "run").mkdir(parents=True)
        generator_file.save(generator, work / "trainings" / job.name / "run/generator.safetensors")
    return work, jobs


def test_every_turn_of_a_dialogue_true_and_painted(finished: tuple[Path, dict[str, Job]], tmp_path: Path) -> None:
    work, jobs = finished
    true = trained.true_film(work, "val", IMAGE, 64)
    assert true.shape == (ROUNDS + 1, 64, 64, 3)
    assert (true[0] == 255).all()  # blank paper
    one = trained.Trained(work, jobs["iterative"])
    held_out = one.texts("val")
    at = np.flatnonzero(held_out.image_ids == IMAGE)
    assert (held_out.real(at, 64)[0].astype(int) - true[-1]).std() < 3  # the last one is the finished picture
    films.strip(work, jobs, IMAGE, tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as picture:
        sheet = np.asarray(picture)
    cell, gap = 192, 6
    beside = sheet.shape[1] - gap - (ROUNDS + 1) * (cell + gap)

    def shown(row: int, column: int) -> np.ndarray:
        top, left = gap + row * (cell + gap), gap + beside + column * (cell + gap)
        return sheet[top : top + cell : 3, left : left + cell : 3]

    for number, expected in enumerate(true):
        assert (shown(0, number) == expected).all()
    # Rows: the truth, iterative and recurrent; a collapsed dialogue cannot end early.
    assert (shown(1, 0) == true[0]).all()
    assert (shown(1, 4) == one.paint(held_out, at, rounds=4)[0]).all()
    assert sheet.shape[0] < 4 * (cell + gap) + 16 * 15


def test_what_cannot_be_shown_is_said(finished: tuple[Path, dict[str, Job]], tmp_path: Path) -> None:
    work, jobs = finished
    with pytest.raises(ChatPainterError, match="no image 7 in split val"):
        films.strip(work, jobs, 7, tmp_path / "strip.png")
    with pytest.raises(ChatPainterError, match="collapsed: read no turns"):
        films.strip(work, {"collapsed": jobs["collapsed"]}, IMAGE, tmp_path / "strip.png")
    assert not (tmp_path / "strip.png").exists()
