"""Captions as numbers of words, and AttnGAN's captions.pickle."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline import token_ids
from pipeline.corpora import corpus
from pipeline.weights import attngan
from store import Store
from store.errors import ChatPainterError
from words.vocabulary import END, Vocabulary


def write_corpus(path: Path, captions: list[list[str]]) -> None:
    rows, number = [], 0
    for image, texts in enumerate(captions):
        said = []
        for text in texts:
            said.append((number, text))
            number += 1
        rows.append(corpus.Row(10 + image, f"{image}.jpg", None, None, said, rounds=[], visdial_caption=""))
    path.parent.mkdir(parents=True, exist_ok=True)
    corpus.write(rows, path)


def runs(store: Store) -> list[list[int]]:
    first = store.column("row")
    return [store.slice(begin, begin + length)[:, 0].tolist() for begin, length in zip(first, store.lengths)]


def test_every_caption_is_a_run_of_numbers(tmp_path: Path) -> None:
    write_corpus(tmp_path / "train.parquet", [["A red bird.", "bird!"], ["..."]])
    write_corpus(tmp_path / "val.parquet", [["a blue bird"]])
    vocabulary = token_ids.vocabulary_of(tmp_path, ["train", "val"])
    assert vocabulary.words == (END, "a", "bird", "blue", "red")
    manifest = token_ids.make(tmp_path, "train", vocabulary, tmp_path / "out")
    store = Store(tmp_path / "out/train/tokens", verify=True)
    assert runs(store) == [[1, 4, 2], [2], [0]]
    assert store.column("image_id").tolist() == [10, 10, 11]
    assert manifest.counts == {"texts": 3, "tokens": 4, "unknown": 0, "empty": 1}
    assert manifest.made_from["vocabulary"] == {"words": [END, "a", "bird", "blue", "red"]}
    again = token_ids.make(tmp_path, "train", vocabulary, tmp_path / "out")
    assert again == manifest
    other = token_ids.make(tmp_path, "train", Vocabulary((END, "bird")), tmp_path / "out")
    assert runs(Store(tmp_path / "out/train/tokens")) == [[1], [1], [0]]
    assert other.counts["unknown"] == 2


def test_shards_end_between_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_ids, "SHARD_ROWS", 4)
    captions = [["a b c"], ["a b"], ["c"], ["a b c a b c"], ["b"]]
    write_corpus(tmp_path / "train.parquet", captions)
    vocabulary = token_ids.vocabulary_of(tmp_path, ["train"])
    token_ids.make(tmp_path, "train", vocabulary, tmp_path)
    store = Store(tmp_path / "train/tokens", verify=True)
    assert [vocabulary.text(run) for run in runs(store)] == [text for (text,) in captions]
    assert len(store.manifest.shards) > 2


def test_a_vocabulary_as_large_as_coco_s_stands_in_the_manifest(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(27_296)]
    write_corpus(tmp_path / "train.parquet", [[" ".join(words)]])
    vocabulary = token_ids.vocabulary_of(tmp_path, ["train"])
    assert len(vocabulary) == 27_297
    token_ids.make(tmp_path, "train", vocabulary, tmp_path)
    store = Store(tmp_path / "train/tokens", verify=True)
    assert vocabulary.text(runs(store)[0]) == " ".join(words)
    assert store.manifest.made_from["vocabulary"]["words"] == list(vocabulary.words)


CONTENT: list[Any] = [
    [[1, 2], [2]],
    [[3]],
    {0: END, 1: "a", 2: "bird", 3: "w" * 70},
    {END: 0, "a": 1, "bird": 2, "w" * 70: 3},
]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_captions_pickle_comes_in_and_goes_out(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "captions.pickle"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    found = attngan.read_captions(path)
    assert (found.train, found.test) == (CONTENT[0], CONTENT[1])
    assert found.vocabulary.words == (END, "a", "bird", "w" * 70)
    attngan.write_captions(found, tmp_path / "again.pickle")
    assert pickle.loads((tmp_path / "again.pickle").read_bytes()) == CONTENT  # noqa: S301


def test_captions_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """<end> as Python 2's str, the other words as text; numbers as K, lists by APPENDS."""
    word = b"X\x04\x00\x00\x00bird"
    end = b"U\x05<end>"
    content = b"\x80\x02](](](K\x01K\x01ee]" + b"}(K\x00" + end + b"K\x01" + word + b"u}(" + end + b"K\x00" + word
    (tmp_path / "captions.pickle").write_bytes(content + b"K\x01ue.")
    found = attngan.read_captions(tmp_path / "captions.pickle")
    assert (found.train, found.test, found.vocabulary.words) == ([[1, 1]], [], (END, "bird"))


@pytest.mark.parametrize(
    "content, message",
    [
        ([[], [], {0: END}], "expected a list of train captions"),
        ([[], [], {1: END}, {END: 1}], "not numbered from 0"),
        ([[], [], {0: END, 1: "a"}, {END: 1, "a": 0}], "contradict each other"),
        ([[[5]], [], {0: END}, {END: 0}], "a number that stands for no word"),
        ([[5], [], {0: END}, {END: 0}], "lists of lists"),
        ([[], [], {0: "a"}, {"a": 0}], "word 0 must be <end>"),
        ([[], [], [END], {END: 0}], "should be dictionaries"),
        (Path("x"), "asks for"),
    ],
)
def test_what_is_not_captions_pickle_is_refused_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "captions.pickle"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ChatPainterError, match=message) as refused:
        attngan.read_captions(path)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    with pytest.raises(ChatPainterError, match="cannot be read"):
        attngan.read_captions(tmp_path / "none.pickle")


def test_the_command_numbers_every_split(tmp_path: Path) -> None:
    from pipeline.prepare_cli import main

    write_corpus(tmp_path / "corpus/train.parquet", [["a red bird"]])
    write_corpus(tmp_path / "corpus/val.parquet", [["a green bird"]])
    (tmp_path / "params.yaml").write_text("splits: [train, val]\n")
    (tmp_path / "captions.pickle").write_bytes(pickle.dumps(CONTENT, protocol=2))
    arguments = ["--params", str(tmp_path / "params.yaml"), "tokens", "--corpus", str(tmp_path / "corpus")]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert "1 captions, 3 words of 5, 0 unknown" in done.output
    assert runs(Store(tmp_path / "out/val/tokens")) == [[1, 3, 2]]
    given = ["--vocabulary", str(tmp_path / "captions.pickle"), "--out", str(tmp_path / "theirs")]
    done = CliRunner().invoke(main, [*arguments, *given, "--split", "val"], catch_exceptions=False)
    assert "1 captions, 2 words of 4, 1 unknown" in done.output
    assert np.array_equal(runs(Store(tmp_path / "theirs/val/tokens"))[0], [1, 2])
