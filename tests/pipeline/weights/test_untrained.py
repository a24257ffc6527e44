"""Untrained weights: the published formats, the same bytes every time, and vectors that still say what a text said."""

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.corpora import corpus
from pipeline.encoders import EncoderSettings, build
from pipeline.prepare_cli import main as prepare
from pipeline.texts import TextSettings, turn
from pipeline.weights import WeightsError, reed, tables, theano, untrained
from pipeline.weights.published import MARKER
from store.errors import ChatPainterError
from store.files import sha256_file

COLOURS = ["red", "green", "blue", "yellow", "purple", "orange"]
SHAPES = ["circle", "square", "triangle"]
PLACES = ["top left", "top right", "bottom left", "bottom right"]


def sentences(seed, count):
    """Captions and rounds in the manner of the sample world, with what each says."""
    draw = random.Random(seed)
    captions, rounds = [], []
    for _ in range(count):
        said = {"colour": draw.choice(COLOURS), "shape": draw.choice(SHAPES), "place": draw.choice(PLACES)}
        thing = f"a {draw.choice(['small', 'large'])} {said['colour']} {said['shape']}"
        form = draw.choice(("{0} at the {1} and one other object", "a picture of two objects with {0} at the {1}"))
        captions.append((form.format(thing, said["place"]), said))
        question = draw.choice(("what is at the {}", "what do you see at the {}")).format(said["place"])
        rounds.append((question, draw.choice((thing, f"there is {thing}")), said))
    return captions, rounds


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    captions, rounds = sentences(0, 1200)
    rows = [
        corpus.Row(i, f"{i}.png", None, None, [(i, caption)], [(question, answer)], "A capital")
        for i, ((caption, _), (question, answer, _)) in enumerate(zip(captions, rounds))
    ]
    corpus.write(rows, folder / "train.parquet")
    encoders = EncoderSettings(
        weights=str(folder / "none"), untrained=str(folder / "out"), converted=str(folder / "converted")
    )
    settings = untrained.UntrainedSettings()
    untrained.make(folder / "out", settings, [folder / "train.parquet"], TextSettings(), encoders)
    return folder, encoders, captions, rounds


def readout(vectors, labels):
    """Share of held-out texts whose label a ridge regression reads from the vector as it is stored (float16)."""
    names = sorted(set(labels))
    targets = np.eye(len(names))[[names.index(label) for label in labels]]
    x = vectors.astype(np.float16).astype(np.float64)
    half = len(x) // 2
    x = np.c_[(x - x[:half].mean(0)) / x[:half].std(0).mean(), np.ones(len(x))]
    ridge = 1e-3 * half * np.eye(x.shape[1])
    weights = np.linalg.solve(x[:half].T @ x[:half] + ridge, x[:half].T @ targets[:half])
    return ((x[half:] @ weights).argmax(1) == targets[half:].argmax(1)).mean()


def test_captions_say_what_they_said(world):
    _, encoders, captions, _ = world
    vectors = build("captions", encoders).encode([text for text, _ in captions]).vectors
    for what in ("colour", "shape", "place"):
        assert readout(vectors, [said[what] for _, said in captions]) >= 0.97, what


def test_wide_captions_say_more_at_once(world, tmp_path):
    """Which thing of 18 is at which place of four: what a generator needs, and small vectors blur."""
    folder, encoders, captions, _ = world
    settings = untrained.UntrainedSettings(size="wide")
    untrained.make(tmp_path / "out", settings, [folder / "train.parquet"], TextSettings(), encoders)
    wide = replace(encoders, untrained=str(tmp_path / "out"), converted=str(tmp_path / "converted"))
    labels = [" ".join(said.values()) for _, said in captions]
    texts = [text for text, _ in captions]
    small, more = (build("captions", one).encode(texts).vectors for one in (encoders, wide))
    assert (small.shape[1], more.shape[1]) == (256, 512)
    assert 1 - readout(more, labels) <= (1 - readout(small, labels)) / 2, "seen: 0.010 and 0.045 wrong"


def test_turns_say_what_they_said(world):
    _, encoders, _, rounds = world
    encoder = build("dialogues", encoders)
    vectors = encoder.encode([turn(question, answer, TextSettings()) for question, answer, _ in rounds]).vectors
    for what in ("colour", "shape", "place"):
        assert readout(vectors, [said[what] for _, _, said in rounds]) >= 0.99, what
    assert encoder.identity["trained"] is False


