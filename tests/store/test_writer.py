"""StoreWriter: whole files or none, finished shards kept, stale ones never."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from store import Store, StoreError, StoreWriter
from store import shards as shards_module
from store.jpeg import BLOCK, JpegWriter
from store.manifest import content_key
from store.shards import OtherMount, read_header
from store.verify import verify_store
from store.writer import remove_store
from tests.support.folders import content

ORIGIN = {"corpus": "c", "encoder": {"name": "e", "weights": {"a.npz": "1"}}}
COUNTS = (4, 4, 3)


def plan_for(made_from, texts="abcdefghijk"):
    starts = np.cumsum([0, *COUNTS])[:-1].tolist()
    return [
        (start, count, content_key(made_from, "float16", (8,), start, texts[start : start + count]))
        for start, count in zip(starts, COUNTS)
    ]


def rows_for(texts="abcdefghijk"):
    return np.array([[ord(text) + column for column in range(8)] for text in texts], np.float16)


def write(path, made_from=ORIGIN, texts="abcdefghijk", only=None, order=None):
    """One run; returns the shards it wrote. Stops after `only` shards where given, without committing."""
    with StoreWriter(path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=made_from) as writer:
        plan = plan_for(made_from, texts)
        missing = writer.plan(plan)
        written: list[int] = []
        for number in order or missing:
            if len(written) == only:
                break
            first, count, key = plan[number]
            writer.write_shard(number, rows_for(texts)[first : first + count], key, {"texts": count})
            written.append(number)
        if only is not None:
            return written
        index = {"row": np.arange(11), "image_id": np.arange(11), "caption_id": np.arange(11), "text": list(texts)}
        writer.commit(pa.table(index))
        return written


def test_the_same_inputs_give_the_same_bytes_in_any_order_and_process(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", order=[2, 0, 1])
    # A process with another hash seed, at another time.
    script = f"import runpy; runpy.run_path({__file__!r})['write'](__import__('pathlib').Path({str(tmp_path / 'c')!r}))"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert sorted(content(tmp_path / "a")) == [
        "checksums.crc32", "index.parquet", "manifest.json",
        "vectors-00000.h5", "vectors-00001.h5", "vectors-00002.h5",
    ]  # fmt: skip
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")
    assert Store(tmp_path / "a").manifest.counts == {"texts": 11}


@pytest.mark.parametrize("finished", [0, 1, 2, 3])
def test_an_interrupted_run_is_continued_to_the_same_bytes(tmp_path, finished):
    write(tmp_path / "whole")
    assert write(tmp_path / "cut", only=finished) == list(range(3))[:finished]
    assert not (tmp_path / "cut" / "manifest.json").exists()
    assert write(tmp_path / "cut") == list(range(3))[finished:]
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_an_error_at_any_step_leaves_nothing_half_made(tmp_path, monkeypatch, call, nth):
    write(tmp_path / "whole")
    real, calls = getattr(os, call), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(StoreError, match=rf"{tmp_path}/cut.*: the disk is full"):
            write(tmp_path / "cut")
    assert not (tmp_path / "cut" / "manifest.json").exists()
    assert set(content(tmp_path / "cut")) <= set(content(tmp_path / "whole"))
    write(tmp_path / "cut")
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_a_run_with_nothing_to_do_touches_nothing(tmp_path):
    write(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name != "index.parquet"}
    assert write(tmp_path) == []
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before


def test_one_changed_text_makes_one_shard_again(tmp_path):
    write(tmp_path / "a")
    assert write(tmp_path / "a", texts="abcdeXghijk") == [1]
    write(tmp_path / "fresh", texts="abcdeXghijk")
    assert content(tmp_path / "a") == content(tmp_path / "fresh")


def test_another_corpus_with_the_same_texts_keeps_every_shard(tmp_path):
    write(tmp_path)
    assert write(tmp_path, {**ORIGIN, "corpus": "other"}) == []
    assert Store(tmp_path).manifest.made_from["corpus"] == "other"


def test_other_weights_make_every_shard_again_and_say_why(tmp_path):
    write(tmp_path / "a")
    other = {**ORIGIN, "encoder": {"name": "e", "weights": {"a.npz": "2"}}}
    with StoreWriter(
        tmp_path / "a", kind="captions", split="t", shape=(8,), dtype="float16", made_from=other
    ) as writer:
        assert writer.plan(plan_for(other)) == [0, 1, 2]
        assert writer.reasons == {"made from another encoder.weights.a.npz": 3}
        # The store is gone before any of its shards changes, and no old shard can be mistaken for a new one.
        assert list(content(tmp_path / "a")) == [".lock"]
    write(tmp_path / "a", other)
    write(tmp_path / "fresh", other)
    assert content(tmp_path / "a") == content(tmp_path / "fresh")


def test_strays_go_and_files_of_others_stay(tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "a")
    shard = (tmp_path / "a" / "vectors-00001.h5").read_bytes()
    strays = {
        "vectors-00003.h5": shard, "vectors-00004.h5": shard[:-1000], "images-00000.h5": shard, "v-00000.h5": b"",
        "v-00001.h5": bytes(5000), "vectors-00001.h5.0123456789ab.tmp": b"x", "manifest.json.0123456789ab.tmp": b"x",
    }  # fmt: skip
    others = dict.fromkeys(
        [
            "thesis.tmp", "vectors-99999.h5", "images-00007.h5", "manifest.json.ff.tmp", "thesis.0123456789ab.tmp",
            "notes.txt", "my-vectors.h5", "index.parquet.bak",
        ],
        b"x",
    )  # fmt: skip
    for name, data in (strays | others).items():
        (tmp_path / "a" / name).write_bytes(data)
    (tmp_path / "a" / "vectors-00009.h5").mkdir()
    (tmp_path / "a" / "vectors-00009.h5" / "x").write_bytes(b"x")
    assert write(tmp_path / "a") == []
    assert (tmp_path / "a" / "vectors-00009.h5" / "x").read_bytes() == b"x"
    shutil.rmtree(tmp_path / "a" / "vectors-00009.h5")
    assert content(tmp_path / "a") == {**content(tmp_path / "whole"), **others}
    remove_store(tmp_path / "a")
    assert content(tmp_path / "a") == others
    remove_store(tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


@pytest.mark.parametrize("name", ["vectors-00001.h5", "index.parquet", "manifest.json", "checksums.crc32"])
@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_a_file_of_another_program_is_never_replaced(tmp_path, name, what):
    folder, path = tmp_path / "s", tmp_path / "s" / name
    folder.mkdir()
    if what == "folder":
        path.mkdir()
    elif what == "link":
        (tmp_path / "elsewhere").write_bytes(b'{"name": "my extension"}')
        path.symlink_to("../elsewhere")
    else:
        path.write_bytes(b'{"name": "my extension"}')
    with pytest.raises(StoreError, match=rf"{name}: was not written by this program and would be replaced; move it"):
        write(folder)
    remove_store(folder)
    assert [entry.name for entry in folder.iterdir()] == [name]
    assert what == "folder" or path.read_bytes() == b'{"name": "my extension"}'


def test_a_file_in_the_way_of_a_store_of_jpegs_is_never_replaced(tmp_path):
    """How many shards it will have is known only once they are made."""
    about: dict[str, Any] = {"kind": "images", "split": "t", "shape": (BLOCK,), "dtype": "uint8", "dataset": "images"}
    (tmp_path / "images-00001.h5").write_bytes(b"x")
    with JpegWriter(tmp_path, made_from={"encoding": "jpeg", "size": 8}, **about) as writer:
        writer.keep(["a", "b"])
        writer.append([b"one"], "a")
        with pytest.raises(StoreError, match=r"images-00001\.h5: was not written by this program"):
            writer.append([b"two"], "b")
    assert (tmp_path / "images-00001.h5").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"dtype": "complex64"}, "dtype 'complex64' is none that a store can have"),
        ({"shape": (8, 0)}, r"shape \(8, 0\) is no row's"),
        ({"dataset": "../x"}, "should be one word"),
    ],
)
def test_rows_that_no_store_can_have_are_refused_before_the_work(tmp_path, about, message):
    usual = {"kind": "captions", "split": "t", "shape": (8,), "dtype": "float16", "made_from": {}}
    with pytest.raises(ValueError, match=message):
        StoreWriter(tmp_path / "s", **usual | about)
    assert not (tmp_path / "s").exists()


def test_an_index_that_contradicts_the_rows_is_refused(tmp_path):
    with StoreWriter(tmp_path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=ORIGIN) as writer:
        writer.plan(plan_for(ORIGIN))
        for number, (first, count, key) in enumerate(plan_for(ORIGIN)):
            writer.write_shard(number, rows_for()[first : first + count], key)
        for index, lengths in (
            ({"row": [0, 3], "rounds": [3, 8]}, None),
            ({"row": [0, 3], "rounds": [3, 7]}, "rounds"),
            ({"row": [3, 0], "rounds": [8, 3]}, "rounds"),
            ({"row": [0, 3]}, "rounds"),
            ({"row": list(map(str, range(11)))}, None),
            ({"row": [*range(10), None]}, None),
        ):
            with pytest.raises(ValueError, match="the index "):
                writer.commit(pa.table(index), lengths=lengths)
        assert writer.commit(pa.table({"row": [0, 3], "words": [3, 8]}), lengths="words").lengths == "words"
    assert Store(tmp_path).lengths.tolist() == [3, 8]


def test_a_run_killed_at_any_moment_of_planning_can_be_run_again(tmp_path, monkeypatch):
    """Whose the index is, is known by what lies beside it, so the order in which old files go matters."""
    other = {**ORIGIN, "encoder": {"name": "e2"}}
    write(tmp_path / "fresh", other)
    real = Path.unlink
    for kept in range(6):
        write(tmp_path / "a")
        calls: list[Path] = []

        def unlink(path, missing_ok=False, calls=calls, kept=kept):
            calls.append(path)
            if len(calls) == kept + 1:
                raise KeyboardInterrupt
            real(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", unlink)
            with pytest.raises(KeyboardInterrupt):
                write(tmp_path / "a", other)
        write(tmp_path / "a", other)
        assert content(tmp_path / "a") == content(tmp_path / "fresh")
        remove_store(tmp_path / "a")


@pytest.mark.parametrize("damage", ["row", "short", "empty", "no hdf5"])
@pytest.mark.parametrize("committed", [True, False])
def test_a_damaged_shard_is_made_again(tmp_path, damage, committed):
    write(tmp_path / "whole")
    write(tmp_path / "a", only=None if committed else 3)
    shard = tmp_path / "a" / "vectors-00001.h5"
    data = bytearray(shard.read_bytes())
    data[read_header(shard, "vectors").offset + 5] ^= 4
    shard.write_bytes({"row": data, "short": data[:-1000], "empty": b"", "no hdf5": bytes(len(data))}[damage])
    assert write(tmp_path / "a") == [1]
    assert content(tmp_path / "a") == content(tmp_path / "whole")


def test_a_bit_outside_the_rows_is_seen_by_the_manifest(tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "a")
    shard = tmp_path / "a" / "vectors-00001.h5"
    data = bytearray(shard.read_bytes())
    data[read_header(shard, "vectors").offset - 1] ^= 4  # HDF5 never looks here
    shard.write_bytes(data)
    assert write(tmp_path / "a") == [1]
    assert content(tmp_path / "a") == content(tmp_path / "whole")


def test_commit_names_what_is_missing(tmp_path):
    with StoreWriter(tmp_path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=ORIGIN) as writer:
        writer.plan(plan_for(ORIGIN))
        writer.write_shard(1, rows_for()[4:8])
        with pytest.raises(StoreError, match=r"2 shards missing \(vectors-00000\.h5, vectors-00002\.h5\)"):
            writer.commit(pa.table({"row": np.arange(11)}))
        with pytest.raises(ValueError, match="another key"):
            writer.write_shard(0, rows_for()[:4], "no")
        with pytest.raises(ValueError, match="takes"):
            writer.write_shard(0, rows_for()[:3])


def test_a_shard_found_on_disk_counts_though_nobody_reported_it(tmp_path):
    with StoreWriter(tmp_path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=ORIGIN) as writer:
        writer.plan(plan_for(ORIGIN))
        writer.tasks[2].write(rows_for()[8:])
        assert writer.missing() == [0, 1, 2]
        assert writer.reconcile() == [0, 1]


def hold(path, ready):
    with StoreWriter(path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=ORIGIN):
        ready.set()
        signal.pause()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_second_run_is_refused_until_the_first_is_gone_even_by_kill(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=hold, args=(tmp_path, ready))
    child.start()
    assert ready.wait(300)
    with pytest.raises(StoreError, match=rf"another run is writing here \(process {child.pid} on "):
        write(tmp_path)
    child.kill()
    child.join(300)
    assert (tmp_path / ".lock").exists()  # nobody was left to remove it, and it stops nobody
    write(tmp_path)
    assert not (tmp_path / ".lock").exists()
    assert not list(verify_store(tmp_path))


def test_what_a_worker_makes_after_its_run_has_ended_does_not_land(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "PATIENCE_SECONDS", 0.0)
    with StoreWriter(tmp_path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=ORIGIN) as writer:
        writer.plan(plan_for(ORIGIN))
        task = writer.tasks[0]
    with pytest.raises(OtherMount, match="does not see the folder of the run"):
        task.write(rows_for()[:4])
    other = {**ORIGIN, "encoder": {"name": "new"}}
    with StoreWriter(tmp_path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=other) as writer:
        writer.plan(plan_for(other))
        with pytest.raises(OtherMount):
            task.write(rows_for()[:4])
    assert content(tmp_path) == {}


def test_a_shard_that_only_the_worker_sees_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("store.writer.PATIENCE_SECONDS", 0.0)
    with StoreWriter(tmp_path, kind="captions", split="t", shape=(8,), dtype="float16", made_from=ORIGIN) as writer:
        writer.plan(plan_for(ORIGIN))
        shard = writer.tasks[0].write(rows_for()[:4])
        writer.tasks[0].path.unlink()
        with pytest.raises(StoreError, match=r"vectors-00000\.h5: a worker has written it but it cannot be seen here"):
            writer.accept(0, shard)


FILL = """
    import numpy as np, pyarrow as pa
    from store import StoreWriter
    with StoreWriter({path!r}, kind="captions", split="t", shape=(1024,), dtype="float32", made_from={{}}) as writer:
        for number in writer.plan([(number * 256, 256, str(number)) for number in range(20)]):
            writer.write_shard(number, np.ones((256, 1024), np.float32))
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [("-o size=6m", "the disk is full; free some space"), ("-o ro,size=6m", "read-only file system")],
)
def test_a_full_disk_and_a_read_only_one_end_in_one_line(tmp_path, options, message):
    script = textwrap.dedent(FILL).format(path=str(tmp_path / "disk" / "store"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "fill.py").write_text(
        f"from store.errors import ChatPainterError\ntry:\n{textwrap.indent(script, '    ')}\n"
        "except ChatPainterError as error:\n    error.show()\n    raise SystemExit(1)\n"
    )
    mount = f"mount -t tmpfs {options} tmpfs {tmp_path}/disk && {sys.executable} {tmp_path}/fill.py"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount}; status=$?; ls -a {tmp_path}/disk/store; exit $status"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    if "permitted" in done.stderr or "denied" in done.stderr or "unshare" in done.stderr:
        pytest.skip("may not mount here")
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("ls:")]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert str(tmp_path / "disk") in lines[0]
    assert ".tmp" not in done.stdout
    assert "manifest.json" not in done.stdout
