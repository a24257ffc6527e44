"""Weight files that damage, or malice, has touched: what comes out is right, or one line; memory stays bounded."""

import gzip
import io
import pickle
import struct
import subprocess
import sys
import zipfile
from functools import partial

import numpy as np
import pytest

from pipeline.imports import stackgan
from pipeline.weights import WeightsError, hashing, published, reed, tables, theano, torch7
from store.files import sha256_file
from tests.support.char_cnn_rnn import char_cnn_rnn_t7, random_net
from tests.support.mutate import as_json, damaged_bytes, damaged_records
from tests.support.outcomes import one_line, right_or_refused
from tests.support.skip_thought import gru_arrays, python2_object_array, write_npz
from tests.support.torch7 import Obj, Storage, Torch7, View, tensor

COUNT = 300
SEEDS = range(2)


def outcomes(path, whole, read, right, *, seed, count=COUNT):
    """Read `count` damaged copies of a file; returns how many were accepted. `right` looks at what was read."""
    accepted = 0
    for name, data in damaged_bytes(whole, seed=seed, count=count):
        path.write_bytes(data)
        value, message = right_or_refused(read)
        if message:
            assert path.name in message, (name, message)
        else:
            assert right(value), name
            accepted += 1
    return accepted


@pytest.mark.parametrize("seed", SEEDS)
def test_npz(tmp_path, seed):
    arrays = gru_arrays(np.random.default_rng(seed), 5, 7, ("", "r_"))
    path = tmp_path / "bi_skip.npz"
    write_npz(path, arrays)

    def right(value):  # an archive checks its own members
        grus, _ = value
        return all(
            np.array_equal(getattr(gru, name), arrays[f"encoder_{prefix}{name}"])
            for gru, prefix in zip(grus, ("", "r_"))
            for name in ("W", "b", "U", "Wx", "bx", "Ux")
        )

    accepted = outcomes(path, path.read_bytes(), lambda: theano.parameters(path, 2), right, seed=seed)
    assert accepted < COUNT / 3


