"""What a linear reader knows of a world from an encoder's vectors."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from evidence import text_readers
from evidence.linear_probe import linear_f1
from pipeline import embed_cli, encoders
from pipeline.corpora import corpus
from pipeline.encoders import Encoded
from trainer.evaluation.truth import Truth

SPRITES = ["bear", "hat", "sun", "tree"]


class Words:
    """A text's vector says which of the sprites it names."""

    dim = 4
    identity: ClassVar[dict] = {"name": "words", "version": 1, "trained": True, "weights": {}}

    def encode(self, texts):
        vectors = np.array([[name in text for name in SPRITES] for text in texts], np.float32)
        nothing = np.zeros(len(texts), np.int32)
        return Encoded(vectors, nothing, nothing, nothing > 0)


def write_world(folder: Path, split: str, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, scenes = [], []
    for image_id in range(count):
        there = [name for name in SPRITES if rng.random() < 0.5]
        rounds = [(f"a {name}", "ok") for name in there] or [("nothing", "ok")]
        rows.append(corpus.Row(image_id, "", None, None, [(image_id, "hi")], rounds, "hi"))
        scenes.append({"image_id": image_id, "objects": [{"sprite": name} for name in there]})
    (folder / "corpus").mkdir(exist_ok=True)
    corpus.write(rows, folder / f"corpus/{split}.parquet")
    (folder / f"truth_{split}.json").write_text(json.dumps({"world": {"sprites": SPRITES}, "scenes": scenes}))


def test_what_the_texts_say_is_read_and_what_they_do_not_say_is_not(tmp_path, monkeypatch):
    write_world(tmp_path, "train", 400, 0)
    write_world(tmp_path, "val", 100, 1)
    (tmp_path / "params.yaml").write_text("{splits: [train, val]}")
    monkeypatch.setattr(encoders, "build", lambda kind, settings: Words())
    words = ["mine", "--params", "params.yaml", "--corpus", "corpus", "--raw", ".", "--out", "out.json"]
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(text_readers.main, words)
    assert result.exit_code == 0, result.output
    scores = json.loads(Path("out.json").read_text())["scores"]
    assert scores["mine"]["collapsed dialogue"] == 1
    assert scores["mine"]["turns, mean"] == 1
    assert scores["mine"]["captions"] == pytest.approx(scores["nothing"][""])
    truth = Truth.load("truth_val.json")
    there = text_readers.facts(truth, np.arange(100))
    everything = np.ones_like(there)
    expected = 2 * there.sum() / (there.sum() + everything.sum())  # half are there, so naming all is best
    assert scores["nothing"][""] == pytest.approx(expected)
    assert linear_f1(np.zeros((100, 1)), there, np.zeros((100, 1)), there) == pytest.approx(expected)


def test_vectors_of_stores_are_read_as_those_of_the_encoder_that_made_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encoders, "build", lambda kind, settings: Words())
    monkeypatch.setattr(encoders, "identity", lambda kind, settings: Words.identity)
    Path("params.yaml").write_text("{splits: [train, val]}")
    for split, count in (("train", 60), ("val", 20)):
        write_world(tmp_path, split, count, len(split))
        made = CliRunner().invoke(embed_cli.main, ["--split", split, "--corpus", "corpus", "--scheduler", "sync"])
        assert made.exit_code == 0, made.output
    words = ["mine", "stored=data/embeddings", "--corpus", "corpus", "--raw", ".", "--out", "out.json"]
    result = CliRunner().invoke(text_readers.main, words)
    assert result.exit_code == 0, result.output
    scores = json.loads(Path("out.json").read_text())["scores"]
    assert scores["stored"] == scores["mine"]
    assert scores["mine"]["turns, mean"] > 0.9
    (tmp_path / "data/embeddings/val/turns/manifest.json").unlink()
    result = CliRunner().invoke(text_readers.main, words[1:])
    assert result.exit_code == 1
    assert "data/embeddings/val/turns" in result.output


def test_facts_of_the_sample_world_are_colours_shapes_and_sizes_at_places(tmp_path):
    colours, shapes = {"red": [255, 0, 0], "blue": [0, 0, 255]}, ["circle", "square"]
    places = {"left": {"centre": [0.2, 0.5], "half": 0.1}, "right": {"centre": [0.8, 0.5], "half": 0.1}}
    one = {"place": "right", "colour": "blue", "shape": "circle", "size": "large"}
    world = {"places": places, "colours": colours, "shapes": shapes, "sizes": ["large"], "grounds": {"snow": [9, 9, 9]}}
    content = {"world": world, "scenes": [{"image_id": 5, "ground": "snow", "objects": [one]}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    found = text_readers.facts(Truth.load(tmp_path / "truth.json"), np.array([5]))
    # ground snow | left: red blue, circle square, large | right: red blue, circle square, large
    assert found.tolist() == [[True, False, False, False, False, False, False, True, True, False, True]]
