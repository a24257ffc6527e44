"""StackGAN's vectors, written as Python 2 and Torch7 wrote them, become a store."""

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.imports import stackgan
from pipeline.imports.cli import import_stackgan
from pipeline.weights import WeightsError
from store import Store
from tests.support.pickles import Hostile
from tests.support.skip_thought import python2_object_array
from tests.support.torch7 import Torch7, tensor


def python2_list(arrays):
    """pickle.dump of a list of float32 arrays (captions, dim) under Python 2, protocol 2."""
    out = io.BytesIO()
    out.write(b"\x80\x02]q\x00(")
    names = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02"
    integers = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
    dtype = b"cnumpy\ndtype\nq\x03U\x02f4K\x00K\x01\x87Rq\x04(K\x03U\x01<" + integers + b"tb"
    for i, array in enumerate(arrays):
        out.write(names + b"K\x00\x85U\x01b\x87Rr" + struct.pack("<I", 1000 + i))
        out.write(b"(K\x01K" + bytes([array.shape[0]]) + b"M" + struct.pack("<H", array.shape[1]) + b"\x86")
        data = array.tobytes()
        out.write(dtype + b"\x89T" + struct.pack("<I", len(data)) + data + b"tb")
        names, dtype = b"h\x01h\x02", b"h\x04"
    out.write(b"e.")
    return out.getvalue()


def python2_strings(names):
    body = b"".join(b"U" + bytes([len(name)]) + name.encode() + b"q" + bytes([i + 1]) for i, name in enumerate(names))
    return b"\x80\x02]q\x00(" + body + b"e."


NAMES = [f"COCO_train2014_{image:012d}" for image in (581921, 9, 30, 77)]


