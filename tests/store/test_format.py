"""docs/store.md is the specification: its example runs, and what it says of files holds, read with h5py and pandas."""

import hashlib
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "store.md"


def test_the_example_reads_a_dialogue(tmp_path, make_store, monkeypatch, capsys):
    rows = make_store(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    variables: dict[str, object] = {}
    exec(example, variables)
    np.testing.assert_array_equal(variables["vectors"], rows[14:16])
    assert "dialogue 3 turn 1" in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(12,), (9, 9, 3)])
def test_files_are_as_specified(tmp_path, make_store, shape):
    rows = make_store(tmp_path, shape=shape, dtype="uint8" if len(shape) == 3 else "float16")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    specified = (
        "format version kind split rows shape dtype dataset shards index made_from counts lengths checksums seal"
    )
    assert list(manifest) == specified.split()
    assert (manifest["format"], manifest["version"], manifest["rows"]) == ("chatpainter-store", 1, 21)
    for shard in manifest["shards"]:
        path = tmp_path / shard["file"]
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        assert len(data) == shard["bytes"]
        first, count = shard["first_row"], shard["rows"]
        with h5py.File(path) as file:
            dataset = file["vectors"]
            assert (dataset.chunks, dataset.compression, dataset.shape) == (None, None, (count, *shape))
            np.testing.assert_array_equal(dataset[:], rows[first : first + count])
            offset = dataset.id.get_offset()
            assert offset % 65536 == 0
            assert data[offset : offset + rows[first : first + count].nbytes] == rows[first : first + count].tobytes()
            attributes = dict(dataset.attrs)
            assert (attributes["first_row"], attributes["rows"]) == (first, count)
            assert attributes["sha256"] == hashlib.sha256(rows[first : first + count].tobytes()).hexdigest()
            assert attributes["key"] == shard["key"]
            assert json.loads(attributes["counts"]) == {"texts": count, "unknown": 0 if first == 0 else 1}
            assert (file.attrs["format"], file.attrs["version"]) == ("chatpainter-store", 1)
            texts = [text for texts in pd.read_parquet(tmp_path / "index.parquet").texts for text in texts]
            origin = {name: value for name, value in manifest["made_from"].items() if name != "corpus"}
            assert json.loads(attributes["made_from"]) == origin
            about = ["chatpainter-store", 1, manifest["dtype"], manifest["shape"], first, origin]
            digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
            for text in texts[first : first + count]:
                digest.update(len(text.encode()).to_bytes(8, "little") + text.encode())
            assert digest.hexdigest() == shard["key"]
    index = pd.read_parquet(tmp_path / "index.parquet")
    assert index.row.tolist() == [0, 3, 4, 14, 16]
    assert hashlib.sha256((tmp_path / "index.parquet").read_bytes()).hexdigest() == manifest["index"]["sha256"]
