"""chatpainter-evaluate from end to end for systems that paint a picture after every turn."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.support.models import SMALL_GENEVA, SMALL_ITERATIVE
from tests.support.worlds import small_world
from trainer import generator_file, systems
from trainer.distributed import Ranks
from trainer.evaluation.cli import main
from trainer.evaluation.split import Condition, HeldOutSplit, paint, paint_rounds
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


def untrained(world: Path, name: str, section: dict[str, Any]) -> systems.Generator:
    """A generator over the world's stores as it is before its first step."""
    system, data = systems.find(name), world / "data"
    config = system.configure({name: section}, "params.yaml")
    read = TrainingData(system.inputs(config), data / "embeddings/train", data / "images/train")
    return system.trainable(config, read, Ranks(0, 1, torch.device("cpu")), None).average


PAINTERS = pytest.mark.parametrize(
    ("name", "section"), [("geneva", {"networks": SMALL_GENEVA}), ("iterative", SMALL_ITERATIVE)], ids=lambda one: one
)


@PAINTERS
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
    assert {"picture_own_scene_accuracy", "picture_reversed_scene_accuracy", "copy_start_scene_accuracy"} <= set(about)
    with open(tmp_path / "out/plots/told_by_round.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # Nothing is told before the first round: a caption changes no picture.
    assert rows[0] == {"rounds": "0", "told": "", "kept": "", "settled": ""}
    assert len(rows) == 11
    assert 0 <= float(rows[1]["told"]) <= 1
    assert (tmp_path / "out/gallery.html").read_text().count("data:image/png;base64,") == 6 * 3
    assert (tmp_path / "out/gallery.png").stat().st_size > 0


@PAINTERS
def test_pictures_of_every_number_of_rounds_come_from_one_film(
    edited: Path, name: str, section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = untrained(edited, name, section)
    painted, random = [], torch.Generator().manual_seed(1)
    assert isinstance(generator, systems.PaintsFilms)
    film = generator.film
    monkeypatch.setattr(generator, "film", lambda *told: painted.append(told) or film(*told))
    with torch.no_grad():
        for weights in generator.parameters():  # as they are, a picture hardly differs from the one before
            weights += 0.3 * torch.randn(weights.shape, generator=random)
    held_out = HeldOutSplit(edited / "data/embeddings/val", edited / "data/images/val", generator.inputs, (64,), 5)
    rows, curve = np.arange(7), (0, 1, 4, 9, 10, 14)
    for sample in (True, False):
        apart = {n: paint(generator, held_out, rows, Condition("own", n), sample)[64] for n in curve}
        assert len({pictures.tobytes() for pictures in apart.values()}) == len(curve) - 1  # of ten rounds in all
        painted.clear()
        together = paint_rounds(generator, held_out, rows, curve, sample)
        assert len(painted) == 1
        for n in curve:
            np.testing.assert_array_equal(together[n], apart[n], err_msg=f"after {n} rounds")
