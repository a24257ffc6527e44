"""chatpainter-embed in one process: what lands in the stores, what is kept, and what people are told."""

import dataclasses
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import weakref

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline import worker
from pipeline.embed import EmbedRun, EmbedSettings
from pipeline.embed_cli import main
from pipeline.texts import TextSettings
from pipeline.worker import Sync, Work
from store import ChatPainterError, Store, StoreError
from store.shards import ShardTask
from store.verify import verify_store
from tests.support import hash_encoder
from tests.support.corpora import corpus_rows
from tests.support.folders import content

ENCODER = "tests.support.hash_encoder"
TEXT = TextSettings()
SETTINGS = EmbedSettings(shard_mib=1)


def flat(index):
    return [text for texts in index["texts"].to_pylist() for text in texts]


class Notes:
    """An EmbedProgress that remembers."""

    def __init__(self):
        self.kept, self.written, self.reasons, self.gone = {}, {}, {}, []

    def planned(self, kind, writer, rows):
        self.kept[kind], self.reasons[kind], self.written[kind] = list(writer.kept), dict(writer.reasons), []

    def made(self, kind, made):
        self.written[kind].append(made.number)

    def lost(self, kind, lost):
        pytest.fail(f"lost {lost}")

    def finished(self, kind, manifest):
        pass

    def parted(self, kind, part, shards):
        pass

    def removed(self, kind, folder):
        self.gone.append(kind)


def run(place, text=TEXT, settings=SETTINGS, out="out", factory=ENCODER, kinds=None):
    notes = Notes()
    run = EmbedRun(place.path / out, "t", Sync(), notes, settings, text, factory=factory)
    run.embed(place.path / "data/corpus/t.parquet", kinds)
    return notes


@pytest.fixture
def filled(place, monkeypatch):
    monkeypatch.setenv("HASH_LOG", str(place.log_file))
    place.rows = corpus_rows(120)
    place.corpus(place.rows)
    place.notes = run(place)
    return place


