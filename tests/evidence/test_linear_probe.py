"""The linear probe of the experiment's work folder."""

import json

import numpy as np
import pytest
import torch

from evidence import linear_probe, trained
from evidence import profile as profiles
from store.errors import ChatPainterError
from store.reader import Store
from trainer import generator_file


def test_what_is_linear_in_the_vectors_is_read_and_noise_is_not():
    random = np.random.default_rng(0)
    x = random.standard_normal((3000, 30))
    there = x @ random.standard_normal((30, 8)) > 3
    assert linear_probe.linear_f1(x[:2500], there[:2500], x[2500:], there[2500:]) > 0.85
    noise = random.standard_normal((3000, 30))
    blind = linear_probe.linear_f1(np.zeros((2500, 1)), there[:2500], np.zeros((500, 1)), there[2500:])
    assert linear_probe.linear_f1(noise[:2500], there[:2500], noise[2500:], there[2500:]) < blind + 0.05


def test_a_reader_that_sees_nothing_names_what_is_frequent():
    there = np.zeros((1000, 3), bool)
    there[:, 0] = np.arange(1000) % 10 < 9
    there[::20, 1] = True
    # Naming the first always finds 900 of 950 with 100 false: 2 · 900 / (950 + 1000).
    nothing = np.zeros((1000, 1))
    assert linear_probe.linear_f1(nothing, there, nothing, there) == pytest.approx(1800 / 1950)


def test_the_vectors_are_those_of_the_stores(world):
    ids, turns = linear_probe.vectors(world, "val", "recurrent", 64)
    store = Store(world / "data/embeddings/val/turns")
    index = store.index.to_pydict()
    rows = store.slice(0, len(store)).astype(np.float64)
    for image_id, first, rounds in zip(index["image_id"], index["row"], index["rounds"]):
        mean = rows[first : first + rounds].mean(0)
        np.testing.assert_allclose(turns[ids.tolist().index(image_id)], mean, atol=1e-5)
    _, captions = linear_probe.vectors(world, "val", "none", 64)
    _, collapsed = linear_probe.vectors(world, "val", "collapsed", 64)
    assert (captions.shape, collapsed.shape) == ((24, 9), (24, 7))


def test_the_condition_is_the_mean_one(world, network):
    _, mu = linear_probe.vectors(world, "val", "recurrent", 64, network)
    with torch.inference_mode():
        held_out = trained.vectors(world, "val", "recurrent", 64)
        text = network.encode(trained.texts(held_out, np.arange(24)))["text"]
        expected = network.stage1.ca_net.fc(text).chunk(2, 1)[0].relu()
    np.testing.assert_allclose(mu, expected.numpy(), atol=1e-5)


def test_an_encoder_that_is_taught_directly_tells_dialogues_apart(world, network):
    there = np.arange(24)[:, None] % 3 == np.arange(3)  # has nothing to do with the vectors: learned by heart
    before = {name: value.clone() for name, value in network.stage1.fc.state_dict().items()}
    _, mu = linear_probe.vectors(world, "val", "recurrent", 64, network)
    assert linear_probe.linear_f1(np.tile(mu, (5, 1)), np.tile(there, (5, 1)), mu, there) < 0.9
    linear_probe.taught(network, world, "val", 64, there, images=24 * 300, batch=24)
    _, mu = linear_probe.vectors(world, "val", "recurrent", 64, network)
    assert linear_probe.linear_f1(np.tile(mu, (5, 1)), np.tile(there, (5, 1)), mu, there) > 0.9
    assert all(torch.equal(value, before[name]) for name, value in network.stage1.fc.state_dict().items())


def test_worlds_without_sprites_are_refused(world, tmp_path):
    values = {"splits": ["train", "val"], "evaluate": {"split": "val"}, "raw": str(world / "data/raw/sample")}
    with pytest.raises(ChatPainterError, match="no sprites"):
        next(linear_probe.scores(tmp_path, values, []))


def test_every_step_from_texts_to_condition_is_asked(world, load, network, tmp_path):
    # Two clip-arts: one in two of three scenes, one in all.
    ids = {split: linear_probe.vectors(world, split, "none", 64)[0] for split in ("train", "val")}
    for split, images in ids.items():
        scenes = [
            {"image_id": int(i), "objects": [{"sprite": name} for name in ("tree", "sun")[int(i) % 3 == 0 :]]}
            for i in images
        ]
        truth = {"world": {"sprites": ["tree", "sun"]}, "scenes": scenes}
        (tmp_path / f"truth_{split}.json").write_text(json.dumps(truth))
    plan, values = load(seeds=[0], ablations=[], overrides={"splits": ["train", "val"], "evaluate": {"split": "val"}})
    job = next(job for job in profiles.jobs(plan, values) if job.arm == "recurrent")
    file = world / "trainings" / job.name / "run/generator.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    generator_file.save(network, file)
    found = dict(linear_probe.scores(world, values | {"raw": str(tmp_path)}, [job]))
    names = ["nothing", "caption", "collapsed dialogue", "turns, mean"]
    assert list(found) == [*names, "condition of recurrent-0", "recurrent, taught directly"]
    # Who sees nothing names both: all that are there are found, and a tree in vain where there is none.
    trees = int((ids["val"] % 3 != 0).sum())
    assert found["nothing"] == pytest.approx(2 * (24 + trees) / (24 + trees + 48))
    sides = []
    for split in ("train", "val"):
        trees_there = ids[split] % 3 != 0
        seen = linear_probe.vectors(world, split, "recurrent", 64, network)[1]
        sides += [seen, np.stack([trees_there, np.ones_like(trees_there)], 1)]
    assert found["condition of recurrent-0"] == pytest.approx(linear_probe.linear_f1(*sides))
