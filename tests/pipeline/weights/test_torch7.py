"""The .t7 reader, and the char-CNN-RNN found in one."""

import numpy as np
import pytest

from pipeline.weights import WeightsError, reed, torch7
from tests.support.char_cnn_rnn import char_cnn_rnn_t7, random_net
from tests.support.torch7 import Function, Obj, Storage, Torch7, View, tensor

NAMES = {
    "i2h": "input", "h2h": "hidden", "i2h_update": "input_update", "h2h_update": "hidden_update",
    "i2h_reset": "input_reset", "h2h_reset": "hidden_reset",
}  # fmt: skip


def write(tmp_path, value):
    path = tmp_path / "file.t7"
    path.write_bytes(value if isinstance(value, bytes) else Torch7.bytes(value))
    return path


def test_plain_values(tmp_path):
    table = {"a": 1.5, "b": "caf\u00e9", "c": True, "d": False, "list": [1, 2, "x"], "f": Function(), 3: {}}
    found = torch7.load(write(tmp_path, table))
    assert torch7.as_list(found.pop("list")) == [1.0, 2.0, "x"]
    assert found == {"a": 1.5, "b": "caf\u00e9", "c": True, "d": False, "f": None, 3: {}}
    assert torch7.load(write(tmp_path, None)) is None


@pytest.mark.parametrize(
    "kind, dtype",
    [("Float", "f4"), ("Double", "f8"), ("Long", "i8"), ("Int", "i4"), ("Short", "i2"), ("Byte", "u1"), ("Char", "i1"),
     ("Half", "f2"), ("Cuda", "f4"), ("CudaLong", "i8"), ("CudaDouble", "f8"), ("CudaHalf", "f2")],
)  # fmt: skip
def test_tensors(tmp_path, kind, dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    found = torch7.load(write(tmp_path, {"pad": "odd", "t": tensor(values, kind)}))["t"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


def test_views_into_one_storage(tmp_path):
    storage = Storage(np.arange(10, dtype=np.float32))
    found = torch7.load(write(tmp_path, [View(storage, (2, 3), 1), View(storage, (4,), 6), storage]))
    first, second, whole = torch7.as_list(found)
    np.testing.assert_array_equal(first, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(second, [6, 7, 8, 9])
    assert np.shares_memory(first, whole)


def test_cycles(tmp_path):
    node = Obj("nngraph.Node", id=1, children=[])
    node.fields["children"].append(node)
    found = torch7.load(write(tmp_path, node))
    assert found.list("children")[0] is found
    assert found.name == "Node"


def test_the_published_example(shared_data):
    """A file that Torch7 itself wrote."""
    found = torch7.load(shared_data / "stackgan" / "birds_example_captions.t7")
    (vector,) = torch7.as_list(found["fea_txt"])
    assert vector.shape == (1, 1024)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(4.615, abs=1e-3)
    assert vector.mean() == pytest.approx(0.0026, abs=1e-4)
    (text,) = torch7.as_list(found["raw_txt"])
    assert text == (shared_data / "stackgan" / "birds_example_captions.txt").read_text().strip()


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_cut_short(tmp_path, kept):
    whole = char_cnn_rnn_t7(random_net(np.random.default_rng(0)))
    path = write(tmp_path, whole[: int(kept * len(whole))])
    with pytest.raises(WeightsError, match=r"file\.t7: .*(fetch it again|empty)") as caught:
        torch7.load(path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b not torch", b"PK\x03\x04", b"\x03\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\x7f"]
)
def test_other_files(tmp_path, content):
    with pytest.raises(WeightsError):
        torch7.load(write(tmp_path, content))


def test_tensor_outside_its_storage(tmp_path):
    storage = Storage(np.zeros(5, np.float32))
    with pytest.raises(WeightsError, match="outside its storage"):
        torch7.load(write(tmp_path, View(storage, (2, 3), 0)))


def test_damage_anywhere_is_an_error_or_harmless(tmp_path):
    """Flipped bytes never end in another exception."""
    whole = bytearray(Torch7.bytes({"t": tensor(np.zeros((2, 2), np.float32)), "m": Obj("nn.Linear", w=[1, 2])}))
    path = tmp_path / "file.t7"
    refused = read = 0
    for place in range(0, len(whole)):
        for value in (0, 8, 255):
            damaged = whole.copy()
            damaged[place] = value
            path.write_bytes(damaged)
            try:
                torch7.load(path)
                read += 1
            except WeightsError:
                refused += 1
    # Most bytes are lengths, kinds and sizes; a few are numbers, which nothing can know to be wrong.
    assert refused > read > 0


@pytest.mark.parametrize(
    "variant, name",
    [("coco", "gru18-mean-10"), ("icml-birds", "gru18-mean-10"), ("last", "gru18-last-10"), ("cvpr", "rnn8-mean-10")],
)
@pytest.mark.parametrize("kind, package", [("Cuda", "cudnn"), ("Float", "nn")])
def test_variants_are_read_from_the_file(tmp_path, variant, name, kind, package):
    net = random_net(np.random.default_rng(1), variant)
    root = "protos" if variant == "icml-birds" else "bare"
    weights = reed.load(write(tmp_path, char_cnn_rnn_t7(net, root, kind, package)))
    assert weights.variant == name
    assert weights.dim == 14
    assert not weights.untrained
    for (weight, bias, pool), found, found_pool in zip(net["convolutions"], weights.convolutions, weights.pools):
        np.testing.assert_array_equal(found[0], weight)
        np.testing.assert_array_equal(found[1], bias)
        assert (found_pool and (found_pool.width, found_pool.stride)) == pool
    assert set(weights.maps) == {NAMES[key] for key in net["maps"]}
    for key, (weight, bias) in net["maps"].items():
        np.testing.assert_array_equal(weights.maps[NAMES[key]][0], weight)
        np.testing.assert_array_equal(weights.maps[NAMES[key]][1], bias)
    np.testing.assert_array_equal(weights.projection[0], net["linear"][0])
    assert weights.threshold == pytest.approx(1e-6)


@pytest.mark.parametrize("name", ["i2h", "h2h_reset"])
def test_every_steps_copy_must_be_equal(tmp_path, name):
    net = random_net(np.random.default_rng(2))
    with pytest.raises(WeightsError, match=f"map {NAMES[name]} differs between time steps"):
        reed.load(write(tmp_path, char_cnn_rnn_t7(net, different_step=name)))


def test_what_is_no_char_cnn_rnn(tmp_path):
    for value in ({"opt": 1}, Obj("nn.Sequential", modules=[]), Obj("nn.gModule", modules=[Obj("nn.Linear")]), None):
        with pytest.raises(WeightsError, match="not a char-CNN-RNN"):
            reed.load(write(tmp_path, value))


def test_wrong_shapes(tmp_path):
    net = random_net(np.random.default_rng(3))
    net["linear"] = (net["linear"][0][:, :-1], net["linear"][1])
    with pytest.raises(WeightsError, match="the projection reads 9 values, not 10"):
        reed.load(write(tmp_path, char_cnn_rnn_t7(net)))
    net = random_net(np.random.default_rng(3))
    net["linear"][0][0, 0] = np.nan
    with pytest.raises(WeightsError, match="not finite"):
        reed.load(write(tmp_path, char_cnn_rnn_t7(net)))
