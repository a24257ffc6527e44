"""`embed.words`: a store of every word's vector beside the captions'."""

import numpy as np
import pytest

from pipeline.embed import EmbedRun, EmbedSettings
from pipeline.encoders import Encoded, WordStates
from pipeline.worker import Sync, unload
from store import ChatPainterError, Store
from store.verify import verify_store
from tests.pipeline.embed.test_embed import ENCODER, Notes
from tests.support.corpora import corpus_rows
from tests.support.hash_encoder import vector

DIM = 6


class Words:
    """A factory, and an encoder: a word's vector is its hash, a text's that of the text."""

    def __init__(self):
        self.identity_, self.dim, self.asked = {"name": "words", "trained": True}, 4, []

    def build(self, kind, settings):
        return self

    @property
    def identity(self):
        return Identity(self.identity_)

    def encode(self, texts):
        tokens = np.array([len(text.split()) for text in texts], np.int32)
        return Encoded(np.stack([vector(text, 4) for text in texts]), tokens, tokens // 4, tokens > 9)

    def word_counts(self, texts):
        return np.array([max(1, len(text.split())) for text in texts], np.int64)

    def words(self, texts):
        self.asked += texts
        found = [
            np.stack([vector(word, DIM) for word in text.split()] or [np.zeros(DIM, np.float32)]) for text in texts
        ]
        tokens = np.array([len(text.split()) for text in texts], np.int32)
        return WordStates(np.concatenate(found), self.word_counts(texts), tokens, tokens // 4, tokens > 9)


class Identity(dict):
    """As a mapping the encoder's identity, called what a factory answers."""

    def __call__(self, kind, settings):
        return dict(self)


@pytest.fixture
def made(place):
    unload()
    place.corpus([*corpus_rows(30), {**corpus_rows(31)[30], "captions": [{"caption_id": 9999, "text": " "}]}])
    factory = Words()

    def run(**settings):
        notes = Notes()
        embed = EmbedRun(
            place.path / "out", "t", Sync(), notes, EmbedSettings(**{"dtype": "float32", "words": True, **settings}),
            factory=factory,
        )  # fmt: skip
        embed.embed(place.path / "data/corpus/t.parquet")
        return notes

    return place.path / "out", run, factory


def test_every_caption_has_a_run_of_its_words_vectors(made):
    out, run, _ = made
    run()
    words, captions = Store(out / "words"), Store(out / "captions")
    assert words.index["caption_id"].equals(captions.index["caption_id"])
    assert words.index["image_id"].equals(captions.index["image_id"])
    texts = captions.index["text"].to_pylist()
    assert words.lengths.tolist() == [max(1, len(text.split())) for text in texts]
    assert (words.kind, words.shape, words.manifest.lengths) == ("words", (DIM,), "words")
    runs = words.runs(words.column("row"), words.lengths)
    for text, length, found in zip(texts, words.lengths, runs):
        expected = [vector(word, DIM) for word in text.split()] or [np.zeros(DIM)]
        np.testing.assert_array_equal(found[:length], np.stack(expected))
    assert words.manifest.made_from["encoder"]["output"] == "words"
    assert words.manifest.counts["tokens"] == sum(len(text.split()) for text in texts)
    assert words.manifest.counts["empty"] == 1
    assert list(verify_store(out / "words")) == []


def test_shards_hold_whole_captions_and_are_kept(made, monkeypatch):
    out, run, factory = made
    monkeypatch.setattr(EmbedSettings, "__post_init__", lambda self: None)
    run(shard_mib=1 / 1024)  # 42 words a shard
    store = Store(out / "words")
    firsts = {shard.first_row for shard in store.manifest.shards}
    assert len(firsts) > 10
    assert firsts <= set(store.column("row").tolist())
    factory.asked.clear()
    notes = run(shard_mib=1 / 1024)
    assert (notes.written["words"], len(notes.kept["words"])) == ([], len(firsts))
    assert factory.asked == ["a"]  # how wide its vectors are


def test_without_the_switch_there_is_no_such_store(made):
    out, run, _ = made
    run(words=False)
    assert sorted(path.name for path in out.iterdir()) == ["captions", "dialogues", "turns"]


def test_an_encoder_without_words_is_refused_in_words(place):
    place.corpus(corpus_rows(3))
    embed = EmbedRun(place.path / "out", "t", Sync(), Notes(), EmbedSettings(words=True), factory=ENCODER)
    with pytest.raises(ChatPainterError, match=r"embed.words needs an encoder .*minilm.*; hash has none"):
        embed.embed(place.path / "data/corpus/t.parquet")
