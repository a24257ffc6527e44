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
    values = classifier.scores(classifier.read(model, store, 20), targets, truth.heads())
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
    features, log_posteriors = model.predict(pictures)
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
