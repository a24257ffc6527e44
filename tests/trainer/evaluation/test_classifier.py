"""The classifier learns from real pictures, is kept with its own score, and CoDraw's scores are counted right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError
from store.reader import Store
from trainer.evaluation import classifier
from trainer.evaluation.settings import ClassifierSettings
from trainer.evaluation.truth import Head, Truth

SMALL = ClassifierSettings(width=4, features=8, epochs=1, batch=16)


@pytest.fixture(scope="module")
def truth(world: Path) -> Truth:
    return Truth.load(world / "data/raw/sample/truth_train.json")


def test_it_learns_and_larger_pictures_are_judged_at_the_same_size(world, truth):
    settings = ClassifierSettings(width=8, features=32, epochs=20, batch=8, rate=1e-2)
    store = Store(world / "data/images/train/76")
    targets = truth.targets(store.column("image_id"))
    model = classifier.train(store, targets, truth.heads(), settings, "cpu", seed=0)
    values = classifier.scores(classifier.read(model, store, 20)[0], targets, truth.heads())
    assert values["ground_accuracy"] > 0.9
    assert values["colour_accuracy"] > 0.5  # chance is 1/6 of those it sees
    large = Store(world / "data/images/train/304")
    pictures = large.take(np.arange(48))[:, 24:280, 24:280]  # as StackGAN crops 256 from 304; averaged down to 64
    found = classifier.answers(model.predict(pictures)[1], model.heads)
    assert classifier.scores(found, targets, truth.heads())["ground_accuracy"] > 0.9


def test_the_same_seed_gives_the_same_classifier(world, truth):
    store = Store(world / "data/images/train/76")
    targets = truth.targets(store.column("image_id"))
    torch.manual_seed(5)
    one = classifier.train(store, targets, truth.heads(), SMALL, "cpu", seed=0)
    torch.manual_seed(6)
    two = classifier.train(store, targets, truth.heads(), SMALL, "cpu", seed=0)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))


def test_log_posteriors_are_a_distribution_for_every_question(truth):
    model = classifier.Classifier(truth.heads(), SMALL).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    features, log_posteriors, middles = model.predict(pictures)
    assert middles is None
    assert features.shape == (5, 8)
    for part, head in zip(classifier.per_head(log_posteriors, truth.heads()), truth.heads()):
        assert part.shape == (5, len(head.classes))
        np.testing.assert_allclose(np.exp(part).sum(axis=1), 1, rtol=1e-5)


def test_keeping(tmp_path, truth):
    model = classifier.Classifier(truth.heads(), SMALL).eval()
    path = tmp_path / "classifier.safetensors"
    assert classifier.kept(path, truth, {"a": 1}) is None
    classifier.keep(model, SMALL, path, {"a": 1}, {"shape_accuracy": 0.5})
    assert classifier.kept(path, truth, {"a": 2}) is None
    again, held_out = classifier.kept(path, truth, {"a": 1})
    assert held_out == {"shape_accuracy": 0.5}
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(again.predict(pictures)[1], model.predict(pictures)[1])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ChatPainterError, match="delete it"):
        classifier.kept(path, truth, {"a": 1})


class Dots:
    """Pictures with one dot each, red or blue; where and which is known."""

    def __init__(self, n: int) -> None:
        random = np.random.default_rng(4)
        self.middles = np.full((n, 2, 2), np.nan, np.float32)
        self.there = np.zeros((n, 2), np.int64)
        self.pictures = np.zeros((n, 76, 76, 3), np.uint8)
        for row, (x, y) in enumerate(random.integers(14, 62, (n, 2))):
            kind = row % 2
            self.there[row, kind], self.middles[row, kind] = 1, ((x + 0.5) / 76, (y + 0.5) / 76)
            self.pictures[row, y - 4 : y + 5, x - 4 : x + 5, 2 * kind] = 255

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.pictures[rows]


RED_AND_BLUE = [Head(name, "sprite", ("absent", "present")) for name in ("red", "blue")]


def test_who_learns_where_answers_as_it_would_without():
    dots = Dots(64)
    plain = classifier.train(dots, dots.there, RED_AND_BLUE, SMALL, "cpu", 0)
    state = classifier.train(dots, dots.there, RED_AND_BLUE, SMALL, "cpu", 0, dots.middles).state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    assert len(state) > len(plain.state_dict())
    assert classifier.read(plain, dots, 100)[1] is None


def test_it_learns_where():
    dots = Dots(256)
    settings = ClassifierSettings(width=4, features=32, epochs=20, batch=16)
    model = classifier.train(dots, dots.there, RED_AND_BLUE, settings, "cpu", 0, dots.middles)
    _, middles = classifier.read(model, dots, 100)
    wanted = (dots.middles * 76 - 6) / 64  # in the middle of each picture
    away = np.abs(middles - wanted)[dots.there == 1]
    assert away.mean() < 0.1  # from the middle of everything: 0.19


def test_keeping_one_that_locates(tmp_path):
    path = tmp_path / "truth.json"
    scenes = [{"image_id": 0, "objects": [{"sprite": "sun", "x": 1, "y": 1}]}]
    path.write_text(json.dumps({"world": {"canvas": [5, 4], "sprites": ["sun"]}, "scenes": scenes}))
    truth = Truth.load(path)
    model = classifier.Classifier(truth.heads(), SMALL, locates=True).eval()
    classifier.keep(model, SMALL, tmp_path / "kept.safetensors", {}, {})
    again, _ = classifier.kept(tmp_path / "kept.safetensors", truth, {})
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(again.predict(pictures).middles, model.predict(pictures).middles)


def test_scores_of_sprites_counted_by_hand():
    heads = [Head(name, "sprite", ("absent", "present")) for name in "abc"]
    wanted = np.array([[1, 1, 0], [0, 0, 1]])
    found = np.array([[1, 0, 1], [0, 0, 0]])
    values = classifier.scores(found, wanted, heads)
    assert values["presence_precision"] == 0.5
    assert values["presence_recall"] == pytest.approx(1 / 3)
    assert values["presence_f1"] == pytest.approx(0.4)
    # By sample: the first has P = R = F1 = 1/2, the second nothing.
    assert values["presence_sample_f1"] == pytest.approx(0.25)
    assert json.dumps(values)
