"""AttnGAN's text encoder as an encoder of the pipeline: published files, and those of our own training."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import encoders
from pipeline.encoders import EncoderSettings, WordEncoder
from pipeline.weights import WeightsError
from store.errors import ChatPainterError
from tests.support.damsm import KNOWN, network, publish
from words import files
from words.vocabulary import END


def train(folder: Path) -> Path:
    from trainer import generator_file
    from trainer.systems.damsm.networks import DamsmEncoders

    settings = {
        "system": "damsm",
        "image_encoder": "small",
        "side": 16,
        "width": 2,
        "dim": 8,
        "word_dim": 6,
        "words": 3,
    }
    made = DamsmEncoders({**settings, "vocabulary": KNOWN})
    made.text.load_state_dict(network().state_dict())
    generator_file.save(made, folder / "generator.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["published", "of 2017", "trained"])
def test_words_and_captions_have_the_networks_vectors(tmp_path: Path, kind: str) -> None:
    path = train(tmp_path) if kind == "trained" else publish(tmp_path / "coco", legacy=kind == "of 2017")
    settings = EncoderSettings(captions=f"damsm:{path}")
    encoder = encoders.build("captions", settings)
    assert isinstance(encoder, WordEncoder)
    assert (encoder.dim, encoder.identity) == (8, encoders.identity("captions", settings))
    texts = ["A red bird!", "bird", "the ostrich", ""]
    found, captions = encoder.words(texts), encoder.encode(texts)
    assert found.lengths.tolist() == encoder.word_counts(texts).tolist() == [3, 1, 1, 1]
    ids = torch.tensor([[1, 2, 3], [3, 0, 0], [0, 0, 0], [0, 0, 0]])
    with torch.no_grad():
        words, sentences = network()(ids, torch.tensor(found.lengths))
    expected = np.concatenate([words[row, :length].numpy() for row, length in enumerate(found.lengths)])
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    np.testing.assert_allclose(captions.vectors, sentences.numpy(), atol=1e-6)
    assert (captions.tokens.tolist(), captions.unknown.tolist()) == ([3, 1, 2, 0], [0, 0, 2, 0])


def test_a_vector_depends_on_its_text_alone(tmp_path: Path) -> None:
    encoder = encoders.build("captions", EncoderSettings(captions=f"damsm:{publish(tmp_path)}"))
    alone = [encoder.encode([text]).vectors[0] for text in ("a red bird", "bird")]
    together = encoder.encode(["bird", "a red bird", "red bird a a", "bird"]).vectors
    for place, expected in ((1, alone[0]), (0, alone[1]), (3, alone[1])):
        np.testing.assert_allclose(together[place], expected, atol=1e-7)


def test_long_captions_are_read_to_where_training_read_them(tmp_path: Path) -> None:
    encoder = encoders.build("captions", EncoderSettings(captions=f"damsm:{train(tmp_path)}"))
    assert isinstance(encoder, WordEncoder)
    assert encoder.word_counts(["a red bird a red"]).tolist() == [3]
    assert encoder.encode(["a red bird a red", "a red bird"]).truncated.tolist() == [True, False]


def test_identity_names_both_files(tmp_path: Path) -> None:
    path = publish(tmp_path)
    identity = encoders.identity("captions", EncoderSettings(captions="damsm", weights=str(tmp_path)))
    hashes = {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in (path.name, "captions.pickle")
    }
    assert identity["weights"] == hashes


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    def refused(name: Path, kind: type[ChatPainterError], message: str) -> None:
        with pytest.raises(kind, match=message) as error:
            encoders.build("captions", EncoderSettings(captions=f"damsm:{name}"))
        assert "\n" not in error.value.message

    refused(tmp_path, WeightsError, "holds no text encoders of DAMSM")
    path = publish(tmp_path / "other", [END, "a"])
    refused(path, WeightsError, "reads 4 words, captions.pickle has 2")
    path.with_name("captions.pickle").unlink()
    refused(path, WeightsError, "it says which words text_encoder100.pth reads")
    publish(tmp_path / "torn").write_bytes(b"PK\x03\x04")
    refused(tmp_path / "torn", ChatPainterError, "damaged, or not a file of tensors alone")
    torch.save({"encoder.weight": torch.zeros(4, 6)}, publish(tmp_path / "less"))
    refused(tmp_path / "less", ChatPainterError, r"not a text encoder \(lacks rnn.weight_hh_l0\)")
    (tmp_path / "generator.safetensors").write_bytes(b"x")
    refused(tmp_path, ChatPainterError, "damaged, or not a safetensors file")


def test_a_published_file_goes_back_with_the_same_keys_and_bits(tmp_path: Path) -> None:
    path = publish(tmp_path, legacy=True)
    files.write_published(files.read_published(path), tmp_path / "again.pth")
    before, after = (torch.load(one, "cpu", weights_only=True) for one in (path, tmp_path / "again.pth"))
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