def test_formats(world):
    folder, *_ = world
    out = folder / "out"
    names = {path.name for path in out.iterdir()}
    assert names >= {"uni_skip.npz", "bi_skip.npz", "utable.npy", "btable.npy", "dictionary.txt", MARKER, "README.txt"}
    words, lines = theano.dictionary(out / "dictionary.txt")
    assert {"UNK", "<eos>", "red", "triangle", "?", ".", "A", "a", "capital"} <= set(words)
    elements = np.load(out / "utable.npy", allow_pickle=True, encoding="latin1")
    assert {element.shape for element in elements} == {(1, 64), (64,)}
    mapped = tables.mapped(out / "utable.npy", sha256_file(out / "utable.npy"), folder / "again")
    np.testing.assert_array_equal(np.stack([e.reshape(-1) for e in elements]), mapped[np.arange(lines)])
    assert mapped.shape == (lines, 64)
    _, says_untrained = theano.parameters(out / "bi_skip.npz", 2)
    assert says_untrained
    weights = reed.load(out / untrained.T7_NAME)
    assert (weights.variant, weights.dim, weights.untrained) == ("gru18-mean-256", 256, True)
    assert "Nobody trained them" in (out / "README.txt").read_text()


def test_the_same_arguments_give_the_same_bytes(world):
    folder, encoders, _, _ = world

    def digest(out, **settings):
        untrained.make(
            folder / out, untrained.UntrainedSettings(**settings), [folder / "train.parquet"], TextSettings(), encoders
        )
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / out).iterdir()}

    first = digest("one")
    assert digest("one") == first == digest("two")
    other = digest("two", seed=12)
    assert all(other[name] != first[name] for name in ("uni_skip.npz", "btable.npy", untrained.T7_NAME))
    assert set(digest("two", size="none")) == {"README.txt", MARKER}
    assert digest("two", size="none") != first
    with pytest.raises(WeightsError, match="no weights for Skip-Thought"):
        build("dialogues", EncoderSettings(weights=str(folder / "none"), untrained=str(folder / "two")))


def remade(folder, encoders, out):
    settings = untrained.UntrainedSettings(size="none")
    return untrained.make(out, settings, [folder / "train.parquet"], TextSettings(), encoders)


FOREIGN = {
    "a published file beside ours": lambda out: (out / "bi_skip.npz").write_bytes(b"published"),
    "a file of one's own": lambda out: (out / "thesis.txt").write_text("mine"),
    "one in a folder below": lambda out: ((out / "old").mkdir(), (out / "old" / "utable.npy").write_bytes(b"x")),
    "a changed file": lambda out: (out / "README.txt").write_text("mine"),
    "a link": lambda out: (out / "more").symlink_to(out.parent),
    "no marker": lambda out: (out / MARKER).unlink(),
    "another's marker": lambda out: (out / MARKER).write_text('{"trained": true}'),
    "a marker without its files": lambda out: (out / MARKER).write_text('{"made_by": "chatpainter-prepare weights"}'),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_but_what_this_command_wrote_is_replaced(world, tmp_path, what):
    folder, encoders, *_ = world
    out = tmp_path / "weights"
    remade(folder, encoders, out)
    FOREIGN[what](out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(
        ChatPainterError, match=r"replaces all of .*weights; move it, or name another folder with --out"
    ):
        remade(folder, encoders, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_the_published_weights_survive_the_command(world, tmp_path, monkeypatch):
    folder, *_ = world
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "data" / "weights"
    weights.mkdir(parents=True)
    (weights / "uni_skip.npz").write_bytes(b"5.6 GB that no host serves any more")
    for name in ("--out", "encoders.untrained"):
        (tmp_path / "params.yaml").write_text("splits: [train]\nencoders: {untrained: data/weights}\n")
        options = ["--out", "data/weights"] if name == "--out" else []
        done = CliRunner().invoke(prepare, ["weights", "--corpus", str(folder / "train.parquet"), *options])
        assert done.exit_code == 1
        assert done.output.startswith("Error: data/weights/uni_skip.npz: not as `chatpainter-prepare weights` wrote it")
    assert [path.name for path in weights.iterdir()] == ["uni_skip.npz"]


def test_untrained_files_cannot_pass_for_others(world, tmp_path):
    folder, *_ = world
    for path in (folder / "out").iterdir():
        if path.name != MARKER:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    stolen = EncoderSettings(weights=str(tmp_path), untrained=None, converted=str(tmp_path / "converted"))
    with pytest.raises(WeightsError, match="says of itself that it is untrained"):
        build("captions", stolen)
    (tmp_path / MARKER).write_text('{"trained": true}')
    for kind in ("captions", "dialogues"):
        with pytest.raises(WeightsError, match="says of itself that it is untrained"):
            build(kind, stolen)
    (tmp_path / MARKER).unlink()
    with pytest.raises(WeightsError, match="the published file has"):
        build("dialogues", stolen)


def test_published_size():
    weights = untrained.SIZES["published"]
    assert (weights.words, weights.uni, weights.captions) == (620, 2400, 1024)
    assert weights.convolutions == (384, 512, 512)
