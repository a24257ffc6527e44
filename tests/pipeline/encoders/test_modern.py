"""Modern encoders from a local folder, made here and never downloaded."""

import json

import numpy as np
import pytest

from pipeline.encoders import build, identity, modern
from pipeline.encoders.products import Product
from pipeline.weights import WeightsError
from store.errors import ChatPainterError
from tests.support.encoders import encoder_settings as settings

TEXTS = ["a red dog", "", "dog", "a a a a", "zebra dog", "a red dog a red dog a red dog a red dog"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of 32 values and two layers, at random, with a vocabulary of a few words."""
    transformers = pytest.importorskip("transformers")
    import torch

    folder = tmp_path_factory.mktemp("modern") / "bert"
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "dog"]
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=12,
    )  # fmt: skip
    transformers.BertModel(config).eval().save_pretrained(folder)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("".join(word + "\n" for word in words))
    try:
        tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    except TypeError:
        tokenizer = transformers.BertTokenizer(str(vocabulary))
    tokenizer.save_pretrained(folder)
    return folder


def test_transformers(bert):
    import torch
    import transformers

    encoder = build("captions", settings("none", captions=f"transformers:{bert}"))
    encoded = encoder.encode(TEXTS)
    assert encoder.dim == 32
    assert encoded.vectors.shape == (6, 32)
    assert encoded.tokens.tolist() == [3, 0, 1, 4, 2, 12]
    assert encoded.unknown.tolist() == [0, 0, 0, 0, 1, 0]
    assert encoded.truncated.tolist() == [False] * 5 + [True]
    assert not encoded.vectors[1].any()
    model = transformers.BertModel.from_pretrained(bert).eval()
    with torch.inference_mode():
        states = model(torch.tensor([[2, 5, 6, 7, 3]])).last_hidden_state
    np.testing.assert_allclose(encoded.vectors[0], states[0].mean(0).numpy(), atol=1e-6)
    alone = np.concatenate([encoder.encode([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(encoded.vectors, alone, atol=1e-6)


def test_sentence_transformers(bert, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    try:
        from sentence_transformers.models import Pooling, Transformer
    except ImportError:
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    word = Transformer(str(bert), max_seq_length=10)
    model = library.SentenceTransformer(modules=[word, Pooling(32)], device="cpu")
    model.save(str(tmp_path / "st"))
    encoder = build("dialogues", settings("none", dialogue=f"sentence-transformers:{tmp_path / 'st'}"))
    encoded = encoder.encode(TEXTS)
    assert encoder.dim == 32
    assert encoded.truncated.tolist() == [False] * 5 + [True]
    np.testing.assert_allclose(encoded.vectors[:1], model.encode(TEXTS[:1]), atol=1e-6)
    assert not encoded.vectors[1].any()


@pytest.mark.parametrize("bias", [False, True])
def test_plain_layers_multiply_by_the_fastest_routine(bias, monkeypatch):
    import torch

    products = []
    original = Product.__call__
    monkeypatch.setattr(Product, "__call__", lambda self, x: products.append(x.shape) or original(self, x))
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 7, bias=bias)
    model = torch.nn.Sequential(layer, torch.nn.Tanh())
    x = torch.randn(2, 3, 5)
    with torch.inference_mode():
        modern._with_packed_products(model)
        found = model(x)
    expected = x.double() @ layer.weight.detach().double().T + (layer.bias.detach().double() if bias else 0)
    expected = torch.tanh(expected)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
    assert products == [(6, 5)]


def test_identity(bert):
    found = identity("captions", settings("none", captions=f"transformers:{bert}"))
    assert found == json.loads(json.dumps(found))
    assert found["name"] == "transformers"
    assert "model.safetensors" in found["weights"]


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(ChatPainterError, match="no encoder 'clip'; known: char-cnn-rnn, skip-thought"):
        build("captions", settings("none", captions="clip"))
    with pytest.raises(WeightsError, match="no model for transformers here"):
        identity("captions", settings("none", captions=f"transformers:{tmp_path}"))