@pytest.mark.parametrize("seed", SEEDS)
def test_table_of_objects(tmp_path, seed):
    vectors = np.random.default_rng(seed).standard_normal((40, 6)).astype(np.float32)
    path = tmp_path / "utable.npy"

    def read():
        found = tables.mapped(path, sha256_file(path), tmp_path / "converted")
        return found[np.arange(found.shape[0])]

    def right(value):  # numbers can be damaged, and nothing says so; their hash stands in the manifest
        return value.dtype == np.float32 and value.shape == vectors.shape

    assert outcomes(path, python2_object_array(vectors), read, right, seed=seed) < COUNT / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_converted_table(tmp_path, seed):
    vectors = np.random.default_rng(seed).standard_normal((40, 6)).astype(np.float32)
    source = tmp_path / "utable.npy"
    source.write_bytes(python2_object_array(vectors))
    checksum = sha256_file(source)
    tables.mapped(source, checksum, tmp_path / "converted")
    (path,) = (tmp_path / "converted").iterdir()

    def read():
        found = tables.mapped(source, checksum, tmp_path / "converted")
        theano.check_table(path, found, 40, 6)
        return found[np.arange(40)]

    outcomes(path, path.read_bytes(), read, lambda value: np.array_equal(value, vectors), seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("root", ["bare", "protos"])
def test_t7(tmp_path, root, seed):
    net = random_net(np.random.default_rng(seed))
    path = tmp_path / "net.t7"

    def right(weights):  # of the network that was written; its numbers have no checksum
        arrays = [array for each in (*weights.convolutions, *weights.maps.values()) for array in each]
        finite = all(np.isfinite(array).all() for array in arrays)
        return finite and weights.dim == 14 and weights.steps == 18 and weights.recurrence == "gru"

    assert outcomes(path, char_cnn_rnn_t7(net, root), lambda: reed.load(path), right, seed=seed, count=100) < 100


@pytest.mark.parametrize("seed", SEEDS)
def test_dictionary(tmp_path, seed):
    path = tmp_path / "dictionary.txt"
    whole = "".join(f"{word}\n" for word in ["<eos>", "UNK", *["the", "dog", "is", "café", "in", "a", "b"]]).encode()

    def right(value):
        rows, lines = value
        return all(0 <= row < lines for row in rows.values()) and {"UNK", "<eos>"} <= rows.keys()

    outcomes(path, whole, lambda: theano.dictionary(path), right, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_vectors_and_names(tmp_path, protocol, seed):
    vectors = np.random.default_rng(seed).standard_normal((4, 2, 30)).astype(np.float32)
    names = [f"COCO_train2014_{image:012d}" for image in range(4)]
    paths = tmp_path / "vectors.pickle", tmp_path / "names.pickle"
    contents = pickle.dumps(list(vectors), protocol), pickle.dumps(names, protocol)
    for path, content in zip(paths, contents):
        path.write_bytes(content)

    def read():
        stackgan.import_pickles(*paths, tmp_path / "out" / "captions", "t", "float32")

    def right(_):
        return True

    for path, content in zip(paths, contents):
        assert outcomes(path, content, read, right, seed=seed, count=60) < 60
        path.write_bytes(content)
    read()


@pytest.mark.parametrize("seed", SEEDS)
def test_captions_t7(tmp_path, seed):
    vectors = np.random.default_rng(seed).standard_normal((3, 1, 20)).astype(np.float32)
    path = tmp_path / "captions.t7"
    whole = Torch7.bytes({"raw_txt": ["a dog", "two", "caf\u00e9"], "fea_txt": [tensor(each) for each in vectors]})

    def right(value):
        texts, found = value
        return len(texts) == len(found) == 3

    assert outcomes(path, whole, lambda: stackgan.read_captions_t7(path), right, seed=seed) < COUNT


def test_marker(tmp_path):
    (tmp_path / "net.t7").write_bytes(b"x")
    marker = {"trained": False, "made_by": "somebody", "files": {"net.t7": "0" * 64}}
    for name, value in damaged_records(marker, count=COUNT):
        (tmp_path / published.MARKER).write_bytes(as_json(value))
        found, message = right_or_refused(lambda: published.find_char_cnn_rnn("net.t7", str(tmp_path), None))
        if not message:
            assert found.marked, name
            assert found.trained is value["trained"], name
    for data in (b"\xff\xfe", b"", b"[" * 100_000, b"nul", b'{"trained": tru'):
        (tmp_path / published.MARKER).write_bytes(data)
        with pytest.raises(WeightsError, match='expected a JSON object with "trained"'):
            published.find_char_cnn_rnn("net.t7", str(tmp_path), None)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_memory_of_hashes(tmp_path, seed):
    path, known = tmp_path / "utable.npy", tmp_path / "sha256.json"
    path.write_bytes(b"a table")
    right = hashing.remembered_sha256(path, known)
    wrong = 0
    for _, data in damaged_bytes(known.read_bytes(), seed=seed, count=COUNT):
        known.write_bytes(data)
        wrong += hashing.remembered_sha256(path, known) != right
        if wrong:  # another hash, as well formed: what it would convert is refused
            with pytest.raises(WeightsError, match="as remembered in"):
                tables.mapped(path, hashing.remembered_sha256(path, known), tmp_path / "converted")
            wrong = 0


# --- files that no damage makes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "/", "../net.t7", "n" * 5000, "a\0b", "\udc80", "net.t7/x"])
def test_names_that_no_disk_has(tmp_path, name):
    _, message = right_or_refused(lambda: published.find_char_cnn_rnn(name, str(tmp_path), None))
    assert "no such file" in message
    for folder in ("n" * 5000, "a\0b"):
        _, message = right_or_refused(partial(published.find_skip_thought, "uni", folder, None))
        assert "no weights for Skip-Thought" in message


def npz_of(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def npy(descr, shape, data=b"", header=None):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    if header is not None:
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data
    return content.getvalue() + data


BAD_ARRAYS = {
    "complex": npy("<c8", (2,), bytes(16)),
    "text": npy("<U2", (2,), bytes(16)),
    "integers": npy("<i4", (2,), bytes(8)),
    "objects": npy("|O", (2,), pickle.dumps([1, 2])),
    "fields": npy([("a", "<f4")], (2,), bytes(8)),
    "petabytes": npy("<f4", (10**15,), bytes(8)),
    "negative": npy("<f4", (0,), header=b"{'descr':'<f4','fortran_order':False,'shape':(-1,)}\n"),
    "negative twice": npy("<f4", (0,), bytes(16), header=b"{'descr':'<f4','fortran_order':False,'shape':(-2,-2)}\n"),
    "true": npy("<f4", (0,), bytes(4), header=b"{'descr':'<f4','fortran_order':False,'shape':(True,)}\n"),
    "no end": npy("<f4", (0,), header=b"{'descr':'<f4','fortran_order':False,'shape':(3,\n"),
    "code": npy("<f4", (0,), header=b"__import__('os').system('false')\n"),
    "deep": npy("<f4", (0,), header=b"(" * 9000 + b"\n"),
    "long": npy("<f4", (0,), header=b" " * 60_000 + b"\n"),
    "empty": b"",
    "no array": b"<!doctype html>",
    "short": npy("<f4", (3,), bytes(11)),
    "more": npy("<f4", (3,), bytes(13)),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_an_array_that_is_none(tmp_path, what):
    path = tmp_path / "uni_skip.npz"
    arrays = gru_arrays(np.random.default_rng(0), 5, 7)
    write_npz(path, arrays)
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    npz_of(path, **members | {"encoder_b": BAD_ARRAYS[what]})
    _, message = right_or_refused(lambda: theano.parameters(path, 1))
    assert message.startswith(f"{path}: encoder_b.npy"), message
    table = tmp_path / "utable.npy"
    table.write_bytes(BAD_ARRAYS[what])
    _, message = right_or_refused(lambda: tables.mapped(table, sha256_file(table), tmp_path / "converted"))
    assert message.startswith(f"{table}: "), message


@pytest.mark.parametrize("what", ["is a .npy", "unknown compression", "encrypted", "a folder", "damaged deflate"])
def test_an_archive_that_is_none(tmp_path, what):
    path = tmp_path / "uni_skip.npz"
    write_npz(path, gru_arrays(np.random.default_rng(0), 5, 7))
    data = bytearray(path.read_bytes())
    members = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x03\x04"]
    entries = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02"]
    assert len(members) == len(entries) >= 6
    if what == "is a .npy":
        data = bytearray(npy("<f4", (2,), bytes(8)))
    for member, entry in zip(members, entries):
        if what == "encrypted":
            data[member + 6] |= 1
            data[entry + 8] |= 1
        elif what in ("unknown compression", "damaged deflate"):
            data[member + 8] = data[entry + 10] = 8 if what == "damaged deflate" else 77
    path.unlink()
    if what == "a folder":
        path.mkdir()
    else:
        path.write_bytes(data)
    _, message = right_or_refused(lambda: theano.parameters(path, 1))
    assert "not a readable .npz file" in message


OTHERS = {
    b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning": "an HTML page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "a pointer of Git LFS, not the file itself: ",
    gzip.compress(b"weights", mtime=0): "compressed with gzip: unpack it with gunzip",
}


@pytest.mark.parametrize("head", OTHERS)
def test_another_file_under_the_name_is_recognised(tmp_path, head):
    readers = {
        "uni_skip.npz": lambda path: theano.parameters(path, 1),
        "utable.npy": lambda path: tables.mapped(path, sha256_file(path), tmp_path / "converted"),
        "dictionary.txt": theano.dictionary,
        "net.t7": reed.load,
        "names.pickle": lambda path: stackgan.import_pickles(path, path, tmp_path / "out" / "captions", "t"),
    }
    for name, read in readers.items():
        path = tmp_path / name
        path.write_bytes(head)
        _, message = right_or_refused(partial(read, path))
        assert message.startswith(f"{path}: {OTHERS[head]}"), message
        assert message.endswith("expected"), message


def changed(monkeypatch, net, module, **fields):
    """The .t7 of a network in which every module of a class has other fields."""
    write = Torch7.write

    def changing(self, value):
        if isinstance(value, Obj) and value.typename.rpartition(".")[2] == module:
            value.fields.update(fields)
        write(self, value)

    with monkeypatch.context() as patched:
        patched.setattr(Torch7, "write", changing)
        return char_cnn_rnn_t7(net)


@pytest.mark.parametrize("value", [0.0, -1.0, 2.5, float("nan"), float("inf"), 1e300, "3", True, None, {}])
@pytest.mark.parametrize(
    ("module", "field"),
    [("TemporalMaxPooling", "kW"), ("TemporalMaxPooling", "dW"), ("TemporalConvolution", "kW"),
     ("TemporalConvolution", "dW"), ("TemporalConvolution", "inputFrameSize"), ("Threshold", "threshold"),
     ("MulConstant", "constant_scalar"), ("AddConstant", "constant_scalar")],
)  # fmt: skip
def test_numbers_in_a_t7_that_describe_no_network(tmp_path, monkeypatch, module, field, value):
    path = tmp_path / "net.t7"
    path.write_bytes(changed(monkeypatch, random_net(np.random.default_rng(0)), module, **{field: value}))
    found, message = right_or_refused(lambda: reed.load(path))
    if field == "threshold" and value in (0.0, -1.0, True):
        assert found.threshold == value
    elif field == "threshold" and value == "3":
        assert "a threshold of 3.0" in message
    else:
        assert "not a char-CNN-RNN as published by Reed et al." in message


@pytest.mark.parametrize("name", ["tds.Hash", "tds.Vec", "tds.AtomicCounter"])
def test_a_tds_object_is_named(tmp_path, name):
    path = tmp_path / "file.t7"
    path.write_bytes(Torch7.bytes({"dictionary": Obj(name, a=1)}))
    _, message = right_or_refused(lambda: torch7.load(path))
    assert f"holds a {name} (at byte " in message
    assert "turn it into a table in Torch" in message


def test_class_names_that_are_none(tmp_path):
    path = tmp_path / "file.t7"
    for name in ("", "a\nb", "\u202e", "x" * 5000, "nn Linear", "\x1b[2J"):
        path.write_bytes(Torch7.bytes(Obj(name, a=1)))
        _, message = right_or_refused(lambda: torch7.load(path))
        assert "an object of class " in message


def test_a_view_of_one_value_many_times_is_no_weight(tmp_path):
    class Expanded(Torch7):
        def write(self, value):
            if isinstance(value, View) and value.shape == (2, 3):
                self.pack("i", 4)
                self.pack("i", 1000 + len(self.index))
                self.string("V 1")
                self.string("torch.FloatTensor")
                self.pack("i5q", 2, 2, 3, 0, 0, 1)
                super().write(value.storage)
            else:
                super().write(value)

    path = tmp_path / "file.t7"
    path.write_bytes(Expanded.bytes({"view": View(Storage(np.ones(1, np.float32)), (2, 3), 0), "n": 7}))
    found = torch7.load(path)
    assert found["n"] == 7
    assert isinstance(found["view"], torch7.TorchObject)


# --- memory ----------------------------------------------------------------------------------------------------------

BOMBS = """
import pathlib, resource, sys
from pipeline.imports import stackgan
from pipeline.weights import WeightsError, reed, tables, theano, torch7
from store.files import sha256_file

folder = pathlib.Path(sys.argv[1])
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
readers = {
    ".npz": lambda path: theano.parameters(path, 1),
    ".npy": lambda path: tables.mapped(path, sha256_file(path), folder / "converted"),
    ".t7": reed.load,
    ".txt": theano.dictionary,
    ".pickle": lambda path: stackgan.import_pickles(path, folder / "names", folder / "out" / "captions", "t"),
}
for path in sorted(folder.iterdir()):
    if path.suffix in readers:
        try:
            readers[path.suffix](path)
        except WeightsError as error:
            print(error.message)
        else:
            print(f"{path}: ACCEPTED")
"""


def bombs(folder):
    """Small files that claim to be large ones; one that is large and holds nothing."""

    def tensor_of(shape, strides, count=1):
        body = struct.pack("<i", len(shape)) + struct.pack(f"<{2 * len(shape) + 1}q", *shape, *strides, 1)
        storage = struct.pack("<ii", 4, 2) + b"\x03\0\0\0V 1" + b"\x12\0\0\0torch.FloatStorage"
        storage += struct.pack("<q", count) + bytes(4)
        return struct.pack("<ii", 4, 1) + b"\x03\0\0\0V 1" + b"\x11\0\0\0torch.FloatTensor" + body + storage

    (folder / "names").write_bytes(pickle.dumps(["COCO_train2014_000000000001"]))
    yield "petabytes.npz", lambda path: npz_of(path, encoder_W=npy("<f4", (10**15,)))
    yield "petabytes.npy", lambda path: path.write_bytes(npy("<f4", (10**12, 600)))
    yield "objects.npy", lambda path: path.write_bytes(npy("|O", (10**12,), b"\x80\x02]."))

    def deflated(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("W", "b", "U", "Wx", "bx", "Ux"):
                with archive.open(f"encoder_{name}.npy", "w", force_zip64=True) as member:
                    member.write(npy("<f4", (1 << 24,)))
                    for _ in range(4):
                        member.write(bytes(1 << 24))

    yield "zeros.npz", deflated
    yield "stride.t7", lambda path: path.write_bytes(tensor_of((2**31, 2**31), (0, 0)))
    yield "elements.t7", lambda path: path.write_bytes(tensor_of((2**62, 4), (1, 1)))
    yield "expanded.t7", lambda path: path.write_bytes(tensor_of((10**5, 10**5), (0, 0)))
    yield "storage.t7", lambda path: path.write_bytes(tensor_of((4,), (1,), 2**40))
    yield "string.t7", lambda path: path.write_bytes(struct.pack("<ii", 2, 2**31 - 1) + b"x" * 10)
    yield "table.t7", lambda path: path.write_bytes(struct.pack("<iii", 3, 1, 2**31 - 1) + bytes(400))
    yield "deep.t7", lambda path: path.write_bytes(b"".join(struct.pack("<iii", 3, i, 1) for i in range(1, 60_000)))

    def sparse(path):
        with path.open("wb") as file:
            file.write(b"UNK\n<eos>\n")
            file.truncate(1 << 36)

    yield "dictionary.txt", sparse
    for code, form in ((b"X", "<I"), (b"T", "<I"), (b"\x8e", "<Q"), (b"\x96", "<Q"), (b"\x8d", "<Q"), (b"U", "<B")):
        length = struct.pack(form, 2 ** (8 * struct.calcsize(form)) - 1)
        yield (
            f"string{code.hex()}.pickle",
            lambda path, data=code + length: path.write_bytes(b"\x80\x02" + data + b"x."),
        )
    whole = pickle.dumps([np.ones((2, 3), np.float32)], 2)
    assert b"K\x02K\x03\x86" in whole
    yield (
        "shape.pickle",
        lambda path: path.write_bytes(whole.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")),
    )


def test_small_files_take_no_large_memory(tmp_path):
    names = []
    for name, write in bombs(tmp_path):
        write(tmp_path / name)
        names.append(name)
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert set(lines) == {str(tmp_path / name) for name in names}
    for name, said in lines.items():
        assert one_line(said) != "ACCEPTED", name
