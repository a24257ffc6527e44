"""CLIP from a local folder: a tiny random one, written as transformers writes them."""

import json
from pathlib import Path

import numpy as np
import pytest

from store.errors import ChatPainterError
from trainer.evaluation import clip
from trainer.evaluation.weights import Missing

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    characters = "abcdefghijklmnopqrstuvwxyz0123456789?."
    words = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    text = {**small, "vocab_size": len(words), "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    vision = {**small, "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(root / "tiny")
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(root / "tiny")
    (root / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(root / "vocab.json"), str(root / "merges.txt"))
    tokenizer.save_pretrained(root / "tiny")
    return root


def test_pictures_and_texts_as_unit_vectors(folder):
    judge = clip.load(folder, "tiny", "cpu")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    features = judge.measure(pictures)["features"]
    assert features.shape == (3, 8)
    np.testing.assert_allclose((features**2).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(judge.measure(pictures[1:2])["features"][0], features[1], atol=1e-5)
    assert judge.read is not None
    texts = ["a red circle", "sand", "what is at the top left? nothing " * 40]  # far over 77 tokens
    vectors = judge.read(texts)
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(judge.read(texts[:1])[0], vectors[0], atol=1e-5)  # padding changes nothing
    assert abs(vectors[0] - vectors[1]).max() > 1e-3


def test_missing_and_wrong_folders(folder, tmp_path):
    with pytest.raises(Missing, match=r"model\.safetensors"):
        clip.load(tmp_path, "clip-vit-base-patch32", "cpu")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong/model.safetensors").write_bytes(b"x")
    with pytest.raises(ChatPainterError, match="not a CLIP checkpoint"):
        clip.load(tmp_path, "wrong", "cpu")