def test_every_text_has_its_vector_at_its_row(filled):
    for kind, dim in (("captions", 1024), ("turns", 2048), ("dialogues", 2048)):
        store = Store(filled.path / "out" / kind)
        assert (store.kind, store.shape, store.dtype) == (kind, (dim,), np.float16)
        index = store.index
        texts = flat(index) if kind == "turns" else index["text"].to_pylist()
        expected = np.stack([hash_encoder.vector(text, dim) for text in texts]).astype(np.float16)
        np.testing.assert_array_equal(store.slice(0, len(store)), expected)
        assert not list(verify_store(filled.path / "out" / kind))
        tokens = [len(text.split()) for text in texts]
        counts = store.manifest.counts
        assert (counts["texts"], counts["tokens"]) == (len(texts), sum(tokens))
        assert counts["unknown"] == sum(count // 4 for count in tokens)
        assert counts["truncated"] == sum(count > 9 for count in tokens)
        assert store.identity["encoder"]["name"] == "hash"
    assert len(Store(filled.path / "out/turns").manifest.shards) == 5


def test_a_dialogues_turns_and_an_images_captions_share_a_shard(filled):
    for kind, column in (("captions", "image_id"), ("turns", None)):
        store = Store(filled.path / "out" / kind)
        starts = [shard.first_row for shard in store.manifest.shards]
        if column:
            ids = store.column(column)
            assert all(ids[start - 1] != ids[start] for start in starts[1:])
        else:
            assert set(starts) <= set(store.column("row").tolist())
        limit = 512 if kind == "captions" else 256
        assert all(shard.rows <= limit for shard in store.manifest.shards)
        assert all(shard.rows > limit - 12 for shard in store.manifest.shards[:-1])


def test_each_distinct_text_of_a_shard_is_encoded_once(filled):
    calls = [call for call in filled.calls() if call["what"] == "dialogue"]
    store = Store(filled.path / "out/turns")
    texts = flat(store.index)
    for shard, call in zip(store.manifest.shards, calls):
        assert call["count"] == len(set(texts[shard.first_row : shard.first_row + shard.rows]))
    assert store.manifest.counts["distinct"] == sum(call["count"] for call in calls[: len(store.manifest.shards)])
    assert store.manifest.counts["distinct"] < len(texts)


def test_a_second_run_keeps_all_and_loads_no_encoder(filled):
    before = content(filled.path / "out")
    filled.calls()
    worker.unload()
    notes = run(filled)
    assert notes.written == {"captions": [], "turns": [], "dialogues": []}
    assert filled.calls() == []
    assert content(filled.path / "out") == before


def test_one_changed_caption_makes_one_shard_again(filled):
    filled.rows[0]["captions"][0]["text"] = "something else"
    filled.corpus(filled.rows)
    notes = run(filled)
    assert notes.written == {"captions": [0], "turns": [], "dialogues": []}
    assert notes.reasons["captions"] == {"contents changed": 1}
    run(filled, out="fresh")
    assert content(filled.path / "out") == content(filled.path / "fresh")


@pytest.mark.parametrize(
    ("change", "again", "why"),
    [
        ({"version": "2"}, {"captions", "turns", "dialogues"}, "made from another encoder.version"),
        ({"text": TextSettings(punctuation=False)}, {"turns", "dialogues"}, "made from another text.punctuation"),
        ({"text": TextSettings(caption_in_dialogue=True)}, {"dialogues"}, "made from another text.caption_in_dialogue"),
        ({"settings": EmbedSettings("float32", 1)}, {"captions", "turns", "dialogues"}, "shape or dtype changed"),
        ({"settings": EmbedSettings("float16", 2)}, {"captions", "turns"}, "contents changed"),
    ],
)
def test_changed_parameters_leave_no_stale_shard_and_say_why(filled, monkeypatch, change, again, why):
    if version := change.pop("version", None):
        monkeypatch.setenv("HASH_VERSION", version)
    notes = run(filled, **change)
    assert {kind for kind, numbers in notes.written.items() if numbers} == again
    for kind in again:
        assert why in notes.reasons[kind]
    run(filled, out="fresh", **change)
    assert content(filled.path / "out") == content(filled.path / "fresh")


def test_a_smaller_corpus_leaves_no_stray_shard(filled):
    filled.corpus(filled.rows[:50])
    notes = run(filled)
    assert notes.kept["turns"] == [0]
    run(filled, out="fresh")
    assert content(filled.path / "out") == content(filled.path / "fresh")


def test_a_kind_without_texts_is_removed_or_refused(filled):
    for row in filled.rows:
        row["captions"] = []
    filled.corpus(filled.rows)
    with pytest.raises(ChatPainterError, match=r"t\.parquet: has no captions"):
        run(filled, kinds=["captions"])
    assert run(filled).gone == ["captions"]
    assert sorted(path.name for path in (filled.path / "out").iterdir()) == ["dialogues", "turns"]


def test_kinds_asked_for_are_the_only_ones_made(place):
    place.corpus(corpus_rows(5))
    run(place, kinds=["dialogues"])
    assert [path.name for path in (place.path / "out").iterdir()] == ["dialogues"]


class LoudEncoder(hash_encoder.HashEncoder):
    value = 0.0

    def encode(self, texts):
        encoded = super().encode(texts)
        encoded.vectors[1, 3] = self.value
        return encoded


class Loud:
    """A factory object whose vectors do not fit float16."""

    def __init__(self, value):
        self.value = value

    def identity(self, kind, settings):
        return {"name": "loud", "value": str(self.value)}

    def build(self, kind, settings):
        encoder = LoudEncoder("dialogues")
        encoder.identity, encoder.value = self.identity(kind, settings), self.value
        return encoder


class Counting:
    """A factory whose encoder counts, with each call, how many arrays of vectors that it gave are still held."""

    def __init__(self):
        self.given, self.held = [], []

    def identity(self, kind, settings):
        return {"name": "counting"}

    def build(self, kind, settings):
        factory = self

        class Encoder(hash_encoder.HashEncoder):
            def encode(self, texts):
                factory.held.append(sum(array() is not None for array in factory.given))
                encoded = super().encode(texts)
                factory.given.append(weakref.ref(encoded.vectors))
                return encoded

        encoder = Encoder(kind)
        encoder.identity = self.identity(kind, settings)
        return encoder


def test_one_shard_of_vectors_is_held_at_a_time(place):
    place.corpus(corpus_rows(300, captions=1))
    factory = Counting()
    notes = run(place, factory=factory, kinds=["turns"])
    assert len(notes.written["turns"]) == len(factory.held) > 10
    assert max(factory.held) <= 1


@pytest.mark.parametrize(("value", "remedy"), [(1e6, "embed.dtype: float32"), (float("nan"), "the encoder's weights")])
def test_values_that_do_not_fit_are_named(place, value, remedy):
    rows = corpus_rows(3)
    place.corpus(rows)
    with pytest.raises(StoreError, match=remedy) as caught:
        run(place, factory=Loud(value), kinds=["captions"])
    assert rows[0]["captions"][1]["text"] in caught.value.message
    assert not list((place.path / "out/captions").iterdir())
    if value == 1e6:
        run(place, factory=Loud(value), kinds=["captions"], settings=EmbedSettings("float32"))


class Odd:
    """A factory object whose encoder keeps no promise."""

    def __init__(self, change):
        self.change = change

    def identity(self, kind, settings):
        return {"name": "odd"}

    def build(self, kind, settings):
        class Encoder(hash_encoder.HashEncoder):
            def encode(inner, texts):
                encoded = super().encode(texts)
                return dataclasses.replace(encoded, vectors=self.change(encoded.vectors))

        encoder = Encoder(kind)
        encoder.identity = self.identity(kind, settings)
        return encoder


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: v[:, :-1], lambda v: v.astype(np.float64), np.ravel])
def test_an_encoder_that_gives_something_else_is_named(place, change):
    place.corpus(corpus_rows(3))
    with pytest.raises(ChatPainterError, match=r"the encoder odd gave float\d+ of shape .*; expected float32 of \("):
        run(place, factory=Odd(change), kinds=["captions"])


