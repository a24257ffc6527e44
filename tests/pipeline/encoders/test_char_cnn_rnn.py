"""char-CNN-RNN against float64 written from Reed's Lua, for every published variant."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings

from pipeline.encoders import CharCnnRnnSettings, build, identity
from tests.support.encoder_references import ALPHABET, char_cnn_rnn
from tests.support.encoders import encoder_settings as settings

TEXTS = [
    "a man riding a wave on top of a surfboard.",
    "a man riding a wave on a dirty floor next to a very long train of thought that goes on",
    "",
    "?",
    "\u00e9t\u00e9 and a na\u00efve caf\u00e9",
    "x" * 250,
    "hyphen-ated - and {brackets} [of] <all> kinds ~`^*+=|\\/@#$%&_:;!,.'\"",
    "ab" * 98 + " \u00e9\u00e9\u00e9\u00e9\u00e9",
]
AS_IS = CharCnnRnnSettings(lowercase=False)


@pytest.mark.parametrize("variant", ["coco", "icml-birds", "last", "flowers", "cvpr"])
def test_equals_the_equations(char_cnn_rnn_files, variant):
    folder, net = char_cnn_rnn_files(variant)
    encoder = build("captions", settings(folder, char_cnn_rnn=AS_IS))
    vectors = encoder.encode(TEXTS).vectors
    expected = np.stack([char_cnn_rnn(net, text) for text in TEXTS])
    assert np.abs(vectors - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.abs(expected - expected[0]).max() > 1e-2  # the network tells texts apart


@pytest.fixture
def coco(char_cnn_rnn_files):
    folder, net = char_cnn_rnn_files("coco")
    return build("captions", settings(folder, char_cnn_rnn=AS_IS)), net


@given(text=strategies.text(strategies.sampled_from(ALPHABET + "AZ\u00e9\n\t\u30c6"), max_size=230))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text(coco, text):
    encoder, net = coco
    vector = encoder.encode([text]).vectors[0]
    expected = char_cnn_rnn(net, text.strip())
    assert np.abs(vector - expected).max() <= 2e-6 * max(1, np.abs(expected).max())


def test_a_vector_depends_on_its_text_alone(char_cnn_rnn_files, monkeypatch):
    """The public port mixes the texts of a batch; the shape still looks right."""
    folder, _ = char_cnn_rnn_files("coco")
    encoder: Any = build("captions", settings(folder))
    texts = [f"{a} {b} on the {c}" for a in ("a dog", "two people") for b in ("sit", "run", "sleep") for c in TEXTS]
    whole = encoder.encode(texts).vectors
    scale = np.abs(whole).max()
    order = np.random.default_rng(0).permutation(len(texts))
    assert np.abs(encoder.encode([texts[i] for i in order]).vectors - whole[order]).max() <= 1e-6 * scale
    alone = np.concatenate([encoder.encode([text]).vectors for text in texts])
    assert np.abs(alone - whole).max() <= 1e-6 * scale
    monkeypatch.setattr("pipeline.encoders.char_cnn_rnn.MOST_TEXTS", 5)
    monkeypatch.setattr(encoder.net, "rows", 3)
    monkeypatch.setattr(encoder.net, "texts", 2)
    assert np.abs(encoder.encode(texts + texts[:3]).vectors - np.concatenate([whole, whole[:3]])).max() <= 1e-6 * scale


def test_capitals_and_unknown_bytes(char_cnn_rnn_files):
    folder, net = char_cnn_rnn_files("coco")
    text = "A Dog\u00e9"
    zero = build("captions", settings(folder, char_cnn_rnn=AS_IS)).encode([text])
    lower = build("captions", settings(folder)).encode([text])
    space = build("captions", settings(folder, char_cnn_rnn=CharCnnRnnSettings(unknown="space"))).encode([text])
    for encoded, read, unknown in ((zero, text, 4), (lower, "a dog\u00e9", 2), (space, "a dog  ", 2)):
        np.testing.assert_allclose(encoded.vectors[0], char_cnn_rnn(net, read), atol=2e-6)
        assert encoded.unknown.tolist() == [unknown]
        assert encoded.tokens.tolist() == [7]  # bytes, the last letter having two


def test_counts(char_cnn_rnn_files):
    folder, net = char_cnn_rnn_files("coco")
    encoded = build("captions", settings(folder)).encode([" a dog \n", "", "x" * 201, "x" * 202])
    assert encoded.tokens.tolist() == [5, 0, 201, 201]
    assert encoded.truncated.tolist() == [False, False, False, True]
    np.testing.assert_allclose(encoded.vectors[0], char_cnn_rnn(net, "a dog"), atol=2e-6)
    np.testing.assert_array_equal(encoded.vectors[2], encoded.vectors[3])
    assert encoded.vectors[1].any()  # the vector of nothing is not zero


def test_no_texts_and_a_bare_string(char_cnn_rnn_files):
    folder, _ = char_cnn_rnn_files("coco")
    encoder = build("captions", settings(folder))
    assert encoder.encode([]).vectors.shape == (0, encoder.dim)
    with pytest.raises(TypeError):
        encoder.encode("a dog")


def test_identity_says_what_decides_a_vector(char_cnn_rnn_files):
    folder, _ = char_cnn_rnn_files("coco")
    base = identity("captions", settings(folder))
    assert base == build("captions", settings(folder)).identity
    assert base["trained"] is True
    other, _ = char_cnn_rnn_files("coco", seed=1)
    assert identity("captions", settings(other)) != base
    assert identity("captions", settings(folder, char_cnn_rnn=AS_IS)) != base


@pytest.mark.gpu
def test_cuda_equals_cpu(char_cnn_rnn_files):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    folder, _ = char_cnn_rnn_files("coco")
    cpu, cuda = (build("captions", settings(folder, device=name)).encode(TEXTS).vectors for name in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda, cpu, atol=1e-5)
