"""Files of Maluuba/GeNeVA: snapshot_N.pth, seven state_dicts with `module.` before every key, counters, arguments.

Written by torch 0.4.1, whose spectral norms lie otherwise (`trainer.tensor_file`). A generator of ours takes six of the
seven; the discriminator is read alone, and the optimisers stay behind. Every size follows from the tensors' shapes.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from store.errors import ChatPainterError, one_line
from trainer import tensor_file
from trainer.systems import Generator
from trainer.systems.geneva.config import Networks
from trainer.systems.geneva.discriminator import Discriminator
from trainer.systems.geneva.networks import TURN_WORDS, GenevaGenerator, generator_settings

MODULES = ("generator", "rnn", "layer_norm", "image_encoder", "condition_encoder", "sentence_encoder")
WHAT = "a snapshot of GeNeVA"


def read_generator(path: str | Path, background: str = "", statistics: str = "running") -> GenevaGenerator:
    """What paints in a snapshot, in eval mode; it reads a turn's words as GloVe vectors (`networks.TURN_WORDS`).

    Args:
        background: file of the picture that films begin with (GeNeVA's `background.png`), seen as the published weights
            saw it, red and blue exchanged; grey where none is named.
        statistics: `batch`: BatchNorm takes those of the batch while painting, as the original never leaves training
            mode; `running`.

    Raises:
        ChatPainterError: the file is missing, holds more than a snapshot does, or is none; the background is missing.
    """
    found = _read(path)
    states = {name: tensor_file.state_of(found.get(f"{name}_state_dict"), path) for name in MODULES}
    try:
        tensors = {name: state.tensors for name, state in states.items()}
        networks = _networks(
            tensors, tensor_file.state_of(found.get("discriminator_state_dict"), path).tensors, statistics
        )
        origin = {
            "file": Path(path).name,
            "modules": {name: state.origin for name, state in states.items()},
            **{name: found[name] for name in ("epoch", "iteration") if isinstance(found.get(name), int)},
            "cfg": _arguments(found.get("cfg")),
        }
        objects = len(tensors["image_encoder"]["object_detector.weight"])
        generator = GenevaGenerator(
            generator_settings(networks, {TURN_WORDS.name: networks.words}, objects, origin=origin)
        )
        for name in MODULES:
            tensor_file.fit(generator.get_submodule(name), tensors[name])
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise ChatPainterError(f"{path}: not {WHAT} ({_reason(error)})") from None
    if background:
        generator.background.copy_(_background(Path(background), networks.size))
    return generator.eval()


def read_discriminator(path: str | Path) -> Discriminator:
    """The discriminator in a snapshot, in eval mode.

    Raises:
        ChatPainterError: as `read_generator`.
    """
    found = _read(path)
    tensors = {name: tensor_file.state_of(found.get(f"{name}_state_dict"), path).tensors for name in MODULES}
    mine = tensor_file.state_of(found.get("discriminator_state_dict"), path).tensors
    try:
        networks = _networks(tensors, mine, "running")
        discriminator = Discriminator(networks, len(mine["aux_objective.2.weight"]))
        tensor_file.fit(discriminator, tensor_file.with_both_vectors(mine))
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise ChatPainterError(f"{path}: not {WHAT} ({_reason(error)})") from None
    return discriminator.eval()


def write_generator(generator: Generator, path: str | Path) -> None:
    """Write what paints as a snapshot has it, atomically; keys and bits of one that was read are those of its file.

    Raises:
        ChatPainterError: it reads turns as one vector each, for which a snapshot has no place.
        StoreError: the folder cannot be written.
    """
    if not isinstance(generator, GenevaGenerator) or generator.sentence_encoder is None:
        raise ChatPainterError("a snapshot of GeNeVA reads turns word by word; this generator reads a vector a turn")
    origin: dict[str, Any] = generator.settings.get("origin") or {}
    modules = origin.get("modules", {})
    snapshot: dict[str, Any] = {name: origin[name] for name in ("epoch", "iteration") if name in origin}
    for name in MODULES:
        layout = modules.get(name, {"prefix": tensor_file.PREFIX})
        snapshot[f"{name}_state_dict"] = tensor_file.published_state(generator.get_submodule(name), path, layout)
    if origin.get("cfg"):
        snapshot["cfg"] = Namespace(**origin["cfg"])
    tensor_file.write(snapshot, path)


def _read(path: str | Path) -> dict[str, Any]:
    found = tensor_file.load_published(path, WHAT)
    if not isinstance(found, dict) or "generator_state_dict" not in found:
        raise ChatPainterError(f"{path}: not {WHAT} (it lacks generator_state_dict)")
    return found


def _networks(tensors: dict[str, dict[str, Tensor]], d: dict[str, Tensor], statistics: str) -> Networks:
    """The sizes that these tensors have."""
    g, pictures, sentence = tensors["generator"], tensors["image_encoder"], tensors["sentence_encoder"]
    condition = len(g["condition_projector.fc.weight"]) // 2
    up = [len(g["fc1.weight"]) // 16]
    while f"resup{len(up)}.conv1.weight" in g:
        up.append(len(g[f"resup{len(up)}.conv1.weight"]))
    down: list[int] = []
    while f"resdown{len(down) + 1}.conv1.weight_orig" in d:
        down.append(len(d[f"resdown{len(down) + 1}.conv1.weight_orig"]))
    if statistics not in ("running", "batch"):
        raise ValueError(f"statistics is {statistics!r:.20}, not running or batch")
    return Networks(
        size=4 << (len(up) - 1),
        up=tuple(up),
        features=tuple(len(value) for name, value in pictures.items() if value.ndim == 4),
        down=tuple(down),
        auxiliary=len(d["aux_objective.0.weight"]),
        sentence=len(tensors["condition_encoder"]["text_projection.weight"]),
        hidden=tensors["rnn"]["weight_hh_l0"].shape[1],
        condition_dim=condition,
        noise_dim=g["fc1.weight"].shape[1] - condition,
        words=sentence["gru.weight_ih_l0"].shape[1],
        statistics="batch" if statistics == "batch" else "running",
    )


def _arguments(cfg: Any) -> dict[str, Any]:
    """The run's arguments as plain values; what is none is left out."""
    values = vars(cfg) if isinstance(cfg, Namespace) else {}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float | str | None)}


def _background(path: Path, size: int) -> Tensor:
    """(3, size, size) in [-1, 1], blue first."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ChatPainterError(f"{path}: cannot be read as a picture ({one_line(error)})") from None
    return torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1) / 127.5 - 1


def _reason(error: BaseException) -> str:
    """What does not fit, in words."""
    return f"it lacks {error.args[0]}" if isinstance(error, KeyError) else one_line(error) or type(error).__name__
