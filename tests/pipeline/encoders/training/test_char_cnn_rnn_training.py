"""char-CNN-RNN's training: network, loss, course, files, and how well texts find pictures."""

import json
import signal
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import encoders_cli
from pipeline.corpora import corpus
from pipeline.encoders import EncoderSettings
from pipeline.encoders import char_cnn_rnn as encoder
from pipeline.encoders.training import char_cnn_rnn as training
from pipeline.encoders.training import files, picture_features, retrieval
from pipeline.encoders.training.character_network import CharacterNetwork, joint_embedding_loss
from pipeline.weights import reed
from pipeline.weights.torch7_writer import NetworkWriter
from store.errors import ChatPainterError
from store.interrupts import Interrupts
from store.writer import StoreWriter
from tests.support import encoder_references
from tests.support.torch7 import Obj, Torch7, tensor

CPU = torch.device("cpu")
SMALL = training.CharCnnRnnTraining(
    widths=(6, 8, 8), dim=6, batch=6, pairs=96, held_out=4, checkpoint_every=24, rate=3e-3
)
THINGS = ("dog", "cat", "sun", "tree", "boat", "hat", "bird", "fox")
REFERENCE_NAMES = {
    "input": "i2h", "hidden": "h2h", "input_update": "i2h_update", "hidden_update": "h2h_update",
    "input_reset": "i2h_reset", "hidden_reset": "h2h_reset",
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    """24 images of 8 things, three each in a folder of their own, and features that tell the things apart."""
    rows = []
    for image, thing in enumerate(THINGS * 3):
        captions = [(10 * image + i, f"a {word} {thing}") for i, word in enumerate(("red", "small"))]
        rows.append(corpus.Row(image, f"{thing}/{image}.jpg", 8, 8, captions, [], ""))
    corpus.write(rows, tmp_path / "train.parquet")
    features = np.eye(8, dtype=np.float32)[np.arange(24) % 8] + 0.01 * np.arange(24, dtype=np.float32)[:, None]
    np.save(tmp_path / "features.npy", features)
    return tmp_path / "train.parquet", tmp_path / "features.npy"


def train(folder: Path, world, settings=SMALL, interrupts=None, progress=lambda *_: None, features=True):
    return training.train(
        folder, world[0], world[1] if features else None, settings, EncoderSettings(), CPU,
        interrupts or Interrupts(), progress,
    )  # fmt: skip


def numbers(text: str) -> np.ndarray:
    row = np.full(reed.LENGTH, encoder.NOTHING, np.int64)
    found, _, _ = encoder.channels(text, EncoderSettings().char_cnn_rnn)
    row[: len(found)] = found
    return row


def test_the_network_is_the_published_one():
    torch.manual_seed(1)
    network = CharacterNetwork((5, 7, 6), 4).double()
    for parameter in network.parameters():
        assert 0.03 < parameter.abs().max() <= 0.08
        parameter.data *= 12
    convolutions, maps, projection = network.weights()
    pools = [(3, 3), (3, 3), None]
    net = {
        "convolutions": [(weight, bias, pool) for (weight, bias), pool in zip(convolutions, pools)],
        "recurrence": "gru", "average": True, "linear": projection,
        "maps": {REFERENCE_NAMES[name]: value for name, value in maps.items()},
    }  # fmt: skip
    texts = ["a red dog - on the left?", "", "x" * 300]
    found = network(torch.from_numpy(np.stack([numbers(text) for text in texts]))).detach().numpy()
    for text, vector in zip(texts, found):
        np.testing.assert_allclose(vector, encoder_references.char_cnn_rnn(net, text), rtol=1e-5, atol=1e-6)
    assert network.steps == 18


def test_the_loss_is_the_original_s_both_ways():
    rng = np.random.default_rng(0)
    texts, pictures = 0.7 * rng.standard_normal((2, 5, 3))

    def one_way(these, those):  # train_sje_hybrid.lua's JointEmbeddingLoss, labels 1 … n
        total = 0.0
        for i in range(5):
            for j in range(5):
                if i != j:
                    total += max(0.0, those[i] @ these[j] - those[i] @ these[i] + 1)
        return total / 25

    found = joint_embedding_loss(torch.from_numpy(texts), torch.from_numpy(pictures))
    assert float(found) == pytest.approx(one_way(texts, pictures) + one_way(pictures, texts))


def test_a_t7_file_byte_by_byte():
    weight, bias = np.array([[1.0, -2.0]], np.float32), np.array([0.5], np.float32)
    linear = ("nn.Linear", {"weight": weight, "bias": bias})
    writer = NetworkWriter()
    writer.value({"first": linear, "again": linear, "train": False, "p": 0})

    def string(text):
        return struct.pack("<i", len(text)) + text

    def key(text):
        return struct.pack("<i", 2) + string(text)

    def vector(index, sizes, strides, values):
        head = struct.pack("<ii", 4, index) + string(b"V 1") + string(b"torch.FloatTensor")
        layout = struct.pack("<i", len(sizes)) + struct.pack(f"<{2 * len(sizes) + 1}q", *sizes, *strides, 1)
        storage = struct.pack("<ii", 4, index + 1) + string(b"V 1") + string(b"torch.FloatStorage")
        return head + layout + storage + struct.pack(f"<q{len(values)}f", len(values), *values)

    assert b"".join(writer.parts) == b"".join(
        [
            struct.pack("<iii", 3, 1, 4),  # a table, object 1, of four entries
            key(b"first"), struct.pack("<ii", 4, 2), string(b"V 1"), string(b"nn.Linear"),
            struct.pack("<iii", 3, 3, 2),  # its fields
            key(b"weight"), vector(4, (1, 2), (2, 1), (1.0, -2.0)),
            key(b"bias"), vector(6, (1,), (1,), (0.5,)),
            key(b"again"), struct.pack("<ii", 4, 2),  # the same object: its number alone
            key(b"train"), struct.pack("<ii", 5, 0),
            key(b"p"), struct.pack("<id", 1, 0.0),
        ]
    )  # fmt: skip


def test_a_network_s_t7_is_what_torch_s_own_order_of_modules_makes_it():
    torch.manual_seed(0)
    convolutions, maps, projection = CharacterNetwork((3, 4, 5), 2).weights()

    def linear(name):
        weight, bias = maps[name]
        return Obj("nn.Sequential", modules=[Obj("nn.Linear", weight=tensor(weight), bias=tensor(bias))])

    each = {name: linear(name) for name in maps}  # shared by the steps, as getParameters leaves them

    def n(name, **fields):
        return Obj(f"nn.{name}", **fields)

    layers = []
    for i, (weight, bias) in enumerate(convolutions):
        layers += [
            n("TemporalConvolution", weight=tensor(weight), bias=tensor(bias), kW=4, dW=1,
              inputFrameSize=weight.shape[1] // 4, outputFrameSize=len(bias)),
            n("Threshold", threshold=1e-6, val=0, inplace=False),
            *([n("TemporalMaxPooling", kW=3, dW=3)] if i < 2 else []),
        ]  # fmt: skip
    inner = [n("Identity"), each["input"], n("Tanh")]
    for _ in range(17):
        inner += [
            n("Identity"), each["input_update"], each["hidden_update"], n("CAddTable"), n("Sigmoid"), each["input"],
            each["input_reset"], each["hidden_reset"], n("CAddTable"), n("Sigmoid"), n("CMulTable"), each["hidden"],
            n("CAddTable"), n("Tanh"), n("CMulTable"), n("MulConstant", constant_scalar=-1), n("AddConstant"),
            n("CMulTable"), n("CAddTable"), n("CAddTable"),
        ]  # fmt: skip
    inner.append(n("MulConstant", constant_scalar=1 / 18, inplace=False))
    weight, bias = projection
    expected = n(
        "gModule", train=False,
        modules=[
            n("Identity"), n("Sequential", modules=layers), n("SplitTable", dimension=2), n("gModule", modules=inner),
            n("Dropout", p=0), n("Linear", weight=tensor(weight), bias=tensor(bias)),
        ],
    )  # fmt: skip
    assert NetworkWriter().network(convolutions, maps, projection, 18, untrained=False) == Torch7.bytes(expected)


def test_the_reader_loads_what_was_trained_and_both_encoders_share_a_folder(world, tmp_path):
    trained = train(tmp_path / "run", world)
    out = tmp_path / "out"
    out.mkdir()
    (out / "uni_skip.npz").write_bytes(b"as trained before")
    files.marked.write(out, {"trained": True, "made_by": files.COMMAND, "encoders": {"skip-thought": {"a": 1}}})
    written = files.write_char_cnn_rnn(out, trained, {"license": "CC0"})
    assert [path.name for path in written] == ["char_cnn_rnn.t7", "char_cnn_rnn.safetensors"]
    assert (out / "uni_skip.npz").read_bytes() == b"as trained before"
    marker = json.loads((out / "WEIGHTS.json").read_text())
    assert marker["encoders"] == {"char-cnn-rnn": {"license": "CC0"}, "skip-thought": {"a": 1}}
    built = encoder.build("char-cnn-rnn", EncoderSettings(weights=str(out), converted=str(tmp_path / "c")))
    assert (built.dim, built.identity["trained"]) == (6, True)
    texts = ["a red dog", "something else, never seen", ""]
    expected = trained.network(torch.from_numpy(np.stack([numbers(text) for text in texts]))).detach().numpy()
    np.testing.assert_allclose(built.encode(texts).vectors, expected, atol=1e-6)
    from safetensors.torch import load_file

    tensors = load_file(out / "char_cnn_rnn.safetensors")
    torch.testing.assert_close(tensors.pop("pictures.weight"), trained.layer.weight.detach())
    tensors.pop("pictures.bias")
    again = CharacterNetwork((6, 8, 8), 6)
    again.load_state_dict(tensors)


def test_an_interrupted_training_continues_to_the_bit(world, tmp_path):
    whole = train(tmp_path / "whole", world)
    with Interrupts() as interrupts:

        def stop(done: int, *_: object) -> None:
            interrupts.received = signal.SIGTERM if done >= 48 else None

        assert train(tmp_path / "cut", world, interrupts=interrupts, progress=stop) is None
    cut = train(tmp_path / "cut", world)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, cut.network.state_dict()[name]), name
    assert torch.equal(whole.layer.weight, cut.layer.weight)
    assert whole.measured == cut.measured
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()


def test_classes_are_folders_or_images_and_some_are_held_out(world, tmp_path):
    data = training.read(world[0], world[1], EncoderSettings(), 4)
    assert [each.tolist() for each in data.held_out] == [[0, 8, 16], [3, 11, 19]]
    assert len(data.seen) == 6
    assert sorted(np.concatenate(data.seen + data.held_out).tolist()) == list(range(24))
    images, first, second = data.draw(3, 6, seed=0)
    owner = np.repeat(np.arange(24), 2)
    assert len({image % 8 for image in images.tolist()}) == 6  # every class once
    assert owner[first].tolist() == owner[second].tolist() == images.tolist()
    assert (first != second).all()
    again = data.draw(3, 6, seed=0)
    assert all((a == b).all() for a, b in zip((images, first, second), again))
    rows = [corpus.Row(i, f"{i}.jpg", 8, 8, [(i, "a"), (i + 50, "b")], [], "") for i in range(8)]
    corpus.write(rows, tmp_path / "flat.parquet")
    assert len(training.read(tmp_path / "flat.parquet", None, EncoderSettings(), 4).seen) == 6


def test_texts_learn_to_find_pictures_of_classes_they_were_trained_on(world, tmp_path):
    settings = training.CharCnnRnnTraining(**{**SMALL.__dict__, "pairs": 1200, "checkpoint_every": 300})
    losses = []
    trained = train(tmp_path / "run", world, settings, progress=lambda done, total, loss: losses.append(loss))
    assert losses[-1] < 0.75 * losses[0]
    assert set(trained.measured) >= {"average_precision", "chance", "precision_of_50_nearest"}
    against_captions = train(tmp_path / "captions", world, features=False)
    assert against_captions.layer is None
    assert against_captions.measured["held_out_pictures"] == 6


def test_average_precision_by_hand():
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]])
    right = np.array([[False, True, False, True], [False, False, True, True]])
    # First query: hits at ranks 2 and 4: (1/2 + 2/4) / 2; second: at ranks 1 and 2.
    assert retrieval.average_precision(scores, right) == pytest.approx((0.5 + 1.0) / 2)
    assert retrieval.precision_of_nearest(scores, right, 2) == pytest.approx((0.5 + 1.0) / 2)


