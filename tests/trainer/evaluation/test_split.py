"""What the generator is told: own, shuffled, reversed, fewer rounds; the same whatever the batches."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from store.errors import ChatPainterError
from store.reader import Store
from tests.support.films import write_films
from tests.support.stores import write_training_stores
from trainer import distributed, generator_file
from trainer.evaluation.settings import ClassifierSettings, EvaluateSettings
from trainer.evaluation.split import Condition, HeldOutSplit, paint
from trainer.evaluation.truth import Truth
from trainer.feed.inputs import FIRST_PICTURES
from trainer.systems.text_reader import text_inputs


def held_out(world: Path, dialogue: Any = "recurrent", seed: int = 0, sides: tuple[int, ...] = (64,)) -> HeldOutSplit:
    embeddings, images = world / "data/embeddings/val", world / "data/images/val"
    return HeldOutSplit(embeddings, images, text_inputs(dialogue), sides, seed)


ALL = np.arange(24)
TOLD = ("captions", "turns", "turns.length")


def test_own_captions_and_rounds(world):
    it = held_out(world)
    texts = it.texts(ALL, Condition())
    captions, turns, rounds = (texts[name] for name in TOLD)
    store, index = Store(world / "data/embeddings/val/captions"), None
    vectors, index = store.take(np.arange(len(store))), store.index.to_pydict()
    said, talks = zip(*it.words(ALL))
    for i, image_id in enumerate(it.image_ids):
        rows = [r for r, (owner, text) in enumerate(zip(index["image_id"], index["text"])) if owner == image_id]
        assert any(np.array_equal(vectors[r], captions[i].numpy()) and index["text"][r] == said[i] for r in rows)
    turn_index = Store(world / "data/embeddings/val/turns").index.to_pydict()
    assert list(talks) == [turn_index["texts"][turn_index["image_id"].index(i)] for i in it.image_ids]
    assert (rounds == 10).all()
    assert turns.shape == (24, 10, 7)
    assert len({*said}) > 12  # not always the first caption of a pattern


def test_captions_and_noise_depend_on_seed_and_image_alone(world):
    it, other = held_out(world), held_out(world, seed=1)
    whole = it.noise(ALL, (5, 6))
    backwards = it.noise(ALL[::-1], (5, 6))
    assert torch.equal(whole[0], backwards[0].flip(0))
    assert torch.equal(whole[1], backwards[1].flip(0))
    assert torch.equal(it.texts(ALL[3:5], Condition())["captions"], it.texts(ALL, Condition())["captions"][3:5])
    assert not torch.equal(whole[0], other.noise(ALL, (5, 6))[0])
    assert not torch.equal(whole[0], it.noise(ALL, (5, 6), draw=1)[0])
    assert len({tuple(row) for row in whole[0].tolist()}) == 24
    assert abs(float(torch.cat(whole, 1).mean())) < 0.25
    assert (it.numbers(ALL) != other.numbers(ALL)).any()


def test_shuffled_dialogues_are_always_another_image_s(world):
    it = held_out(world)
    donors = it.donors(ALL)
    assert sorted(donors) == ALL.tolist()
    assert (donors != ALL).all()
    own, shuffled = it.texts(ALL, Condition()), it.texts(ALL, Condition("shuffled"))
    assert torch.equal(own["captions"], shuffled["captions"])  # the caption stays
    assert torch.equal(own["image_id"], shuffled["image_id"])
    for name in ("turns", "turns.length"):
        assert torch.equal(shuffled[name], own[name][torch.from_numpy(donors)])
        assert torch.equal(it.texts(ALL[:5], Condition("shuffled"))[name], shuffled[name][:5])  # whatever the batch


def test_another_dialogue_begins_with_the_picture_that_ones_own_does(tmp_path):
    embeddings, images = write_training_stores(tmp_path, images=6, rounds=(3, 1, 2))
    write_films(embeddings, images, side=76, firsts_differ=True)
    it = HeldOutSplit(embeddings, images, (*text_inputs("recurrent"), FIRST_PICTURES), (64,), 0)
    own, other = (it.texts(np.arange(6), told) for told in (Condition(), Condition("shuffled")))
    assert torch.equal(own["first_pictures"], other["first_pictures"])
    assert len(own["first_pictures"][:, 0, 0, 0].unique()) == 6
    assert (own["turns"][:, 0, 1] != other["turns"][:, 0, 1]).all()


def test_rounds_cut_and_reversed(world):
    it = held_out(world)
    own = it.texts(ALL, Condition())["turns"]

    def told(condition: Condition) -> tuple[torch.Tensor, torch.Tensor]:
        texts = it.texts(ALL, condition)
        assert texts.keys() == {"captions", "turns", "turns.length", "image_id"}  # pictures are joined by, not read
        return texts["turns"], texts["turns.length"]

    cut, rounds = told(Condition(rounds=3))
    assert (rounds == 3).all()
    assert torch.equal(cut[:, :3], own[:, :3])
    assert not cut[:, 3:].any()
    back, rounds = told(Condition("reversed"))
    assert torch.equal(back, own.flip(1))
    assert (rounds == 10).all()
    both, rounds = told(Condition("reversed", 4))
    assert torch.equal(both[:, :4], own[:, :4].flip(1))
    assert (rounds == 4).all()
    none, rounds = told(Condition(rounds=0))
    assert not none.any()
    assert not rounds.any()


def test_dialogues_of_unequal_length_are_reversed_within_their_own_rounds():
    from trainer.evaluation.split import _change

    turns = torch.arange(1.0, 9).reshape(2, 4, 1)
    turns[1, 2:] = 0
    back, rounds = _change(turns, torch.tensor([4, 2]), Condition("reversed"))
    assert back[..., 0].tolist() == [[4, 3, 2, 1], [6, 5, 0, 0]]
    cut, rounds = _change(turns, torch.tensor([4, 2]), Condition("reversed", 3))
    assert cut[..., 0].tolist() == [[3, 2, 1, 0], [6, 5, 0, 0]]
    assert rounds.tolist() == [3, 2]


def test_what_a_generator_cannot_be_told_is_refused(world):
    for dialogue, condition in (
        ("none", Condition("shuffled")),
        ("collapsed", Condition(rounds=2)),
        ("collapsed", Condition("reversed")),
    ):
        with pytest.raises(ChatPainterError, match=condition.name):
            held_out(world, dialogue).texts(ALL, condition)
    collapsed = held_out(world, "collapsed")
    vectors = collapsed.texts(ALL, Condition("shuffled"))["dialogues"]
    assert vectors.shape == (24, 7)
    assert torch.equal(vectors, collapsed.texts(ALL, Condition())["dialogues"][torch.from_numpy(collapsed.donors(ALL))])


def test_an_image_missing_at_one_size_is_named(world, tmp_path):
    from trainer.evaluation import split as module

    images = tmp_path / "val"
    shutil.copytree(world / "data/images/val/76", images / "76")
    with pytest.raises(ChatPainterError, match="304"):
        HeldOutSplit(world / "data/embeddings/val", images, text_inputs("none"), (64, 256), 0)
    store = Store(images / "76")
    assert module._rows(store, store.column("image_id")[::-1]).tolist() == ALL[::-1].tolist()
    with pytest.raises(ChatPainterError, match="lacks image 5,"):
        module._rows(store, np.array([store.column("image_id")[0], 5]))


def test_real_pictures_are_the_middle(world):
    it = held_out(world, sides=(64, 256))
    whole = Store(world / "data/images/val/304").take([4])
    assert it.image_ids[4] == Store(world / "data/images/val/304").column("image_id")[4]
    np.testing.assert_array_equal(it.real(np.array([4]), 256), whole[:, 24:280, 24:280])


def test_real_pictures_that_are_not_stored_are_larger_ones_made_smaller(world, tmp_path):
    images = tmp_path / "val"
    shutil.copytree(world / "data/images/val/304", images / "304")
    it = HeldOutSplit(world / "data/embeddings/val", images, text_inputs("recurrent"), (16, 64, 256), 0)
    assert it.image_ids.tolist() == held_out(world).image_ids.tolist()
    for side, stored in ((16, 19), (64, 76)):
        found = it.real(ALL[:5], side)
        for picture, whole in zip(found, Store(images / "304").take(ALL[:5])):
            edge = (stored - side) // 2
            smaller = Image.fromarray(whole).resize((stored, stored), Image.Resampling.BILINEAR)
            expected = np.asarray(smaller, np.int64)[edge : edge + side, edge : edge + side]
            assert np.abs(picture - expected).max() <= 1  # Pillow rounds between its two passes
    with pytest.raises(ChatPainterError, match="608"):
        HeldOutSplit(world / "data/embeddings/val", images, text_inputs("none"), (256, 512), 0)


def test_a_classifier_of_smaller_pictures_is_no_classifier_of_the_stored_ones(world, tmp_path):
    from trainer.evaluation import evaluate as module

    settings = EvaluateSettings(split="val", classifier=ClassifierSettings(epochs=1, split="val"))
    paths = module.Paths(Path(), Path(), world / "data/images", world / "data/raw/sample", Path(), tmp_path / "c")
    truth = Truth.load(paths.raw / "truth_val.json")
    ranks = distributed.start("cpu")
    made = [module._classifier(paths, settings, truth, stored, ranks)[1].sha256 for stored in (19, 76, 19, 19)]
    assert made[0] == made[2] == made[3] != made[1]


def test_painting_is_the_same_in_any_batch_and_stage_1_alone_is_stage_1(world, make_generator):
    it = held_out(world, sides=(64, 256))
    generator = generator_file.load(make_generator(2))
    whole = paint(generator, it, ALL[:4], Condition(), True)
    assert {size: pictures.shape for size, pictures in whole.items()} == {64: (4, 64, 64, 3), 256: (4, 256, 256, 3)}
    part = paint(generator, it, ALL[2:3], Condition(), True)
    # Sums may be rounded otherwise in another batch, and a value fall to the neighbouring step.
    assert abs(part[256].astype(int) - whole[256][2:3]).max() <= 1
    first = paint(generator, it, ALL[:4], Condition(), True, sides=(64,))
    assert list(first) == [64]
    np.testing.assert_array_equal(first[64], whole[64])
    mean = paint(generator, it, ALL[:4], Condition(), False)
    assert (mean[64] != whole[64]).any()
