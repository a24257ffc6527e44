"""What a training leaves for the readers: the published files, and a WEIGHTS.json that says whose they are.

One folder holds both encoders, whichever was trained first: `encoders.weights: data/trained`.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.corpora.folders import replacing_folder
from pipeline.encoders.training import expansion
from pipeline.weights import marked, published, theano_writer
from pipeline.weights.torch7_writer import NetworkWriter
from store.files import system_errors

if TYPE_CHECKING:
    from pipeline.encoders.training import char_cnn_rnn
    from pipeline.encoders.training.sentence_network import SentenceNetwork
    from pipeline.encoders.training.skip_thought import Trained

COMMAND = "chatpainter-encoders train"
T7, SAFETENSORS = "char_cnn_rnn.t7", "char_cnn_rnn.safetensors"
SKIP_THOUGHT = tuple(published.SKIP_THOUGHT)
CHAR_CNN_RNN = (T7, SAFETENSORS)
_OURS = re.compile("|".join(map(re.escape, (*SKIP_THOUGHT, *CHAR_CNN_RNN, published.MARKER))))


def write(out: Path, encoder: str, names: tuple[str, ...], make: Callable[[Path], None], about: dict[str, Any]) -> None:
    """Put an encoder's files (`names`, written by `make`) into the folder `out`, beside the other encoder's.

    Args:
        about: what WEIGHTS.json says of the encoder: trained on what, how, how good.

    Raises:
        ChatPainterError: `out` holds anything that this command did not write, or that was changed since.
    """
    marked.refuse_foreign(out, COMMAND)
    before = marked.read(out, COMMAND)
    with replacing_folder(out, _OURS, published.MARKER, "--out") as folder:
        for name in before.get("files", {}):
            if name not in names:
                try:
                    os.link(out / name, folder / name)
                except OSError:  # a disk without hard links
                    shutil.copy2(out / name, folder / name)
        make(folder)
        encoders = {**before.get("encoders", {}), encoder: about}
        marked.write(folder, {"trained": True, "made_by": COMMAND, "encoders": dict(sorted(encoders.items()))})


def write_skip_thought(out: Path, trained: "Trained", vectors: Path | None, about: dict[str, Any]) -> list[Path]:
    """The published files of what was trained; with `vectors` (word2vec's or GloVe's text) words beyond its own.

    Returns:
        The files.
    """
    names = [name for half in trained.networks for name in (f"{half}_skip.npz", f"{half[0]}table.npy")]
    names.append("dictionary.txt")
    tables = {
        half: network.embedding.weight.detach().float().cpu().numpy() for half, network in trained.networks.items()
    }
    words, native = trained.words, len(trained.words)
    if vectors is not None:
        words, tables, shared = expansion.expand(words, tables, *expansion.read(vectors))
        about = {**about, "expanded": {"from": vectors.name, "shared_words": shared, "words": len(words) - native}}

    def make(folder: Path) -> None:
        theano_writer.write_dictionary(folder / "dictionary.txt", words)
        for half, network in trained.networks.items():
            theano_writer.write_npz(
                folder / f"{half}_skip.npz", {"Wemb": tables[half][:native], **encoder_arrays(network)}
            )
            with (folder / f"{half[0]}table.npy").open("wb") as file:
                theano_writer.write_object_table(file, tables[half], native=range(native))

    write(out, "skip-thought", SKIP_THOUGHT, make, about)
    return [out / name for name in names]


def write_char_cnn_rnn(out: Path, trained: "char_cnn_rnn.Trained", about: dict[str, Any]) -> list[Path]:
    """The network as a .t7 whose root it is, as COCO's is; and, with the layer over features, as safetensors.

    Returns:
        The files.
    """
    convolutions, maps, projection = trained.network.weights()
    layer = trained.layer.state_dict() if trained.layer else {}
    tensors = {**trained.network.state_dict(), **{f"pictures.{name}": value for name, value in layer.items()}}

    def make(folder: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        writer = NetworkWriter()
        data = writer.network(convolutions, maps, projection, trained.network.steps, untrained=False)
        (folder / T7).write_bytes(data)
        with system_errors(SafetensorError, r"os error (\d+)"):
            save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, folder / SAFETENSORS)

    write(out, "char-cnn-rnn", CHAR_CNN_RNN, make, about)
    return [out / name for name in CHAR_CNN_RNN]


def encoder_arrays(network: "SentenceNetwork") -> dict[str, np.ndarray]:
    """The encoder as uni_skip.npz and bi_skip.npz hold it: row vectors times matrices, columns [r | u]."""
    values = {name: value.detach().float().cpu().numpy() for name, value in network.encoder.state_dict().items()}
    arrays: dict[str, np.ndarray] = {}
    for prefix, suffix in (("encoder_", "_l0"), ("encoder_r_", "_l0_reverse")):
        if f"weight_ih{suffix}" not in values:
            continue
        dim = values[f"weight_hh{suffix}"].shape[1]
        inputs, states, bias = (values[f"{name}{suffix}"].T for name in ("weight_ih", "weight_hh", "bias_ih"))
        arrays |= {
            f"{prefix}W": inputs[:, : 2 * dim], f"{prefix}b": bias[: 2 * dim], f"{prefix}U": states[:, : 2 * dim],
            f"{prefix}Wx": inputs[:, 2 * dim :], f"{prefix}bx": bias[2 * dim :], f"{prefix}Ux": states[:, 2 * dim :],
        }  # fmt: skip
    return arrays