def test_features_are_read_from_a_store_from_parquet_and_from_numpy(world, tmp_path):
    table = corpus.read(world[0])
    expected = np.load(world[1])
    order = np.random.default_rng(0).permutation(24)
    pq.write_table(
        pa.table({"image_id": order, "features": pa.array(list(expected[order]))}), tmp_path / "features.parquet"
    )
    made_from = {"features": "test"}
    with StoreWriter(
        tmp_path / "store", kind="features", split="train", shape=(8,), dtype="float32", made_from=made_from
    ) as writer:
        writer.plan([(0, 24, "key")])
        writer.write_shard(0, expected[order])
        writer.commit(pa.table({"row": np.arange(24), "image_id": order}))
    for path in (world[1], tmp_path / "features.parquet", tmp_path / "store"):
        np.testing.assert_array_equal(picture_features.read(path, table), expected)
        assert len(picture_features.checksum(path)) == 64


@pytest.mark.parametrize(
    "name, values, said",
    [
        ("f.npy", np.zeros((3, 2), np.float32), "has shape (3, 2), expected a row for each of 24"),
        ("f.npy", np.full((24, 2), np.nan, np.float32), "not finite"),
        ("f.npy", b"no array", "not a .npy file"),
        ("f.parquet", b"no table", "not pictures' features"),
        ("f.parquet", pa.table({"image_id": [0, 1], "features": [[1.0], [2.0]]}), "no features of 22 pictures"),
        ("f.txt", b"", "a store's folder, a .parquet or a .npy"),
    ],
)
def test_features_that_do_not_fit_are_refused_in_words(world, tmp_path, name, values, said):
    path = tmp_path / name
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif isinstance(values, np.ndarray):
        np.save(path, values)
    else:
        pq.write_table(values, path)
    with pytest.raises(ChatPainterError) as refused:
        picture_features.read(path, corpus.read(world[0]))
    assert said in refused.value.message


def test_the_command_trains_and_says_what_is_found(world, tmp_path, monkeypatch):
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "train_char_cnn_rnn: {widths: [4, 4, 4], dim: 8, projected: false, pairs: 12, batch: 4}"
    )
    words = ["train", "char-cnn-rnn", "train.parquet", "--features", "features.npy", "--device", "cpu", "--out", "out"]
    for wrong in (("train.parquet", "none.parquet"), ("features.npy", "none.npy"), ("features.npy", "none.parquet")):
        result = CliRunner().invoke(encoders_cli.main, [wrong[1] if word == wrong[0] else word for word in words])
        assert isinstance(result.exception, SystemExit), result.exception
        assert wrong[1] in result.output
    result = CliRunner().invoke(encoders_cli.main, words)
    assert result.exit_code == 0, result.output
    assert "held-out classes among" in result.output
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "WEIGHTS.json", "char_cnn_rnn.safetensors", "char_cnn_rnn.t7"
    ]  # fmt: skip
    Path("params.yaml").write_text("train_char_cnn_rnn: {dim: 9, projected: false}")
    result = CliRunner().invoke(encoders_cli.main, [*words, "--run", "other"])
    assert result.exit_code == 1
    assert "features have 8 values and texts dim 9" in result.output
