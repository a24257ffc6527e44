"""Untrained weights are not carried but made: the same bytes from size, seed and dictionary, on every processor."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora import corpus
from pipeline.encoders import EncoderSettings
from pipeline.texts import TextSettings
from pipeline.weights import WeightsError, recipe, untrained
from pipeline.weights.published import MARKER
from store.errors import ChatPainterError, StoreError

DRAWN = """
import hashlib
import numpy as np
from pipeline.weights import untrained
rng = np.random.default_rng(5)
gru = untrained.gru(rng, 64, 256)
print(hashlib.sha256(b"".join(gru[key].tobytes() for key in sorted(gru)) + untrained.char_cnn_rnn(
    untrained.SIZES["wide"], 11)).hexdigest())
"""


CPUINFO = Path("/proc/cpuinfo")
# A processor without AVX-512 cannot run the kernels for those that have it.
HAS_AVX512 = CPUINFO.exists() and "avx512f" in CPUINFO.read_text()
KERNELS = ("Haswell", "Nehalem", "Zen", *(["SkylakeX"] if HAS_AVX512 else []))


@pytest.fixture
def folder(tmp_path):
    corpus.write([corpus.Row(1, "1.png", None, None, [(1, "a red circle")], [("big", "yes")], "A")], tmp_path / "c")
    settings = untrained.UntrainedSettings(seed=3)
    untrained.make(tmp_path / "out", settings, [tmp_path / "c"], TextSettings(), EncoderSettings())
    return tmp_path / "out"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="asks OpenBLAS for other processors' kernels")
def test_every_processor_draws_the_same_bytes():
    """Without the grid Haswell's and Skylake's kernels differ in the last bits of a QR decomposition."""
    drawn = {
        kind: subprocess.run(
            [sys.executable, "-c", DRAWN], env=os.environ | {"OPENBLAS_CORETYPE": kind},
            capture_output=True, text=True, check=True,
        ).stdout
        for kind in KERNELS
    }  # fmt: skip
    assert len(set(drawn.values())) == 1, drawn


def test_weights_lie_on_a_grid_as_fine_as_they_need():
    fine = np.random.default_rng(0).standard_normal(10_000)
    kept = untrained._on_grid(fine)
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept * 2.0**18, np.round(kept * 2.0**18))
    assert np.abs(kept - fine).max() <= 2.0**-19


def test_a_recipe_makes_the_files_again(folder):
    before = contents(folder)
    recipe.keep(folder)
    assert contents(folder).keys() == {MARKER, "dictionary.txt"}

    made = recipe.whole(folder)

    assert made != folder
    again = contents(made)
    assert again.keys() == before.keys() - {"README.txt"}
    assert all(again[name] == before[name] for name in again if name != MARKER)
    assert json.loads(again[MARKER])["trained"] is False
    assert recipe.whole(folder) == made, "once a process"


def test_whole_folders_and_others_stay_as_they_are(folder, tmp_path):
    assert recipe.whole(folder) == folder
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "dictionary.txt").write_text("UNK\n<eos>\n")
    recipe.keep(tmp_path / "trained")
    assert recipe.whole(tmp_path / "trained") == tmp_path / "trained"
    assert (tmp_path / "trained" / "dictionary.txt").is_file()
    assert recipe.whole(tmp_path / "none") == tmp_path / "none"


def test_other_bytes_than_the_recipe_was_for_are_refused(folder):
    recipe.keep(folder)
    marker = json.loads((folder / MARKER).read_text())
    marker["files"]["coco_untrained.t7"] = hashlib.sha256(b"of another version").hexdigest()
    (folder / MARKER).write_text(json.dumps(marker))
    with pytest.raises(WeightsError, match=r"WEIGHTS.json: coco_untrained.t7 comes out otherwise here"):
        recipe.whole(folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": "eleven"}, "seed"),
        ({"size": "none"}, "size none makes no weights"),
        ({"size": "huge"}, "size"),
    ],
)
def test_a_damaged_recipe_is_one_line(folder, changed, said):
    recipe.keep(folder)
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(marker | changed))
    with pytest.raises(ChatPainterError, match=said):
        recipe.whole(folder)


def test_no_room_for_temporary_files_is_one_line(folder, monkeypatch):
    recipe.keep(folder)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(untrained, "write", full)
    with pytest.raises(StoreError, match=f"^{tempfile.gettempdir()}: the disk is full"):
        recipe.whole(folder)


def test_a_dictionary_that_lost_its_end_is_refused(folder):
    recipe.keep(folder)
    (folder / "dictionary.txt").write_text("a\nred\n")
    with pytest.raises(WeightsError, match="holds no line 'UNK'"):
        recipe.whole(folder)


def test_seeds_are_not_negative():
    with pytest.raises(ValueError, match="at least 0"):
        replace(untrained.UntrainedSettings(), seed=-1)
