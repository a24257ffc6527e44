"""Checkpoints of google/sg2im (coco64.pt, vg64.pt, vg128.pt and those of its ablations), stripped or full.

A mapping of names: `model_state` and `model_kwargs`, which hold the vocabulary; `args` of the training; states and
arguments of both discriminators, `None` where there was none. Sizes follow from the tensors' shapes.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from store.errors import ChatPainterError, one_line
from trainer import tensor_file
from trainer.systems import Generator
from trainer.systems.sg2im.config import Networks
from trainer.systems.sg2im.discriminators import CropDiscriminator, PatchDiscriminator
from trainer.systems.sg2im.networks import Sg2imGenerator, generator_settings

MISFITS = (ValueError, KeyError, TypeError, RuntimeError, IndexError, AttributeError)
NOTHING = "NONE"  # the name of a class that nothing has


def read_generator(path: str | Path) -> Sg2imGenerator:
    """The generator in a checkpoint, in eval mode; arguments that its networks do not depend on are kept beside it.

    Raises:
        ChatPainterError: the file is missing, holds more than tensors and plain values, or is not sg2im's.
    """
    found = _read(path)
    state = tensor_file.state_of(found.get("model_state"), path)
    try:
        given = found["model_kwargs"]
        for name, ours in (("normalization", "batch"), ("activation", "leakyrelu-0.2"), ("mlp_normalization", "none")):
            if given.get(name, ours) != ours:
                raise ValueError(f"{name} is {given[name]!r}, and only {ours!r} is known here")
        sizes = _sizes(state.tensors, given)
        vocabulary = {
            "objects": _names(given["vocab"], "object", len(state.tensors["obj_embeddings.weight"]) - 1),
            "predicates": _names(given["vocab"], "pred", len(state.tensors["pred_embeddings.weight"])),
        }
        kept = {"args": found.get("args"), "model_kwargs": given, "state": state.origin}
        generator = Sg2imGenerator(generator_settings(sizes, vocabulary, published=_plain(kept)))
        tensor_file.fit(generator.network, state.tensors)
    except MISFITS as error:
        raise ChatPainterError(f"{path}: not a generator of sg2im's ({_reason(error)})") from None
    return generator.eval()


def read_discriminators(path: str | Path) -> tuple[CropDiscriminator | None, PatchDiscriminator | None]:
    """Those of objects and of pictures in a checkpoint, in eval mode; None where it has none.

    Raises:
        ChatPainterError: as `read_generator`.
    """
    found = _read(path)

    def read(name: str, build: Any) -> Any:
        if found.get(f"{name}_state") is None:
            return None
        state, given = tensor_file.state_of(found[f"{name}_state"], path), found[f"{name}_kwargs"]
        if given.get("padding", "valid") != "valid":
            raise ValueError(f"{name}: padding is {given['padding']!r}, and only 'valid' is known here")
        network = build(given, state.tensors)
        tensor_file.fit(network, state.tensors)
        return network.eval()

    try:
        objects = read(
            "d_obj",
            lambda given, tensors: CropDiscriminator(
                given["arch"], len(tensors["discriminator.obj_classifier.bias"]), given.get("object_size", 64)
            ),
        )
        return objects, read("d_img", lambda given, tensors: PatchDiscriminator(given["arch"]))
    except MISFITS as error:
        raise ChatPainterError(f"{path}: not discriminators of sg2im's ({_reason(error)})") from None


def write_generator(generator: Generator, path: str | Path) -> None:
    """Write `generator` as a checkpoint of sg2im's, atomically, which its scripts sample from.

    `model_state`, `model_kwargs` and `args` are as they came in where it came from one; discriminators it has none.

    Raises:
        ChatPainterError: it is not sg2im's.
        StoreError: the folder cannot be written.
    """
    if not isinstance(generator, Sg2imGenerator):
        raise ChatPainterError("the generator of another system has no form in sg2im's files")
    kept = generator.settings.get("published") or {"args": {}, "model_kwargs": _arguments(generator), "state": {}}
    state = tensor_file.published_state(generator.network, path, kept["state"])
    without = {f"d_{which}_{what}": None for which in ("obj", "img") for what in ("state", "kwargs")}
    content = {"args": kept["args"], "model_kwargs": kept["model_kwargs"], "model_state": state, **without}
    tensor_file.write(content, path)


def _read(path: str | Path) -> dict[str, Any]:
    found = tensor_file.load_published(path, "a checkpoint of tensors and plain values")
    if not isinstance(found, dict) or not {"model_state", "model_kwargs"} <= found.keys():
        raise ChatPainterError(f"{path}: not a checkpoint of sg2im's (expected model_state and model_kwargs)")
    return found


def _sizes(tensors: Mapping[str, Tensor], given: Mapping[str, Any]) -> Networks:
    """The generator's sizes, from its tensors; the picture's side and what has no tensor from its arguments."""
    height, width = given.get("image_size", (64, 64))
    if height != width:
        raise ValueError(f"image_size is {height} x {width}, and only squares are known here")
    layers = len({name.split(".")[2] for name in tensors if name.startswith("gconv_net.gconvs.")})
    hidden, gconv_dim = tensors["box_net.0.weight"].shape
    doublings = sum(name.startswith("mask_net.") and name.endswith(".running_mean") for name in tensors)
    modules = len({name.split(".")[2] for name in tensors if name.startswith("refinement_net.refinement_modules.")})
    firsts = [tensors[f"refinement_net.refinement_modules.{number}.net.0.weight"] for number in range(modules)]
    return Networks(
        side=int(height),
        embedding_dim=tensors["obj_embeddings.weight"].shape[1],
        gconv_dim=gconv_dim,
        gconv_hidden_dim=hidden,
        gconv_num_layers=0 if "gconv.weight" in tensors else 1 + layers,
        gconv_pooling=given.get("gconv_pooling", "avg"),
        mask_size=1 << doublings if doublings else 0,
        refinement_dims=tuple(len(one) for one in firsts),
        layout_noise_dim=firsts[0].shape[1] - 1 - gconv_dim,
    )


def _names(vocabulary: Mapping[str, Any], kind: str, count: int) -> list[str]:
    names = vocabulary[f"{kind}_idx_to_name"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != count:
        raise ValueError(f"vocab.{kind}_idx_to_name should be {count} names, one for each row of the embedding")
    return names


def _arguments(generator: Sg2imGenerator) -> dict[str, Any]:
    """What Sg2ImModel is built with, of a generator that was trained here."""
    sizes, words = generator.sizes, generator.settings["vocabulary"]
    vocabulary = {}
    for kind, names in (("object", words["objects"]), ("pred", words["predicates"])):
        vocabulary[f"{kind}_idx_to_name"] = names
        vocabulary[f"{kind}_name_to_idx"] = {name: i for i, name in enumerate(names) if name != NOTHING}
    return {
        "vocab": vocabulary,
        "image_size": (sizes.side, sizes.side),
        "embedding_dim": sizes.embedding_dim,
        "gconv_dim": sizes.gconv_dim,
        "gconv_hidden_dim": sizes.gconv_hidden_dim,
        "gconv_num_layers": sizes.gconv_num_layers,
        "gconv_pooling": sizes.gconv_pooling,
        "mlp_normalization": "none",
        "refinement_dims": sizes.refinement_dims,
        "normalization": "batch",
        "activation": "leakyrelu-0.2",
        "mask_size": sizes.mask_size or None,
        "layout_noise_dim": sizes.layout_noise_dim,
    }


def _plain(value: Any) -> Any:
    """A value of a checkpoint as JSON has it, tuples as lists.

    Raises:
        ValueError: there is something else in it.
    """
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("args and model_kwargs should be plain values by name")
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"args and model_kwargs should be plain values; one is {type(value).__name__}")


def _reason(error: BaseException) -> str:
    """What does not fit, in words."""
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]}"
    return one_line(error) or type(error).__name__