@given(bits=st.lists(st.integers(0, 0x477FE000), min_size=1, max_size=20), negative=st.booleans())
def test_float16_is_the_nearest_with_ties_to_even(bits, negative):
    """All floats from 0 to the largest float16, the subnormal ones too, against Python's own rounding."""
    values = np.array(bits, np.uint32).view(np.float32) * np.float32(-1 if negative else 1)
    task = ShardTask("", "vectors", 0, 0, len(bits), (1,), "float16", "", {}, "")
    stored = worker._as_dtype(values[:, None], Work(task, None, []), [])
    assert stored.tobytes() == b"".join(struct.pack("<e", value) for value in values.tolist())


BLOCK = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *where):
        return None if name.split(".")[0] in ("dask", "distributed") else self.finder.find_spec(name, *where)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from pipeline.embed_cli import main
main()
"""


def test_sync_works_where_dask_is_not_installed(place):
    place.corpus(corpus_rows(10))
    command = [sys.executable, "-c", BLOCK, *place.command()[3:]]
    options = {"cwd": place.path, "env": place.environment(), "capture_output": True, "text": True, "check": False}
    done = subprocess.run([*command, "--scheduler", "sync"], **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["captions", "turns", "dialogues"]
    done = subprocess.run(command, **options)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--scheduler sync" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_is_quick_because_it_imports_little():
    script = (
        "import sys\nfrom pipeline.embed_cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'dask', 'distributed', 'pandas', 'pyarrow', 'numpy', 'h5py', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "run the same command again" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "nowhere"], "data/corpus/nowhere.parquet: no such corpus; make it with: chatpainter-prepare"),
        (["--params", "none.yaml"], "none.yaml: cannot be read"),
        (["--params", "typo.yaml"], "unknown key 'shard_mb'; did you mean 'shard_mib'?"),
        (["--params", "zero.yaml"], "must be at least 1"),
        (["--tls-ca", "params.yaml"], "--tls-ca, --tls-cert and --tls-key go together"),
        (["--scheduler", "sync", "--dashboard"], "works without dask"),
        (["--scheduler", "gone.json"], "gone.json: no such file"),
        (["--report", "nowhere/report.html"], "nowhere/report.html: no such folder for the report"),
    ],
)
def test_what_cannot_work_ends_in_one_line(place, monkeypatch, options, message):
    place.corpus(corpus_rows(2))
    (place.path / "typo.yaml").write_text("embed: {shard_mb: 3}")
    (place.path / "zero.yaml").write_text("embed: {shard_mib: 0}")
    monkeypatch.chdir(place.path)
    done = CliRunner().invoke(main, [*place.command()[3:], *options])
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.splitlines()) == 1
    assert not (place.path / "out").exists()


def test_not_a_corpus(place):
    (place.path / "data/corpus").mkdir(parents=True)
    (place.path / "data/corpus/t.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(ChatPainterError, match=r"t\.parquet: not a corpus.*make it again"):
        run(place)


def test_progress_on_a_terminal_and_silence_elsewhere(place):
    place.corpus(corpus_rows(60))
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    process = subprocess.Popen(
        place.command("--scheduler", "sync"), cwd=place.path, env=place.environment(),
        stdout=subprocess.DEVNULL, stderr=child,
    )  # fmt: skip
    os.close(child)
    shown = b""
    while True:
        try:
            block = os.read(parent, 4096)
        except OSError:
            break
        if not block:
            break
        shown += block
    os.close(parent)
    assert process.wait() == 0
    text = shown.decode()
    for part in ("turns:", "texts/s", "shards 0/3 (0 kept)", "shards 3/3 (0 kept)", "% unknown", "100%"):
        assert part in text, text
    quiet = place.here("--scheduler", "sync")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert "3 kept" in quiet.stdout
