"""Skip-Thought against float64 written from the equations, and against itself in every order and batch."""

import importlib.util
import json
import random

import numpy as np
import pytest

from pipeline.encoders import SkipThoughtSettings, build, identity, prefix_tree
from pipeline.weights import WeightsError
from tests.support.encoder_references import skip_thought as reference
from tests.support.encoders import encoder_settings as settings
from tests.support.skip_thought import gru_arrays, python2_object_array, write_npz

TEXTS = ["is it sunny? yes.", "no.", "dog", "the dog is in the park. it's two people.", "", "  \n\t", "zebra dog zebra"]


def words_of(text):
    """The tokens of TEXTS and of generated texts, written out by hand where splitting is not enough."""
    return {
        "is it sunny? yes.": "is it sunny ? yes .",
        "no.": "no .",
        "the dog is in the park. it's two people.": "the dog is in the park . it 's two people .",
    }.get(text, text).split()


def expected(files, text, **options):
    words = words_of(text)
    rows = np.array([files.rows.get(word, files.rows["UNK"]) for word in words])
    return reference(files.uni, files.bi, files.utable, files.btable, rows, **options)


def generated(seed, count, longest, files):
    draw = random.Random(seed)
    plain = sorted(word for word in files.rows if word.isascii() and word.isalpha() and word not in ("UNK", "cannot"))
    return [" ".join(draw.choice(plain) for _ in range(draw.randint(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def encoder(skip_thought_files):
    return build("dialogues", settings(skip_thought_files.folder))


def test_equals_the_equations(encoder, skip_thought_files):
    encoded = encoder.encode(TEXTS)
    for text, vector in zip(TEXTS, encoded.vectors):
        if text.strip():
            np.testing.assert_allclose(vector, expected(skip_thought_files, text), atol=5e-7)
            assert np.linalg.norm(vector) == pytest.approx(2**0.5, abs=1e-6)


def test_before_normalisation(skip_thought_files):
    encoder = build("dialogues", settings(skip_thought_files.folder, skip_thought=SkipThoughtSettings(normalise=False)))
    for longest in (1, 2, 7, 90):
        texts = generated(longest, 12, longest, skip_thought_files)
        for text, vector in zip(texts, encoder.encode(texts).vectors):
            np.testing.assert_allclose(vector, expected(skip_thought_files, text, normalise=False), atol=1e-6)


def test_counts_and_empty_texts(encoder):
    encoded = encoder.encode(TEXTS)
    assert encoded.tokens.tolist() == [6, 2, 1, 12, 0, 0, 3]
    assert encoded.unknown.tolist() == [0, 0, 0, 1, 0, 0, 2]  # 's and zebra
    assert not encoded.truncated.any()
    assert not encoded.vectors[4:6].any()
    assert encoded.vectors.dtype == np.float32
    assert encoded.vectors.shape == (len(TEXTS), encoder.dim) == (7, 48)


def test_no_texts(encoder):
    assert encoder.encode([]).vectors.shape == (0, 48)


def test_a_bare_string_is_refused(encoder):
    with pytest.raises(TypeError):
        encoder.encode("is it sunny")


def test_no_lower_casing(encoder):
    vectors = encoder.encode(["A dog", "a dog"]).vectors
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-2


def test_end_of_sentence(skip_thought_files):
    encoder = build("dialogues", settings(skip_thought_files.folder, skip_thought=SkipThoughtSettings(eos=True)))
    encoded = encoder.encode(["no.", ""])
    np.testing.assert_allclose(encoded.vectors[0], expected(skip_thought_files, "no . <eos>"), atol=5e-7)
    np.testing.assert_allclose(encoded.vectors[1], expected(skip_thought_files, "<eos>"), atol=5e-7)
    assert encoded.tokens.tolist() == [2, 0]


@pytest.mark.parametrize("variant, columns", [("uni", slice(0, 24)), ("bi", slice(24, 48))])
def test_halves_alone(skip_thought_files, variant, columns):
    alone = build("dialogues", settings(skip_thought_files.folder, skip_thought=SkipThoughtSettings(variant=variant)))
    for text, vector in zip(TEXTS[:4], alone.encode(TEXTS[:4]).vectors):
        np.testing.assert_allclose(vector, expected(skip_thought_files, text)[columns], atol=5e-7)


def test_a_vector_depends_on_its_text_alone(encoder, skip_thought_files, monkeypatch):
    texts = generated(1, 300, 12, skip_thought_files) + generated(2, 20, 100, skip_thought_files)
    texts += texts[:50]
    whole = encoder.encode(texts).vectors
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = encoder.encode([texts[i] for i in order]).vectors
    np.testing.assert_allclose(shuffled, whole[order], atol=1e-6)
    alone = np.concatenate([encoder.encode([text]).vectors for text in texts[::17]])
    np.testing.assert_allclose(alone, whole[::17], atol=1e-6)
    parts = np.concatenate([encoder.encode(texts[start : start + 64]).vectors for start in range(0, len(texts), 64)])
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    monkeypatch.setattr(prefix_tree, "MOST_SEQUENCES", 7)
    monkeypatch.setattr(prefix_tree, "MOST_WORDS", 9)
    for half in encoder.halves:
        for direction in half:
            monkeypatch.setattr(direction, "block", 5)
    np.testing.assert_allclose(encoder.encode(texts).vectors, whole, atol=1e-6)


def test_two_thousand_words(encoder, skip_thought_files):
    text = " ".join(generated(5, 1, 1, skip_thought_files)[0] for _ in range(1)) + " dog is cat" * 700
    vector = encoder.encode([text]).vectors[0]
    np.testing.assert_allclose(vector, expected(skip_thought_files, text), atol=5e-7)


def test_the_tree_shares_what_sequences_share():
    sequences, place = prefix_tree.distinct([[1, 2, 3], [1, 2, 4], [1, 2], [1, 2, 3], [5]])
    assert len(sequences) == 4
    assert place.tolist() == [1, 2, 0, 1, 3]
    tree = prefix_tree.Sequences(sequences)
    assert [len(level.words) for level in tree.levels(reverse=False)] == [2, 1, 2]
    assert [len(level.inner) for level in tree.levels(reverse=False)] == [1, 1, 0]
    assert [len(level.words) for level in tree.levels(reverse=True)] == [4, 3, 2]
    ends = [number for level in tree.levels(reverse=True) for number in level.sequences]
    assert sorted(ends) == [0, 1, 2, 3]


def test_pieces_bound_sequences_and_words(monkeypatch):
    monkeypatch.setattr(prefix_tree, "MOST_SEQUENCES", 3)
    monkeypatch.setattr(prefix_tree, "MOST_WORDS", 4)
    ordered = sorted({(i // 7, i) for i in range(40)} | {tuple(range(50, 60))})
    pieces = list(prefix_tree.pieces(ordered))
    assert [row for piece in pieces for row in ordered[piece]] == ordered
    for piece in pieces:
        part = ordered[piece]
        assert len(part) <= 3
        assert len(part) == 1 or len({word for row in part for word in row}) <= 4


def test_words_that_line_breaks_would_tear(encoder, skip_thought_files):
    for word in ("\u00e9t\u00e9", "\u30c6\u30b9\u30c8", "\U0001f600"):
        np.testing.assert_allclose(encoder.encode([word]).vectors[0], expected(skip_thought_files, word), atol=5e-7)
    # "dog" and "dog " are one word once stripped: the last row wins
    assert skip_thought_files.rows["dog"] > skip_thought_files.rows["two"]


def test_identity_says_what_decides_a_vector(skip_thought_files):
    folder = skip_thought_files.folder
    base = identity("dialogues", settings(folder))
    assert base == build("dialogues", settings(folder)).identity == json.loads(json.dumps(base))
    assert base["trained"] is True
    assert set(base["weights"]) == {"uni_skip.npz", "bi_skip.npz", "utable.npy", "btable.npy", "dictionary.txt"}
    assert all(len(value) == 64 for value in base["weights"].values())
    for change in ({"eos": True}, {"normalise": False}, {"variant": "bi"}, {"tokenizer": "treebank-3.0.4"}):
        assert identity("dialogues", settings(folder, skip_thought=SkipThoughtSettings(**change))) != base
    assert identity("dialogues", settings(folder, precision="tf32")) != base


def test_equals_the_package_skipthoughts(tmp_path):
    """UniSkip and BiSkip of skipthoughts 0.0.1 on the same files, at the published dimensions."""
    if importlib.util.find_spec("skipthoughts") is None:
        pytest.skip("the package skipthoughts 0.0.1 is not installed")
    import skipthoughts
    import torch

    rng = np.random.default_rng(1)
    words = ["<eos>", "UNK", "is", "it", "sunny", "?", "yes", ".", "dog"]
    write_npz(tmp_path / "uni_skip.npz", gru_arrays(rng, 620, 2400))
    write_npz(tmp_path / "bi_skip.npz", gru_arrays(rng, 620, 1200, ("", "r_")))
    for name in ("utable", "btable"):
        table = rng.standard_normal((len(words), 620)).astype(np.float32)
        (tmp_path / f"{name}.npy").write_bytes(python2_object_array(table, flat={0, 1}))
    (tmp_path / "dictionary.txt").write_text("".join(word + "\n" for word in words))
    (tmp_path / "WEIGHTS.json").write_text('{"trained": true}')
    sentences = ["is it sunny ? yes .", "is dog .", "yes .", "is it dog ? is it yes ? it is ."]
    ours = build("dialogues", settings(tmp_path)).encode(sentences).vectors
    ids = torch.zeros(len(sentences), max(len(s.split()) for s in sentences), dtype=torch.long)
    for row, sentence in zip(ids, sentences):
        row[: len(sentence.split())] = torch.tensor([words.index(word) + 1 for word in sentence.split()])
    lengths = [len(sentence.split()) for sentence in sentences]
    with torch.inference_mode():
        uni = skipthoughts.UniSkip(str(tmp_path), words).eval()(ids, list(lengths))
        bi = skipthoughts.BiSkip(str(tmp_path), words).eval()(ids, list(lengths))
    halves = [half / half.norm(dim=1, keepdim=True) for half in (uni, bi)]
    np.testing.assert_allclose(ours, torch.cat(halves, 1).numpy(), atol=5e-7)


@pytest.mark.gpu
def test_cuda_equals_cpu(skip_thought_files):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    texts = generated(3, 200, 20, skip_thought_files)
    folder = skip_thought_files.folder
    cpu, cuda = (
        build("dialogues", settings(folder, device=device)).encode(texts).vectors for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(cuda, cpu, atol=1e-5)


def test_cuda_without_a_gpu_says_so(skip_thought_files, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Exception, match="device is cuda, but torch finds no GPU"):
        build("dialogues", settings(skip_thought_files.folder, device="cuda"))


def test_tables_of_another_release_are_refused(skip_thought_files, tmp_path):
    import shutil

    folder = tmp_path / "mixed"
    shutil.copytree(skip_thought_files.folder, folder, ignore=shutil.ignore_patterns("converted"))
    with (folder / "dictionary.txt").open("a") as file:
        file.write("onemore\n")
    with pytest.raises(WeightsError, match=r"utable\.npy: 41 word vectors of 8 values, expected 42"):
        build("dialogues", settings(folder))
