"""Published networks that judge pictures: found by path, checked by hash, never fetched and never replaced.

Files (data/weights/):
    inception_v3_google-0cc3c7bd.pth              torchvision Inception v3: Inception Score, protocol `paper` weights-
    inception-2015-12-05-6726825d.pth     torch-fidelity's port of the TensorFlow graph: IS `reference`, FID, KID
    vgg16-397923af.pth                            torchvision VGG16: precision and recall a folder of CLIP in
    transformers' layout      CLIPScore, R-precision
The eight hex digits in a name are the beginning of the file's sha256, as in every torch hub name.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from store.errors import ChatPainterError, one_line
from store.files import sha256_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Missing(Exception):
    """A figure cannot be computed here; the message says why and what would help."""


@dataclass(frozen=True)
class Judge:
    """A frozen network: pictures (n, s, s, 3) uint8 -> named arrays, one row a picture."""

    name: str
    sha256: str
    resize: str
    measure: Callable[[np.ndarray], dict[str, np.ndarray]]
    read: Callable[[Sequence[str]], np.ndarray] | None = None  # texts -> (n, d) unit vectors, where it reads


@cache
def sha256(path: Path) -> str:
    """The file's sha256 in hex, computed once a process."""
    return sha256_file(path)


def find(folder: Path, name: str) -> Path:
    """The weight file `name` in `folder`, checked against the hash in its name.

    Raises:
        Missing: there is none.
        ChatPainterError: there is one and it is not what its name says.
    """
    path = folder / name
    if not path.is_file():
        raise Missing(f"{path} is not there (docs/metrics.md says where it comes from)")
    stated = re.search(r"-([0-9a-f]{8})\.\w+$", name)
    if not stated:
        raise ChatPainterError(f"{path}: the name must end in -XXXXXXXX.pth, the beginning of the file's sha256")
    if not sha256(path).startswith(stated.group(1)):
        raise ChatPainterError(
            f"{path}: sha256 is {sha256(path)[:8]}…, the name says {stated.group(1)}: fetch the file again"
        )
    return path


def torchvision_inception(folder: Path, name: str, device: str) -> Judge:
    """Protocol `paper`: torchvision's Inception v3 with 1,000 classes, logits with bias.

    Pictures are scaled to [-1, 1], which is what the network was trained with; `transform_input`, meant for pictures
    normalised with ImageNet's mean and deviation, therefore stays off (torchvision's loader switches it on).
    """
    import torch.nn.functional as F

    path = find(folder, name)
    try:
        from torchvision.models import inception_v3
    except ImportError:
        raise Missing("torchvision is not installed (pip install chatpainter[metrics])") from None
    model = inception_v3(weights=None, transform_input=False, init_weights=False, aux_logits=True)
    _load(model, path)
    model.to(device)

    def measure(pictures: np.ndarray) -> dict[str, np.ndarray]:
        values = _pictures(pictures, device).float() / 127.5 - 1
        values = F.interpolate(values, size=(299, 299), mode="bilinear", align_corners=False)
        return {"log_posteriors": _numpy(model(values).log_softmax(dim=1))}

    return Judge("torchvision inception_v3", sha256(path), "bilinear to 299, no antialias, [-1, 1]", _frozen(measure))


def fidelity_inception(folder: Path, name: str, device: str) -> Judge:
    """torch-fidelity's Inception 2015-12-05: 2,048 features and the logits without bias, TensorFlow's resize."""
    path = find(folder, name)
    model = _fidelity("feature_extractor_inceptionv3", "FeatureExtractorInceptionV3", ["2048", "logits_unbiased"], path)
    model.to(device)

    def measure(pictures: np.ndarray) -> dict[str, np.ndarray]:
        features, logits = model(_pictures(pictures, device))
        return {"features": _numpy(features), "log_posteriors": _numpy(logits.log_softmax(dim=1))}

    return Judge("inception-2015-12-05", sha256(path), "TensorFlow 1 bilinear to 299, (x-128)/128", _frozen(measure))


def fidelity_vgg16(folder: Path, name: str, device: str) -> Judge:
    """torch-fidelity's VGG16, features after fc2 and ReLU (4,096): precision and recall."""
    path = find(folder, name)
    model = _fidelity("feature_extractor_vgg16", "FeatureExtractorVGG16", ["fc2_relu"], path)
    model.to(device)

    def measure(pictures: np.ndarray) -> dict[str, np.ndarray]:
        return {"features": _numpy(model(_pictures(pictures, device))[0])}

    return Judge("vgg16 fc2", sha256(path), "TensorFlow 1 bilinear to 224, ImageNet mean and sd", _frozen(measure))


def _fidelity(module: str, name: str, features: list[str], path: Path) -> "torch.nn.Module":
    """A torch-fidelity extractor with the weights of `path`.

    Its own loader would unpickle whatever the file holds (`weights_only=False`); the file is read here instead, and the
    extractor is handed an already open set of tensors in a file of its own kind.
    """
    import importlib

    try:
        kind = getattr(importlib.import_module(f"torch_fidelity.{module}"), name)
    except ImportError:
        raise Missing("torch-fidelity is not installed (pip install chatpainter[metrics])") from None
    _read(path)  # refuses what is not a plain set of tensors before torch-fidelity's loader sees it
    model: torch.nn.Module = kind(name, features, feature_extractor_weights_path=str(path))
    return model


def _read(path: Path) -> dict[str, Any]:
    from trainer import tensor_file

    state: dict[str, Any] = tensor_file.load(path, "a file of plain tensors")
    return state


def _load(model: "torch.nn.Module", path: Path) -> None:
    try:
        model.load_state_dict(_read(path))
    except RuntimeError as error:
        raise ChatPainterError(f"{path}: not the weights of this network ({one_line(error)})") from None
    model.eval().requires_grad_(False)


def _frozen(measure: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    import torch

    return torch.inference_mode()(measure)


def _pictures(pictures: np.ndarray, device: str) -> "Tensor":
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).to(device)


def _numpy(values: "Tensor") -> np.ndarray:
    result: np.ndarray = values.float().cpu().numpy()
    return result
