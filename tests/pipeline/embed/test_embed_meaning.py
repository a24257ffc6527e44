"""Vectors that cannot say what their texts said are counted, and said; nothing to encode is refused."""

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from pipeline import worker
from pipeline.embed_cli import main, meaningless
from store import Store
from store.writer import StoreWriter
from tests.support.char_cnn_rnn import char_cnn_rnn_t7, random_net
from tests.support.corpora import corpus_rows
from tests.support.outcomes import refused

JAPANESE = ["黄色い自転車が道にある", "赤い車が海の前に止まる", "二人の男が公園で遊んで", "白い猫がいる"]
ENGLISH = ["a yellow bicycle", "A yellow bicycle ", "a red car", "two men play", "a white cat", "an old house"]


def embed(place, captions, *options, **encoders):
    """chatpainter-embed over captions, one an image, with a real char-CNN-RNN of random weights."""
    rows = corpus_rows(len(captions))
    for row, text in zip(rows, captions):
        row["captions"] = [{"caption_id": row["image_id"], "text": text}]
    place.corpus(rows)
    (place.path / "weights").mkdir(exist_ok=True)
    (place.path / "weights/net.t7").write_bytes(char_cnn_rnn_t7(random_net(np.random.default_rng(0))))
    settings = {"weights": str(place.path / "weights"), "untrained": None, "converted": str(place.path / "converted")}
    (place.path / "params.yaml").write_text(yaml.safe_dump({"encoders": settings | encoders}))
    worker.unload()
    arguments = ["--split", "t", "--kind", "captions", "--scheduler", "sync", "--out", str(place.path / "out"),
                 "--corpus", str(place.path / "data/corpus"), "--params", str(place.path / "params.yaml")]  # fmt: skip
    return CliRunner().invoke(main, [*arguments, *options])


def test_a_language_that_the_encoder_cannot_read_is_a_warning(place):
    done = embed(place, JAPANESE)
    assert done.exit_code == 0, done.output
    counts = Store(place.path / "out/t/captions").manifest.counts
    assert (counts["distinct"], counts["shared"]) == (4, 4)
    assert len(np.unique(Store(place.path / "out/t/captions").slice(0, 4), axis=0)) == 1
    (warning,) = done.stderr.splitlines()
    assert warning.startswith(
        "warning: captions: 4 of 4 distinct texts (100%) have the vector of another text, so they cannot be told "
        "apart; 100% of what the texts say is unknown to char-cnn-rnn. Does char-cnn-rnn read their language? docs/"
    )


def test_captions_that_it_reads_are_none(place):
    done = embed(place, ENGLISH * 9 + [f"{number} birds" for number in range(40)])
    counts = Store(place.path / "out/t/captions").manifest.counts
    assert (counts["distinct"], counts["shared"]) == (46, 2)  # capitals are lowered, white space at the ends dropped
    assert (done.exit_code, done.stderr) == (0, "")
    done = embed(place, ENGLISH)
    assert "2 of 6 distinct texts (33%) have the vector of another text" in done.stderr


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"distinct": 100, "shared": 5, "tokens": 100, "unknown": 50}, None),
        ({"distinct": 100, "shared": 6, "tokens": 100, "unknown": 50}, "6 of 100 distinct texts (6%)"),
        ({"distinct": 100, "shared": 5, "tokens": 100, "unknown": 51}, "51% of what the texts say"),
        ({"distinct": 1, "tokens": 0, "unknown": 0}, None),  # made before sharing was counted
    ],
)
def test_the_limits(counts, said):
    warning = meaningless("turns", counts, "skip-thought")
    assert (warning is None) == (said is None)
    assert said is None or f"warning: turns: {said}" in warning


@pytest.mark.parametrize("rows", [[], [{**corpus_rows(1)[0], "captions": [], "rounds": []}]])
def test_nothing_to_encode_is_refused_and_removes_nothing(place, rows):
    import pyarrow as pa

    kept = place.path / "out/t/captions"
    with StoreWriter(kept, kind="captions", split="t", shape=(2,), dtype="float32", made_from={"corpus": ""}) as writer:
        for number in writer.plan([(0, 3, "key")]):
            writer.write_shard(number, np.ones((3, 2), np.float32))
        writer.commit(pa.table({"row": [0, 1, 2]}), {})
    before = {path: path.read_bytes() for path in kept.iterdir()}
    place.corpus(rows)
    done = place.here("--scheduler", "sync")
    assert "t.parquet: " in refused(done)
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


@pytest.mark.parametrize(
    "section",
    [False, 0, "", [], "workers", {"workers": 10**9}, {"workers": True}, {"shard_mib": 10**9}, {"shard_mib": 0.5},
     {"dtype": "float64"}, {"dtype": None}, {"workers": -1}, {"workers": "2"}, {"shard_mib": float("inf")}],
)  # fmt: skip
def test_a_section_of_another_kind_is_refused(place, section):
    place.corpus(corpus_rows(2))
    (place.path / "params.yaml").write_text(yaml.safe_dump({"embed": section}))
    assert "params.yaml: embed" in refused(place.here("--scheduler", "sync"))
    assert not (place.path / "out").exists()


@pytest.mark.parametrize(
    ("module", "said"),
    [("no_such_module", "cannot be imported"), ("json", "has no functions build"), ("..", "cannot be imported"),
     ("", "cannot be imported")],
)  # fmt: skip
def test_a_module_that_is_no_factory(place, module, said):
    place.corpus(corpus_rows(2))
    assert said in refused(place.here("--scheduler", "sync", "--encoders", module))


def test_no_more_threads(place, monkeypatch):
    import threading

    def start(thread):
        raise RuntimeError("can't start new thread")

    place.corpus(corpus_rows(2))
    monkeypatch.setattr(threading.Thread, "start", start)
    assert "no more threads can be started here" in refused(place.here("--scheduler", "sync"))
