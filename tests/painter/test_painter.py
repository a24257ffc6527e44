"""Painter: pictures follow from words, seed and nothing else; only the encoders of the training will do."""

import doctest
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import painter.painter as module
from painter import Dialogue, Painter
from pipeline.encoders import EncoderSettings
from pipeline.encoders import build as build_encoder
from pipeline.texts import TextSettings, collapse, turn
from store.errors import ChatPainterError
from trainer import generator_file
from trainer.feed.augment import to_uint8

ROUNDS = [("what is the ground like", "sand"), ("what is at the top left", "a red circle")]
CAPTION = "a blue square at the top right and one other shape"


def test_docstring_examples(run: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The examples name no folder of weights: a user's params.yaml does.
    monkeypatch.chdir(weights.parent)
    (weights.parent / "params.yaml").write_text(
        json.dumps({"encoders": {"weights": str(weights), "converted": str(weights / "converted")}})
    )
    ready = Painter.from_run(run)
    result = doctest.testmod(module, extraglobs={"run": run, "painter": ready, "Painter": Painter})
    assert result.attempted > 8
    assert result.failed == 0
    for name in ("dialogue", "interviewer", "html"):
        found = doctest.testmod(__import__(f"painter.{name}", fromlist=[name]))
        assert found.attempted
        assert found.failed == 0


@pytest.mark.parametrize("dialogue", ["none", "collapsed", "recurrent"])
def test_equals_the_generator_on_vectors_encoded_by_hand(
    dialogue: str, make_run: Callable[..., Path], weights: Path
) -> None:
    folder = make_run(dialogue)
    generator = generator_file.load(folder / "generator.safetensors")
    where = EncoderSettings(weights=str(weights), untrained=None, converted=str(weights / "converted"))
    captions = torch.from_numpy(build_encoder("captions", where).encode([CAPTION]).vectors)
    texts = {"captions": captions}
    if dialogue != "none":
        encoder = build_encoder("dialogues", where)
        strings = [turn(q, a, TextSettings()) for q, a in ROUNDS]
        if dialogue == "collapsed":
            strings = [collapse(ROUNDS, CAPTION, TextSettings())]
        heard = torch.from_numpy(encoder.encode(strings).vectors)
        texts |= {"dialogues": heard, "turns": heard[None], "turns.length": torch.tensor([len(heard)])}
    noise = torch.from_numpy(np.random.default_rng([5, 0]).standard_normal((1, 8)).astype(np.float32))
    with torch.no_grad():
        expected = {size: to_uint8(p).numpy() for size, p in generator.paint(texts, noise).items()}

    ready = Painter.from_run(folder, weights=str(weights))
    painted = ready.sides(CAPTION, ROUNDS, seed=5)

    assert painted.keys() == {64, 256}
    for size, pictures in painted.items():
        np.testing.assert_array_equal(pictures, expected[size])
    assert (ready.paint(CAPTION, ROUNDS, seed=5) == painted[256]).all()
    assert ready.hears_dialogue == (dialogue != "none")


def test_stage_1_alone_paints_64_pixels(make_run: Callable[..., Path], weights: Path) -> None:
    ready = Painter.from_run(make_run("recurrent", 1), weights=str(weights))

    assert ready.paint(CAPTION, ROUNDS, n=2).shape == (2, 64, 64, 3)
    assert ready.sides(CAPTION).keys() == {64}


@pytest.mark.parametrize("dialogue", ["none", "collapsed", "recurrent", "attended"])
def test_any_number_of_rounds(dialogue: str, make_run: Callable[..., Path], weights: Path) -> None:
    ready = Painter.from_run(make_run(dialogue), weights=str(weights))
    many = [(f"what is at the {place}", "nothing") for place in ("top left", "top right")] * 30

    pictures = [ready.paint(CAPTION, rounds)[0] for rounds in ([], ROUNDS[:1], ROUNDS, many)]

    differ = [not np.array_equal(one, two) for one, two in itertools.pairwise(pictures)]
    assert differ == [dialogue != "none"] * 3


def test_what_is_read_turn_by_turn_is_painted_in_pieces_and_mixed(make_run: Callable[..., Path], weights: Path) -> None:
    ready = Painter.from_run(make_run("attended", 1), weights=str(weights))
    long = Dialogue(CAPTION, tuple((f"what is at the {place}", "sand") for place in ("top left", "top right")) * 10)

    growing = ready.paint_batch(long.prefixes(), seed=3)

    assert len(growing) == 21, "more than pass the generator at once, of other lengths"
    for end in (0, 1, 17, 20):
        alone = ready.paint(CAPTION, long.rounds[:end], seed=3)
        assert abs(growing[end].astype(int) - alone).max() <= 1
    way = ready.interpolate(Dialogue(CAPTION, tuple(ROUNDS)), Dialogue(CAPTION, long.rounds), 4, (1, 1))
    assert abs(way[-1].astype(int) - ready.paint(CAPTION, long.rounds, seed=1)[0]).max() <= 1
    assert abs(way[0].astype(int) - ready.paint(CAPTION, ROUNDS, seed=1)[0]).max() <= 1
    assert way.shape == (4, 64, 64, 3)
    assert abs(way[1].astype(int) - way[2]).max() > 0


def test_no_round_is_zeros_to_the_recurrent_encoder_and_the_average_to_the_collapsed(
    make_run: Callable[..., Path], weights: Path
) -> None:
    recurrent = Painter.from_run(make_run("recurrent"), weights=str(weights))
    assert not recurrent.encode([Dialogue(CAPTION)])["text"][0, -32:].any()
    assert recurrent.encode([Dialogue(CAPTION, (("", "yes"),))])["text"][0, -32:].any()

    collapsed = Painter.from_run(make_run("collapsed"), weights=str(weights))
    assert not collapsed.encode([Dialogue(CAPTION)])["text"][0, 256:].any()
    model = torch.nn.ModuleDict()
    from dataclasses import replace

    from trainer.networks.text import Standardise

    for name, dim in (("captions", 256), ("dialogues", 512)):
        model[name] = layer = Standardise(dim)
        layer.fit(torch.randn(50, dim) + 3)
    generator: Any = collapsed.generator
    generator.standardise = model
    generator.model = replace(generator.model, standardise=True)
    assert not collapsed.encode([Dialogue(CAPTION)])["text"][0, 256:].any(), "the average, standardised, is zero"
    assert collapsed.encode([Dialogue(CAPTION, tuple(ROUNDS))])["text"][0, 256:].any()


def test_a_picture_depends_on_words_and_seed_alone(painter: Painter) -> None:
    first = painter.paint(CAPTION, ROUNDS, n=3, seed=7)

    assert (painter.paint(CAPTION, ROUNDS, n=3, seed=7) == first).all()
    assert abs(painter.paint(CAPTION, ROUNDS, n=1, seed=7)[0].astype(int) - first[0]).max() <= 1
    assert not (painter.paint(CAPTION, ROUNDS, n=3, seed=8) == first).all()
    assert not (painter.paint(CAPTION, ROUNDS[:1], n=3, seed=7) == first).all()
    assert not (painter.paint("two shapes", ROUNDS, n=3, seed=7) == first).all()
    assert len({picture.tobytes() for picture in first}) == 3
    still = painter.paint(CAPTION, ROUNDS, n=2, seed=7, truncation=0)
    assert (still[0] == still[1]).all(), "no noise, no variations"


def test_batches_equal_single_pictures(painter: Painter) -> None:
    dialogues = [Dialogue(CAPTION, tuple(ROUNDS[:n])) for n in (2, 0, 1)] * 4

    batch = painter.paint_batch(dialogues, n=2, seed=3)

    assert batch.shape == (12, 2, 256, 256, 3)
    for dialogue, pictures in zip(dialogues[:3], batch):
        alone = painter.paint(dialogue.caption, dialogue.rounds, n=2, seed=3)
        assert abs(pictures.astype(int) - alone).max() <= 1


def test_interpolation_begins_and_ends_at_the_ends(painter: Painter) -> None:
    first, last = Dialogue(CAPTION, tuple(ROUNDS)), Dialogue("two shapes")

    way = painter.interpolate(first, last, 5, (1, 2))

    ends = painter.paint(CAPTION, ROUNDS, seed=1)[0], painter.paint("two shapes", seed=2)[0]
    assert abs(way[0].astype(int) - ends[0]).max() <= 1
    assert abs(way[-1].astype(int) - ends[1]).max() <= 1
    steps = [abs(one.astype(int) - two).mean() for one, two in itertools.pairwise(way)]
    assert max(steps) < abs(way[0].astype(int) - way[-1]).mean()
    same = painter.interpolate(first, first, 3, (4, 4))
    assert abs(same[0].astype(int) - same[1]).max() <= 1


def test_reading_names_unknown_words_and_capitals_are_no_obstacle(painter: Painter) -> None:
    said = Dialogue(CAPTION, (("is there a zebra", "Yes, A ZEBRA"), ("what is the ground like", "Sand")))

    assert painter.read(said).unknown == ["zebra", "ZEBRA"]
    shouted = painter.paint(CAPTION, [("What is the ground like", "Sand")])
    assert (shouted == painter.paint(CAPTION, [("what is the ground like", "sand")])).all()
    assert painter.read(Dialogue("x" * 300)).truncated
    assert not painter.read(Dialogue(CAPTION)).truncated
    assert painter.read(Dialogue("näht")).unknown == ["näht"], "its alphabet has no ä"


@pytest.mark.parametrize("kind", ["captions", "turns|dialogues"])
def test_other_weights_are_refused_in_one_line(run: Path, weights: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    name = "dictionary.txt" if kind != "captions" else next(path.name for path in weights.glob("*.t7"))
    content = bytearray((other / name).read_bytes())
    content[-2] ^= 1
    (other / name).write_bytes(content)

    with pytest.raises(
        ChatPainterError, match=f"not the ({kind}) encoder that the generator was trained with"
    ) as caught:
        Painter.from_run(run, weights=str(other))

    assert "\n" not in caught.value.message
    there, here = (hashlib.sha256((folder / name).read_bytes()).hexdigest()[:15] for folder in (weights, other))
    assert f"(weights.{name}: '{there}… in training, '{here}… here)" in caught.value.message
    assert "--weights" in caught.value.message


def test_generators_that_cannot_be_used(run: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ChatPainterError, match="no such generator"):
        Painter.from_run(tmp_path)
    generator = generator_file.load(run / "generator.safetensors")
    del generator.settings["stores"]
    generator_file.save(generator, tmp_path / "generator.safetensors")
    with pytest.raises(ChatPainterError, match="which encoders it was trained with"):
        Painter.from_run(tmp_path, weights=str(weights))
    (tmp_path / "generator.safetensors").write_bytes((run / "generator.safetensors").read_bytes()[:5000])
    with pytest.raises(ChatPainterError, match="damaged"):
        Painter.from_run(tmp_path, weights=str(weights))


def test_threads_share_a_painter(painter: Painter) -> None:
    from concurrent.futures import ThreadPoolExecutor

    captions = [f"a {colour} circle" for colour in ("red", "blue", "green", "yellow")] * 4
    alone = [painter.paint(caption)[0] for caption in captions]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda caption: painter.paint(caption)[0], captions))

    assert all((one == two).all() for one, two in zip(alone, together))


@pytest.mark.gpu
def test_gpu_paints_what_the_cpu_paints(run: Path, weights: Path, painter: Painter) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = Painter.from_run(run, weights=str(weights), device="cuda")

    difference = there.paint(CAPTION, ROUNDS, n=4).astype(int) - painter.paint(CAPTION, ROUNDS, n=4)

    assert abs(difference).mean() < 1