@pytest.fixture
def files(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((4, 5, 300)).astype(np.float32)
    (tmp_path / "embeddings.pickle").write_bytes(python2_list(vectors))
    (tmp_path / "filenames.pickle").write_bytes(python2_strings(NAMES))
    return tmp_path, vectors


def test_the_tests_files_are_what_python_reads(files):
    folder, vectors = files
    found = pickle.loads((folder / "embeddings.pickle").read_bytes(), encoding="latin1")  # noqa: S301
    np.testing.assert_array_equal(np.array(found), vectors)
    assert pickle.loads((folder / "filenames.pickle").read_bytes(), encoding="latin1") == NAMES  # noqa: S301


def imported(folder, name="embeddings.pickle", **options):
    out = folder / "out" / "train" / "captions"
    manifest = stackgan.import_pickles(folder / name, folder / "filenames.pickle", out, "train", **options)
    store = Store(out)
    assert len(store) == manifest.rows
    return store


def check(store, vectors):
    np.testing.assert_array_equal(store.slice(0, len(store)), vectors.reshape(-1, 300).astype(np.float16))
    np.testing.assert_array_equal(store.column("image_id"), np.repeat([581921, 9, 30, 77], 5))
    np.testing.assert_array_equal(store.column("caption_id"), np.tile(np.arange(5), 4))
    assert store.kind == "captions"
    assert store.manifest.made_from["encoder"]["imported"] == "StackGAN"
    assert set(store.manifest.made_from["encoder"]["files"]) == {"embeddings.pickle", "filenames.pickle"}


def test_list_of_arrays(files):
    folder, vectors = files
    check(imported(folder), vectors)


def objects(vectors):
    elements = np.empty(4, object)
    elements[:] = list(vectors)
    return elements


FORMS: dict[str, Callable[[Any], Any]] = {
    "one array": lambda vectors: vectors,
    "one array in Fortran order": np.asfortranarray,
    "a list": list,
    "a list in Fortran order": lambda vectors: [np.asfortranarray(image) for image in vectors],
    "a tuple in a list's place": lambda vectors: objects(vectors),
    "float64, big-endian": lambda vectors: vectors.astype(">f8"),
    "a list, big-endian": lambda vectors: [image.astype(">f4") for image in vectors],
    "read-only": lambda vectors: (vectors.setflags(write=False), vectors)[1],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", FORMS)
def test_every_protocol_and_form(files, form, protocol):
    folder, vectors = files
    (folder / "embeddings.pickle").write_bytes(pickle.dumps(FORMS[form](vectors), protocol=protocol))
    check(imported(folder), vectors)


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_both_packages_of_numpy(files, package):
    folder, vectors = files
    other = b"numpy.core" if package == b"numpy._core" else b"numpy._core"
    content = pickle.dumps(list(vectors), protocol=2)  # names as lines, of any length
    (folder / "embeddings.pickle").write_bytes(content.replace(other + b".multiarray", package + b".multiarray"))
    check(imported(folder), vectors)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "form", [list, np.array, lambda names: np.array(names, object), lambda names: [*names, ""][:-1]]
)
def test_every_protocol_of_names(files, form, protocol):
    folder, vectors = files
    names = [f"{name}.jpg" for name in NAMES]
    (folder / "filenames.pickle").write_bytes(pickle.dumps(form(names), protocol=protocol))
    check(imported(folder), vectors)


@pytest.mark.parametrize(
    "form",
    ["{}", "{}.jpg", "images/train2014/{}", "/data/COCO/train2014/{}.jpg", "images\\{}.png", "./a" * 30 + "/{}.jpg"],
)
@pytest.mark.parametrize("year", [2014, 2017])
def test_coco_names_in_folders_and_with_endings(files, form, year):
    folder, vectors = files
    names = [form.format(name if year == 2014 else name.rpartition("_")[2]) for name in NAMES]
    (folder / "filenames.pickle").write_bytes(pickle.dumps(names, protocol=2))
    check(imported(folder), vectors)


@pytest.mark.parametrize(
    "foreign", ["thumbs.db", "001.Bird/bird_3_18", "COCO_train2014_77", "", "COCO_train2014_00000000007x"]
)
def test_a_foreign_name_among_cocos_is_refused(files, foreign):
    folder, _ = files
    (folder / "filenames.pickle").write_bytes(pickle.dumps([*NAMES[:2], foreign, NAMES[3]]))
    with pytest.raises(
        WeightsError, match=rf"filenames\.pickle: name 2 is {foreign!r}, which has no COCO id in it as 3 of"
    ):
        imported(folder)
    assert not (folder / "out").exists()


def test_an_image_named_twice_is_refused(files):
    folder, _ = files
    (folder / "filenames.pickle").write_bytes(pickle.dumps([*NAMES[:3], "train/" + NAMES[1] + ".jpg"]))
    with pytest.raises(WeightsError, match="names image 9 more than once"):
        imported(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"vectors": []}, "holds a dictionary; expected lists of strings and arrays; pickle those that are in it"),
        ([], "neither a list of arrays"),
        ("text", "neither a list of arrays"),
        ([1, 2, 3, 4], "image 0 has no array"),
        (np.ones((4, 5)), r"float64 of shape \(4, 5\); expected an array \(captions, dim\)"),
        (np.ones((4, 5, 3), int), r"int64 of shape"),
        (np.ones((4, 5, 3), complex), r"an array of 'c16'"),
        ([np.ones((5, 3)), np.ones((5, 2))] * 2, r"image 1 has float64 of shape \(5, 2\), after one of shape \(5, 3\)"),
        (np.full((4, 5, 3), np.inf), "not finite"),
        (np.full((4, 5, 3), 1e5), "a value that float16 cannot hold; import it with --dtype float32"),
        (np.ones((4, 0, 3)), "of shape"),
    ],
)
def test_what_is_no_list_of_vectors_is_named(files, content, said):
    folder, _ = files
    (folder / "embeddings.pickle").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(WeightsError, match=said):
        imported(folder)
    assert not (folder / "out" / "train" / "captions" / "manifest.json").exists()


def test_several_shards(files, monkeypatch):
    folder, vectors = files
    monkeypatch.setattr(stackgan, "SHARD_MIB", 0)
    store = imported(folder)
    check(store, vectors)
    assert len(store.manifest.shards) == 4  # an image's captions stay together


