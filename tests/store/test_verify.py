"""verify: no damage goes unseen, and every fault names its file."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from store import Store, StoreError
from store.cli import main
from store.files import sha256_file
from store.shards import read_header
from store.verify import verify_store
from tests.support.stores import edit_manifest, write_store


def test_a_whole_store_has_no_fault(tmp_path, make_store):
    make_store(tmp_path)
    assert list(verify_store(tmp_path)) == []


def test_any_flipped_bit_of_any_file_is_found(tmp_path, make_store):
    make_store(tmp_path / "whole", [[3, 2], [2]], (4,))
    rng = np.random.default_rng(0)
    for name in ("vectors-00000.h5", "vectors-00001.h5", "index.parquet", "checksums.crc32"):
        whole = (tmp_path / "whole" / name).read_bytes()
        written = np.flatnonzero(np.frombuffer(whole, np.uint8))
        header = read_header(tmp_path / "whole" / name, "vectors") if name.endswith("h5") else None
        places = [
            0,
            min(8, len(whole) - 2),
            len(whole) - 1,
            *rng.choice(written, 12),
            *([header.offset, header.offset + 7] if header else []),
        ]
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            (tmp_path / "whole" / name).write_bytes(damaged)
            faults = list(verify_store(tmp_path / "whole"))
            assert len(faults) == 1, (name, place, faults)
            assert f"/{name}: " in faults[0]
            assert "\n" not in faults[0]
        (tmp_path / "whole" / name).write_bytes(whole)
    assert list(verify_store(tmp_path / "whole")) == []


def rewrite_index(path, change):
    table = change(pq.read_table(path / "index.parquet"))
    pq.write_table(table, path / "index.parquet")
    stated = {"sha256": sha256_file(path / "index.parquet"), "rows": table.num_rows}
    edit_manifest(path, lambda values: values["index"].update(stated))


def swap_texts(table):
    texts = table["texts"].to_pylist()
    texts[0][0], texts[0][1] = texts[0][1], texts[0][0]
    return table.set_column(table.column_names.index("texts"), "texts", [texts])


FAULTS = {
    "truncated": (lambda p: (p / "vectors-00001.h5").write_bytes((p / "vectors-00001.h5").read_bytes()[:-9000]),
                  "vectors-00001.h5"),
    "missing": (lambda p: (p / "vectors-00000.h5").unlink(), "vectors-00000.h5: missing"),
    "swapped": (lambda p: shutil.copy(p / "vectors-00000.h5", p / "vectors-00001.h5"), "vectors-00001.h5: damaged"),
    "stray": (lambda p: (p / "vectors-00002.h5").write_bytes(b""), "vectors-00002.h5: no part of the store"),
    "index missing": (lambda p: (p / "index.parquet").unlink(), "index.parquet: missing"),
    "index of texts": (lambda p: rewrite_index(p, swap_texts), "its texts are not those that vectors-00000.h5"),
    "index of rows": (lambda p: rewrite_index(p, lambda t: t.slice(1)), "index.parquet: its rows are not 0 to 21"),
    "rows": (lambda p: edit_manifest(p, lambda v: v.update(rows=22)), "do not follow each other from row 0 to 22"),
    "made from": (lambda p: edit_manifest(p, lambda v: v["made_from"]["encoder"].update(name="x")),
                  "vectors-00000.h5: not the shard that the manifest names"),
    "checksums missing": (lambda p: (p / "checksums.crc32").unlink(), "checksums.crc32: missing"),
    "checksums short": (lambda p: (p / "checksums.crc32").write_bytes(b""), "checksums.crc32: damaged"),
    # Edits by somebody who sealed the manifest again: what can be compared with the files is compared.
    "kind": (lambda p: edit_manifest(p, lambda v: v.update(kind="captions")), "says kind captions, but the index has"),
    "counts": (lambda p: edit_manifest(p, lambda v: v["counts"].update(unknown=0)), "counts of unknown are not those"),
    "index.rows": (lambda p: edit_manifest(p, lambda v: v["index"].update(rows=4)), "5 lines where the manifest"),
    "lengths": (lambda p: edit_manifest(p, lambda v: v.update(lengths=None)), "its rows are not 0 to 21"),
    "lengths of nothing": (lambda p: edit_manifest(p, lambda v: v.update(lengths="no")), "has no column no"),
    "block": (lambda p: edit_manifest(p, lambda v: v["checksums"].update(rows=1)), "21 blocks need 4 each"),
}  # fmt: skip

EDITS = {
    "kind": lambda v: v.update(kind="captions"),
    "split": lambda v: v.update(split="val"),
    "counts": lambda v: v["counts"].update(unknown=0),
    "index.rows": lambda v: v["index"].update(rows=4),
    "made_from.corpus": lambda v: v["made_from"].update(corpus="c1"),
    "rows": lambda v: v.update(rows=22),
    "lengths": lambda v: v.update(lengths=None),
    "checksums": lambda v: v.update(checksums=None),
    "seal": lambda v: v.pop("seal"),
    "seal changed": lambda v: v.update(seal="0" * 64),
    "something new": lambda v: v.update(extra=1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest_is_refused_by_verify_and_by_the_reader(tmp_path, make_store, edit):
    make_store(tmp_path)
    edit_manifest(tmp_path, EDITS[edit], sealed=False)
    message = f"{tmp_path}/manifest.json: was edited after it was written (its seal differs); make the store again"
    assert list(verify_store(tmp_path)) == [message]
    with pytest.raises(StoreError) as error:
        Store(tmp_path)
    assert error.value.message == message


def test_a_manifest_that_is_only_written_otherwise_is_the_same(tmp_path, make_store):
    make_store(tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(dict(reversed(values.items()))))
    assert list(verify_store(tmp_path)) == []


def test_one_faulty_store_does_not_hide_the_next(tmp_path, make_store):
    for name in ("a", "b", "c"):
        make_store(tmp_path / name)
    edit_manifest(tmp_path / "a", EDITS["split"], sealed=False)
    (tmp_path / "b" / "index.parquet").unlink()
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == [
        str(tmp_path / "a/manifest.json"), str(tmp_path / "b/index.parquet"), "Error",
    ]  # fmt: skip
    assert result.stdout.startswith(f"{tmp_path / 'c'}: whole")


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_the_command_ends_with_status_1(tmp_path, make_store, fault):
    damage, message = FAULTS[fault]
    make_store(tmp_path / "s")
    damage(tmp_path / "s")
    assert any(message in found for found in verify_store(tmp_path / "s")), list(verify_store(tmp_path / "s"))
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 1
    assert message in result.output


def test_verify_of_a_folder_of_stores(tmp_path, make_store):
    make_store(tmp_path / "a")
    make_store(tmp_path / "deep" / "b")
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.output.splitlines()] == [
        str(tmp_path / "a"),
        str(tmp_path / "deep/b"),
    ]
    assert "whole: 21 rows in 2 shards" in result.output


def test_info_says_what_and_from_what(tmp_path, make_store):
    make_store(tmp_path)
    output = CliRunner().invoke(main, ["info", str(tmp_path)]).output
    for part in ("21 turns of 12 float16, split t", "shards: 2", "index: 5 lines", "texts 21, unknown 1",
                 "UNTRAINED", "encoder.name: test", "text.turn: question+answer", "corpus: c0"):  # fmt: skip
        assert part in output
    values = json.loads(CliRunner().invoke(main, ["info", "--json", str(tmp_path)]).output)
    assert (values["rows"], values["shards"], values["made_from"]["encoder"]["name"]) == (21, 2, "test")


def test_head_shows_norms_and_texts(tmp_path, make_store):
    rows = make_store(tmp_path)
    output = CliRunner().invoke(main, ["head", str(tmp_path), "--start", "1", "-n", "2"]).output
    lines = output.splitlines()
    assert lines[0] == "row 3  image_id 7  rounds 1"
    assert len(lines) == 1 + 1 + 1 + 10
    assert f"norm {np.linalg.norm(rows[3].astype(float)):7.4f}" in lines[1]
    assert "'dialogue 2 turn 9'" in lines[-1]


def test_head_of_images_shows_the_mean_of_their_pixels(tmp_path):
    pictures = np.stack([np.full((4, 4, 3), 7, np.uint8), np.arange(48, dtype=np.uint8).reshape(4, 4, 3)])
    write_store(tmp_path, pictures, {"row": [0, 1], "image_id": [5, 9], "file_name": ["a.jpg", "b.jpg"]}, kind="images")
    output = CliRunner().invoke(main, ["head", str(tmp_path)]).output
    assert output.splitlines() == [
        "row 0  image_id 5  file_name a.jpg",
        "    mean 7.00",
        "row 1  image_id 9  file_name b.jpg",
        "    mean 23.50",
    ]


def test_not_a_store(tmp_path):
    for command in ("verify", "info", "head"):
        result = CliRunner().invoke(main, [command, str(tmp_path)])
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert "manifest.json" in result.output
        assert len(result.output.splitlines()) == 1
