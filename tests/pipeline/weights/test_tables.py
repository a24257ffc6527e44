"""Skip-Thought's files: parameters, dictionary, and word vectors as Python 2 pickled them."""

import hashlib
import io
import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest

from pipeline.weights import WeightsError, tables, theano
from pipeline.weights.unpickle import Unpickler
from tests.support.skip_thought import gru_arrays, python2_object_array, write_npz


def mapped(tmp_path, content, name="utable.npy"):
    path = tmp_path / name
    path.write_bytes(content)
    found = tables.mapped(path, hashlib.sha256(content).hexdigest(), tmp_path / "converted")
    return found[np.arange(found.shape[0])]


def test_rows_of_both_shapes(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((2500, 6)).astype(np.float32)
    content = python2_object_array(vectors, flat={0, 3, 1000, 2499})
    # numpy itself reads the tests' file as numpy reads the published one
    elements = np.load(io.BytesIO(content), allow_pickle=True, encoding="latin1")
    assert {element.shape for element in elements} == {(1, 6), (6,)}
    np.testing.assert_array_equal(np.stack([element.reshape(-1) for element in elements]), vectors)
    found = mapped(tmp_path, content)
    np.testing.assert_array_equal(found, vectors)
    assert found.dtype == np.float32


def test_long_rows_stay_in_the_file(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((50, 620)).astype(np.float32)
    np.testing.assert_array_equal(mapped(tmp_path, python2_object_array(vectors, flat=range(5))), vectors)


@pytest.mark.parametrize("protocol", range(6))
def test_saved_again_by_python_3(tmp_path, protocol):
    vectors = np.random.default_rng(1).standard_normal((300, 80)).astype(np.float32)
    array = np.empty(300, object)
    for i, row in enumerate(vectors):
        array[i] = row if i % 3 else row[None]
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": (300,)})
    pickle.dump(array, content, protocol=protocol)
    np.testing.assert_array_equal(mapped(tmp_path, content.getvalue()), vectors)


def saved(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_a_plain_array_has_the_same_rows(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((5000, 3)).astype(np.float32)
    np.testing.assert_array_equal(mapped(tmp_path, saved(vectors)), vectors)
    with pytest.raises(WeightsError, match="expected word vectors in float32"):
        mapped(tmp_path, saved(vectors.astype(np.float64)))
    with pytest.raises(WeightsError, match="cut short or damaged"):
        mapped(tmp_path, saved(vectors)[:-1])


def test_converted_once(tmp_path, monkeypatch):
    content = python2_object_array(np.ones((4, 3), np.float32))
    mapped(tmp_path, content)
    name = f"utable-{hashlib.sha256(content).hexdigest()[:16]}.rows.npy"
    assert [path.name for path in (tmp_path / "converted").iterdir()] == [name]
    monkeypatch.setattr(tables, "_convert", None)
    mapped(tmp_path, content)


def test_a_flipped_bit_in_a_converted_table_is_found_when_its_row_is_read(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    content = python2_object_array(vectors)
    mapped(tmp_path, content)
    (path,) = (tmp_path / "converted").iterdir()
    whole = path.read_bytes()
    start = len(whole) - 40 * 7 * 4
    for place in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        found = tables.mapped(tmp_path / "utable.npy", hashlib.sha256(content).hexdigest(), tmp_path / "converted")
        row = (place - start) // 28
        others = np.delete(np.arange(40), row)
        np.testing.assert_array_equal(found[others], vectors[others])
        with pytest.raises(WeightsError, match=rf"rows\.npy: word {row} is damaged; remove the file"):
            found[np.arange(40)]
    for place in range(start):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(mapped(tmp_path, content), vectors)
        except WeightsError:
            continue
    path.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match="damaged"):
        mapped(tmp_path, content)


def test_a_source_that_decayed_since_it_was_hashed_is_not_converted(tmp_path):
    content = bytearray(python2_object_array(np.ones((4, 3), np.float32)))
    content[-20] ^= 1
    (tmp_path / "utable.npy").write_bytes(content)
    with pytest.raises(WeightsError, match=r"utable\.npy: its sha256 is \w{64}, not 0{64} as remembered"):
        tables.mapped(tmp_path / "utable.npy", "0" * 64, tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


def test_what_killed_conversions_left_is_removed(tmp_path):
    content = python2_object_array(np.ones((4, 3), np.float32))
    converted = tmp_path / "converted"
    converted.mkdir()
    name = f"utable-{hashlib.sha256(content).hexdigest()[:16]}.rows.npy"
    for other, age in ((f"{name}.0123456789ab.tmp", 7200), (f"{name}.ba9876543210.tmp", 0), ("mine.tmp", 7200)):
        (converted / other).touch()
        os.utime(converted / other, (time.time() - age, time.time() - age))
    mapped(tmp_path, content)
    assert {path.name for path in converted.iterdir()} == {name, f"{name}.ba9876543210.tmp", "mine.tmp"}


@pytest.mark.parametrize("name", [b"cos\nsystem\n", b"c__builtin__\neval\n", b"cnumpy.core.multiarray\nfromfile\n"])
def test_foreign_names_are_refused(tmp_path, name):
    content = python2_object_array(np.ones((3, 2), np.float32), function=name)
    with pytest.raises(WeightsError, match=r"utable\.npy: asks for .* and was not read"):
        mapped(tmp_path, content)
    assert not list((tmp_path / "converted").glob("*.npy"))


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.7, 0.99])
def test_cut_short(tmp_path, kept):
    content = python2_object_array(np.ones((300, 20), np.float32))
    with pytest.raises(WeightsError, match="fetch"):
        mapped(tmp_path, content[: int(kept * len(content))])
    assert not list((tmp_path / "converted").glob("*.npy*"))


def test_damage_anywhere_is_an_error_or_harmless(tmp_path):
    whole = bytearray(python2_object_array(np.ones((3, 2), np.float32), flat={1}))
    refused = 0
    for place in range(80, len(whole)):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        try:
            found = mapped(tmp_path, bytes(damaged))
        except WeightsError:
            refused += 1
        else:
            assert (found.shape, found.dtype) == ((3, 2), np.float32)
    assert 0 < refused < len(whole) - 80


def test_rows_of_unequal_length(tmp_path):
    content = python2_object_array(np.ones((5, 4), np.float32))
    wrong = content.replace(b"K\x01K\x04\x86", b"K\x01K\x03\x86", 2)
    with pytest.raises(WeightsError, match="word"):
        mapped(tmp_path, wrong)


def test_memory_does_not_grow_with_the_vectors(tmp_path):
    """The published tables have 930,913 rows of 2,480 bytes: 250 bytes a word here are 0.25 GB there."""
    rows = 8000
    path = tmp_path / "utable.npy"
    content = python2_object_array(np.zeros((rows, 620), np.float32), flat=range(0, rows, 50))
    path.write_bytes(content)
    peaks = []
    for count in (256, 257):
        tables_rows, tables.ROWS = tables.ROWS, count
        tracemalloc.start()
        tables.mapped(path, hashlib.sha256(content).hexdigest(), tmp_path / f"converted{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        tables.ROWS = tables_rows
    fixed = (1 << 20) + 5 * 257 * 2480  # the read buffer, and a block of rows on its way
    assert min(peaks) < fixed + rows * 300 < rows * 2480 / 2


# --- dictionary and parameters ---------------------------------------------------------------------------------------


def test_dictionary_lines(tmp_path):
    path = tmp_path / "dictionary.txt"
    lines = ["<eos>", "UNK", "a\x85b", "c\u2028d", "word", "\u00a0nbsp\u00a0", "word ", "caf\u00e9", "Word"]
    path.write_bytes("\n".join(lines).encode() + b"\n")
    rows, count = theano.dictionary(path)
    assert count == 9
    assert rows == {"<eos>": 0, "UNK": 1, "a\x85b": 2, "c\u2028d": 3, "word": 6, "nbsp": 5, "caf\u00e9": 7, "Word": 8}


def test_dictionary_cut_short_or_missing(tmp_path):
    path = tmp_path / "dictionary.txt"
    path.write_bytes(b"the\nof\n")
    with pytest.raises(WeightsError, match="holds no line 'UNK'"):
        theano.dictionary(path)
    path.write_bytes(b"UNK\n<eos>\ncaf\xe9\n")
    with pytest.raises(WeightsError, match="not UTF-8"):
        theano.dictionary(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        theano.dictionary(tmp_path / "none.txt")


def test_parameters(tmp_path):
    arrays = gru_arrays(np.random.default_rng(0), 5, 7, ("", "r_"))
    write_npz(tmp_path / "bi_skip.npz", arrays)
    (forward, reverse), says_untrained = theano.parameters(tmp_path / "bi_skip.npz", 2)
    assert (forward.width, forward.dim, says_untrained) == (5, 7, False)
    np.testing.assert_array_equal(forward.Ux, arrays["encoder_Ux"])
    np.testing.assert_array_equal(reverse.W, arrays["encoder_r_W"])


def test_parameters_missing_misshapen_or_not_finite(tmp_path):
    arrays = gru_arrays(np.random.default_rng(0), 5, 7)
    path = tmp_path / "uni_skip.npz"
    write_npz(path, {key: value for key, value in arrays.items() if key != "encoder_bx"})
    with pytest.raises(WeightsError, match="holds no array encoder_bx"):
        theano.parameters(path, 1)
    write_npz(path, arrays | {"encoder_U": arrays["encoder_U"][:-1]})
    with pytest.raises(WeightsError, match=r"encoder_U has shape \(6, 14\), expected \(7, 14\)"):
        theano.parameters(path, 1)
    write_npz(path, arrays | {"encoder_b": arrays["encoder_b"] * np.nan})
    with pytest.raises(WeightsError, match="not finite"):
        theano.parameters(path, 1)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match="not a readable"):
        theano.parameters(path, 1)


def test_pickled_code_in_an_npz_is_not_run(tmp_path):
    path = tmp_path / "uni_skip.npz"
    arrays = gru_arrays(np.random.default_rng(0), 5, 7) | {"encoder_b": np.array([print], object)}
    np.savez(path, **arrays)
    with pytest.raises(WeightsError):
        theano.parameters(path, 1)


def test_protocol_0(tmp_path):
    path = tmp_path / "names.pickle"
    value = [b"COCO_1".decode(), "x", 3, 2.5, None, True, ("a", -7)]
    path.write_bytes(b"(lp0\nS'COCO_1'\np1\naS'x'\naI3\naNaI01\na(S'a'\nI-7\ntp2\nag1\na.")
    with path.open("rb") as file:
        assert Unpickler(path, file).load() == [b"COCO_1", b"x", 3, None, True, (b"a", -7), b"COCO_1"]
    path.write_bytes(pickle.dumps(value, protocol=4))
    with path.open("rb") as file:
        assert Unpickler(path, file).load() == value
    assert struct.calcsize("<d") == 8