def test_other_names_are_numbered(files):
    folder, _ = files
    (folder / "filenames.pickle").write_bytes(python2_strings([f"001.Bird/bird_{i}_18" for i in range(4)]))
    store = imported(folder)
    np.testing.assert_array_equal(store.column("image_id"), np.repeat(np.arange(4), 5))
    assert store.manifest.made_from["encoder"]["image_ids"] == "positions"
    options = ["--embeddings", str(folder / "embeddings.pickle"), "--filenames", str(folder / "filenames.pickle")]
    out = CliRunner().invoke(import_stackgan, ["--split", "t", "--out", str(folder), *options])
    assert "20 vectors; no COCO ids in the file: image_id is the position in it" in out.output


def test_files_that_do_not_fit(files):
    folder, _ = files
    (folder / "filenames.pickle").write_bytes(python2_strings(NAMES[:3]))
    with pytest.raises(WeightsError, match=r"vectors of 4 images, but filenames\.pickle names 3"):
        imported(folder)
    (folder / "filenames.pickle").write_bytes(python2_strings([]))
    with pytest.raises(WeightsError, match="expected a list of file names"):
        imported(folder)
    assert not (folder / "out" / "train" / "captions" / "manifest.json").exists()


def test_foreign_names_and_damage(files):
    folder, _ = files
    hostile = Hostile(folder / "ran")
    whole = (folder / "embeddings.pickle").read_bytes()
    for content in (pickle.dumps([hostile]), hostile.pickled(protocol=0)):
        (folder / "embeddings.pickle").write_bytes(content)
        with pytest.raises(WeightsError, match="asks for"):
            imported(folder)
    assert not hostile.ran
    (folder / "embeddings.pickle").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="fetch the file again"):
        imported(folder)
    (folder / "embeddings.pickle").write_bytes(python2_object_array(np.ones((3, 4), np.float32)))
    with pytest.raises(WeightsError):
        imported(folder)
    with pytest.raises(WeightsError, match="cannot be read"):
        imported(folder, "absent.pickle")


def test_the_published_list_of_names(shared_data):
    names = stackgan.file_names(shared_data / "stackgan" / "coco_test_filenames.pickle")
    assert len(names) == 40_470
    assert names[0] == "COCO_val2014_000000412978"


def test_captions_t7(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((3, 1, 20)).astype(np.float32)
    table = {"raw_txt": ["a dog", "two", "caf\u00e9"], "fea_txt": [tensor(vector, "Cuda") for vector in vectors]}
    path = tmp_path / "val_captions.t7"
    path.write_bytes(Torch7.bytes(table))
    assert stackgan.import_captions_t7(path, tmp_path / "captions", "val", "float32").rows == 3
    store = Store(tmp_path / "captions")
    np.testing.assert_array_equal(store.slice(0, 3), vectors[:, 0])
    assert store.index["text"].to_pylist() == ["a dog", "two", "caf\u00e9"]
    path.write_bytes(Torch7.bytes({"raw_txt": ["a"], "fea_txt": []}))
    with pytest.raises(WeightsError, match="found 1 texts and 0 vectors"):
        stackgan.import_captions_t7(path, tmp_path / "captions", "val")


def test_the_published_example(shared_data, tmp_path):
    path = shared_data / "stackgan" / "birds_example_captions.t7"
    texts, vectors = stackgan.read_captions_t7(path)
    assert texts == ["this bird has a bright yellow body with brown on its crown and wings"]
    assert vectors.shape == (1, 1024)


def test_command(files):
    folder, vectors = files
    arguments = ["--split", "train", "--out", str(folder / "stores"), "--embeddings", str(folder / "embeddings.pickle")]
    out = CliRunner().invoke(import_stackgan, [*arguments, "--filenames", str(folder / "filenames.pickle")])
    assert out.exit_code == 0, out.output
    assert out.output.endswith("captions: 20 vectors\n")
    check(Store(folder / "stores" / "train" / "captions"), vectors)
    out = CliRunner().invoke(import_stackgan, arguments)
    assert out.exit_code == 1
    assert "together, or --captions-t7 alone" in out.output
