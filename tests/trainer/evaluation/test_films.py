"""chatpainter-evaluate from end to end for systems that paint a picture after every turn."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tests.support.models import SMALL_GENEVA, SMALL_ITERATIVE
from tests.support.worlds import small_world
from trainer import generator_file, systems
from trainer.distributed import Ranks
from trainer.evaluation.cli import main
from trainer.feed.data import TrainingData

PROBED = 9


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of 24 + 12 scenes whose rounds change what earlier ones said, with the pictures of every round."""
    root = tmp_path_factory.mktemp("edited")
    classifier = {"epochs": 1, "batch": 16, "width": 4, "features": 8}
    small_world(
        root,
        world={"seed": 3, "train": 24, "val": 12, "image_size": 76, "edits": 0.5, "turn_pictures": True},
        images={"sizes": [76], "turn_size": 76},
        evaluate={"probe_pictures": PROBED, "gallery": 6, "noises": 2, "classifier": classifier},
    )
    return root


@pytest.mark.parametrize(
    ("name", "section"), [("geneva", {"networks": SMALL_GENEVA}), ("iterative", SMALL_ITERATIVE)], ids=lambda one: one
)
def test_a_painter_of_films_is_evaluated_round_by_round(
    edited: Path, name: str, section: dict[str, Any], tmp_path: Path
) -> None:
    system, data = systems.find(name), edited / "data"
    config = system.configure({name: section}, "params.yaml")
    read = TrainingData(system.inputs(config), data / "embeddings/train", data / "images/train")
    generator = system.trainable(config, read, Ranks(0, 1, torch.device("cpu")), None).average
    generator_file.save(generator, tmp_path / "generator.safetensors")
    options = {
        "params": edited / "params.yaml",
        "embeddings": data / "embeddings",
        "images": data / "images",
        "run": tmp_path,
        "out": tmp_path / "out",
        "device": "cpu",
        "classifier": edited / "classifier.safetensors",
    }
    result = CliRunner().invoke(main, [str(part) for key, value in options.items() for part in (f"--{key}", value)])
    assert result.exit_code == 0, (result.output, result.exception)
    values = json.loads((tmp_path / "out/metrics.json").read_text())
    about = {figure["name"]: figure for figure in values["figures"]}
    assert values["real64_colour_accuracy"] == 1
    assert {"picture_told", "picture_kept", "picture_settled", "picture_classifier_told"} <= set(about)
    assert {"picture_detected_f1", "picture_detected_rsim", "picture_domain_fid"} <= set(about)
    assert about["picture_shuffled_colour_accuracy"]["pictures"] == PROBED
    with open(tmp_path / "out/plots/told_by_round.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # Nothing is told before the first round: a caption changes no picture.
    assert rows[0] == {"rounds": "0", "told": "", "kept": "", "settled": ""}
    assert len(rows) == 11
    assert 0 <= float(rows[1]["told"]) <= 1
    assert (tmp_path / "out/gallery.html").read_text().count("data:image/png;base64,") == 6 * 3
    assert (tmp_path / "out/gallery.png").stat().st_size > 0
