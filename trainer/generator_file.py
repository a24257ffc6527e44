"""The file that leaves the house: a generator's tensors, and in the metadata what builds it again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from store.errors import ChatPainterError
from store.files import in_words, replacing, system_errors
from trainer import systems
from trainer.systems import Generator
from trainer.tensor_file import NothingDrawn

METADATA = "chatpainter-generator"  # one key only: safetensors writes several in any order
CHECKSUM = "tensors_sha256"
HALVED = "float16"
"""Setting of a file whose weights of two and more dimensions are float16; they are read as float32."""
LARGEST = 4096  # a width that may stand in the settings although no tensor has it


def save(generator: Generator, path: str | Path, *, half: bool = False) -> None:
    """Write a safetensors file, atomically; `settings` and a checksum of the tensors go into its metadata as JSON.

    Args:
        half: weights of two and more dimensions as float16, which halves the file. Biases, norms and their statistics,
            which may be tiny, stay as they are.

    Raises:
        StoreError: the folder cannot be written.
        ChatPainterError: a weight is too large for float16.
    """
    path = Path(path)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in generator.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    settings = {name: value for name, value in generator.settings.items() if name != HALVED}
    if half:
        settings[HALVED] = True
        tensors = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
        if large := next((name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())), None):
            raise ChatPainterError(f"{path}: {large} does not fit into float16; write it as float32")
    about = json.dumps({**settings, CHECKSUM: checksum(tensors)}, sort_keys=True)
    with in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, system_errors(SafetensorError, r"os error (\d+)"):
            save_file(tensors, temporary, {METADATA: about})


def load(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator in the file at `path`, in eval mode, in float32.

    Raises:
        ChatPainterError: there is no such file, it was not written by `save`, or it is damaged: its checksum differs,
            tensors are missing, or values are not numbers.
    """
    path = Path(path)
    settings, tensors = _read(path, str(device))
    expected = settings.pop(CHECKSUM, None)
    if expected is not None and expected != checksum(tensors):
        raise ChatPainterError(f"{path}: damaged (its checksum differs); train, export or fetch it again")
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    try:
        _refuse_absurd_sizes(settings, tensors)
        system = systems.find(systems.named_in(settings))
        # On the meta device, so that no setting takes memory before the tensors' shapes have borne it out.
        with torch.device("meta"), NothingDrawn():
            generator = system.generator(settings)
        missing, unexpected = generator.load_state_dict(tensors, strict=False, assign=True)
    except ChatPainterError as error:
        raise ChatPainterError(f"{path}: {error.message}") from None
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ChatPainterError(f"{path}: its settings and tensors fit no generator ({reason})") from None
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ChatPainterError(f"{path}: damaged: lacks {missing[:3]}, has unknown {unexpected[:3]}")
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.num_batches_tracked = torch.zeros((), dtype=torch.long, device=device)
    return generator.eval()


def checksum(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of the tensors, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path, device: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors, each checked on its own."""
    if not path.is_file():
        raise ChatPainterError(f"{path}: no such generator; train one with chatpainter-train, or name its file")
    try:
        with safe_open(path, "pt", device=device) as file:
            metadata = file.metadata() or {}
            if METADATA not in metadata:
                raise ChatPainterError(f"{path}: not a ChatPainter generator (written by chatpainter-train)")
            settings = json.loads(metadata[METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError, RecursionError) as error:
        raise ChatPainterError(f"{path}: damaged or not a safetensors file ({error}); write it again") from None
    if not isinstance(settings, dict):
        raise ChatPainterError(f"{path}: its settings are {type(settings).__name__}, not a mapping; write it again")
    for name, tensor in tensors.items():
        halved = settings.get(HALVED) is True and tensor.ndim > 1
        if tensor.dtype != (torch.float16 if halved else torch.float32):
            raise ChatPainterError(f"{path}: {name} is {tensor.dtype}, not float{16 if halved else 32}; write it again")
        if not bool(tensor.isfinite().all()):
            raise ChatPainterError(f"{path}: {name} holds values that are not numbers; it was not trained to an end")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ChatPainterError(f"{path}: {name} holds negative variances; damaged, write it again")
    if tensors and not any(bool(tensor.any()) for tensor in tensors.values()):
        raise ChatPainterError(f"{path}: every weight is zero; damaged or never trained, write it again")
    return settings, tensors


def _refuse_absurd_sizes(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raise ValueError for a number in the settings that no tensor of the file can be as large as."""
    largest = max([LARGEST, len(tensors), *(side for tensor in tensors.values() for side in tensor.shape)])
    model = settings.get("model")
    for name, value in {**settings, **(model if isinstance(model, dict) else {})}.items():
        if name in ("images_seen", "training") or isinstance(value, bool):
            continue
        if isinstance(value, int) and not 0 <= value <= largest:
            raise ValueError(f"{name} is {value}")
