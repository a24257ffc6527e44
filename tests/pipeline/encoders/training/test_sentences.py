"""Ordered sentences, the batches drawn from them, and words that come later."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpora import corpus
from pipeline.encoders.training import expansion
from pipeline.encoders.training.batches import Batches
from pipeline.encoders.training.sentences import Sentences, checksums, documents, prepare
from pipeline.texts import TextSettings
from store.errors import ChatPainterError


def made(folder: Path, text: str, **options: int) -> Sentences:
    path = folder / "told.txt"
    path.write_text(text)
    given = {"words": 100, "longest": 30, "held_out": 2, **options}
    return prepare(folder / "s", checksums([path]), TextSettings(), "treebank-3.2.5", **given)


def said(data: Sentences, row: int) -> str:
    return " ".join(data.words[word] for word in data.tokens[data.starts[row] : data.starts[row + 1]])


def test_documents_of_a_corpus_are_its_captions_and_its_dialogues(tmp_path):
    rows = [
        corpus.Row(1, "1.jpg", 4, 4, [(1, "A dog."), (2, "Some dog.")], [("is it big", "no"), ("red", "yes")], "dog"),
        corpus.Row(2, "2.jpg", 4, 4, [(3, "A cat.")], [], ""),
    ]
    corpus.write(rows, tmp_path / "train.parquet")
    assert list(documents(tmp_path / "train.parquet", TextSettings())) == [
        ["A dog.", "Some dog."], ["A dog.", "is it big? no.", "red? yes."], ["A cat."], []
    ]  # fmt: skip


def test_words_are_numbered_by_frequency_and_the_rest_is_unknown(tmp_path):
    data = made(tmp_path, "b a a\na c\na b <eos>\n\nd\nd\nd\n", words=4)
    assert data.words == ["<eos>", "UNK", "a", "d"]
    assert data.tokens.tolist()[:3] == [1, 2, 2]
    assert [said(data, row) for row in range(6)] == ["UNK a a", "a UNK", "a UNK UNK UNK UNK", "d", "d", "d"]
    assert data.about["unknown"] == 6  # "<eos>" in a text is cut into < eos >


def test_neighbours_are_of_one_document_and_none_too_long_is_one(tmp_path):
    long = " ".join(["x"] * 6)
    data = made(tmp_path, f"a\nb\nc\nd\n\ne\nf\ng\n\nh\n{long}\ni\nj\nk\n", longest=5)
    assert [said(data, row) for row in data.seen] == ["b", "c", "j"]
    assert [said(data, row) for row in data.held_out] == ["f"]


def test_what_is_made_is_kept_and_made_anew_for_other_texts(tmp_path):
    made(tmp_path, "a\nb\nc\n\nd\ne\nf\n")
    before = (tmp_path / "s/tokens.i4").stat().st_mtime_ns
    made(tmp_path, "a\nb\nc\n\nd\ne\nf\n")
    assert (tmp_path / "s/tokens.i4").stat().st_mtime_ns == before
    assert said(made(tmp_path, "a\nb\nz\n\nd\ne\nf\n"), 2) == "z"


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a\nb\n\xff\xfe\n", "told.txt, line 3: not UTF-8"),
        (b"", "0 sentences"),
        (b"a\nb\nc\n", "3 sentences, of which 1 to learn from and 0 held out"),
    ],
)
def test_texts_that_cannot_be_learned_from_are_refused_in_words(tmp_path, content, said):
    path = tmp_path / "told.txt"
    path.write_bytes(content)
    with pytest.raises(ChatPainterError, match=said):
        prepare(tmp_path / "s", checksums([path]), TextSettings(), "treebank-3.2.5", words=9, longest=9, held_out=2)
    with pytest.raises(ChatPainterError, match=r"none.txt: no such file"):
        checksums([path, tmp_path / "none.txt"])


@given(st.integers(3, 300), st.integers(1, 9), st.integers(0, 99))
def test_every_sentence_is_seen_once_an_epoch_but_for_what_fills_no_batch(count, size, seed):
    data = Sentences(
        np.arange(3, 3 + 3 * count, dtype=np.int32), np.append(0, np.cumsum(1 + np.arange(count + 2) % 4)),
        np.arange(1, count + 1), np.empty(0, np.int64), [], {},
    )  # fmt: skip
    data = Sentences(np.arange(data.starts[-1], dtype=np.int32), *list(data.__dict__.values())[1:])
    batches = Batches(data, size, seed)
    first = [word for i in range(batches.each_epoch) for word in batches[i].sentences[:, 0].tolist()]
    assert len(set(first)) == len(first) == batches.each_epoch * batches.size
    fresh = Batches(data, size, seed)  # any batch by its number alone
    number = batches.each_epoch + batches.each_epoch // 2
    for name, value in fresh[number].__dict__.items():
        np.testing.assert_array_equal(value, getattr(batches[number], name))


def test_a_batch_holds_each_sentence_with_its_neighbours(tmp_path):
    data = made(tmp_path, "a b\nc\nd e f\n\ng\nh\ni\n")
    batch = Batches(data, 4, 0)[0]
    number = {word: i for i, word in enumerate(data.words)}
    assert batch.sentences.tolist() == [[number["c"], 0]]
    assert batch.before.tolist() == [[number["a"], number["b"], 0]]
    assert batch.after.tolist() == [[number["d"], number["e"], number["f"], 0]]
    assert (batch.lengths.tolist(), batch.before_lengths.tolist(), batch.after_lengths.tolist()) == ([2], [3], [4])
    assert (batch.targets(itself=False), batch.targets(itself=True)) == (7, 7 + batch.lengths.sum())


def test_a_vocabulary_is_expanded_by_the_least_squares_map(tmp_path):
    rng = np.random.default_rng(0)
    theirs = rng.standard_normal((30, 4)).astype(np.float32)
    true = rng.standard_normal((5, 3))
    own = (theirs.astype(np.float64) @ true[:-1] + true[-1]).astype(np.float32)
    lines = [f"w{i} " + " ".join(map(repr, row.tolist())) for i, row in enumerate(theirs)]
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(["30 4", *lines, "New_York 0 0 0 0", "w29 9 9 9 9"]))
    words, vectors = expansion.read(path)
    np.testing.assert_array_equal(vectors, theirs)
    assert words == [f"w{i}" for i in range(30)]
    table = np.concatenate([rng.standard_normal((2, 3)).astype(np.float32), own[:20]])
    known = ["<eos>", "UNK", *words[:20]]
    expanded, tables, shared = expansion.expand(known, {"uni": table}, words, vectors)
    assert (expanded, shared) == (known + words[20:], 20)
    np.testing.assert_array_equal(tables["uni"][:22], table)
    np.testing.assert_allclose(tables["uni"][22:], own[20:], atol=1e-5)


@pytest.mark.parametrize(
    "content, said", [("a 1 2\nb 1\n", "line 2: 'b 1' is no word with 2 values"), ("", "no word vectors"),
                      ("a 1 nan\n", "line 1"), ("a 1 2\nb 1 2 c\n", "line 2")]
)  # fmt: skip
def test_word_vectors_that_are_none_are_refused_in_words(tmp_path, content, said):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ChatPainterError, match=said):
        expansion.read(path)


def test_too_few_words_in_common_are_refused_in_words():
    with pytest.raises(ChatPainterError, match="share 1 words"):
        expansion.expand(["a"], {"uni": np.zeros((1, 2), np.float32)}, ["a", "b"], np.ones((2, 3), np.float32))
