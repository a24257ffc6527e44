"""Small weights in the published formats, written by the tests' own writers."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "weights")]

import published_formats as formats  # noqa: E402

# Words that str.splitlines() would tear apart, two lines that are one word once stripped, and words beyond ASCII.
PLAIN_WORDS = (
    "<eos> UNK is it sunny ? yes . no , a the dog cat park do n't it's color in what red blue of man's cannot can not "
    "stop ' bench two people A"
)
WORDS = PLAIN_WORDS.split()
WORDS += ["a\x85b", "c\u2028d", "two\u00a0", "\u00e9t\u00e9", "\u30c6\u30b9\u30c8", "dog ", "\U0001f600"]


@pytest.fixture(scope="session")
def skip_thought_files(tmp_path_factory):
    """A folder with the five files (E 8, uni 24, bi 12 each way), and what is in them."""
    folder = tmp_path_factory.mktemp("skip-thought")
    rng = np.random.default_rng(3)
    E, D = 8, 24
    uni = formats.gru_arrays(rng, E, D, scale=1.5)
    bi = formats.gru_arrays(rng, E, D // 2, ("", "r_"), scale=1.5)
    formats.write_npz(folder / "uni_skip.npz", uni)
    formats.write_npz(folder / "bi_skip.npz", bi)
    tables = {}
    for name in ("utable", "btable"):
        tables[name] = rng.standard_normal((len(WORDS), E)).astype(np.float32)
        (folder / f"{name}.npy").write_bytes(formats.python2_object_array(tables[name], flat={2, 5, len(WORDS) - 1}))
    (folder / "dictionary.txt").write_bytes("".join(word + "\n" for word in WORDS).encode())
    (folder / "WEIGHTS.json").write_text(json.dumps({"trained": True}))
    rows = {word.strip(): row for row, word in enumerate(WORDS)}
    return SimpleNamespace(folder=folder, uni=uni, bi=bi, rows=rows, **tables)


@pytest.fixture
def char_cnn_rnn_files(tmp_path):
    """A function that writes a random network of a variant and returns its folder and the network."""

    def make(variant="coco", seed=0, **options):
        net = formats.random_net(np.random.default_rng(seed), variant)
        folder = tmp_path / f"{variant}-{seed}"
        folder.mkdir(exist_ok=True)
        root = "bare" if variant in ("coco", "last") else "protos"
        (folder / "net.t7").write_bytes(formats.char_cnn_rnn_t7(net, root, **options))
        return folder, net

    return make
