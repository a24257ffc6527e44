"""A text encoder in a file: AttnGAN's text_encoder*.pth, or what `chatpainter-train damsm` leaves."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from store.errors import ChatPainterError, one_line
from store.files import in_words, replacing
from words.text_encoder import TextEncoder
from words.vocabulary import Vocabulary

METADATA = "chatpainter-generator"  # of the file that a training leaves
PREFIX = "text."  # of the text encoder's tensors in it


def read_published(path: Path) -> TextEncoder:
    """The text encoder in AttnGAN's file, in eval mode. Which words it reads, captions.pickle says.

    Raises:
        ChatPainterError: the file is missing, damaged, or holds anything but a text encoder.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception:  # torch advises to run what the file holds
        raise ChatPainterError(f"{path}: damaged, or not a file of tensors alone; fetch it again") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ChatPainterError(f"{path}: expected a state_dict, a mapping of names to tensors")
    return _filled({name: value.detach() for name, value in state.items()}, path)


def write_published(encoder: TextEncoder, path: Path) -> None:
    """Write AttnGAN's text_encoder*.pth, whole or not at all.

    Raises:
        StoreError: the folder cannot be written.
    """
    with in_words(path), replacing(path) as temporary:
        torch.save({name: value.detach().cpu() for name, value in encoder.state_dict().items()}, temporary)


def read_trained(path: Path) -> tuple[TextEncoder, Vocabulary, int]:
    """The text encoder in what a training of `damsm` left, its words, and how many of a caption it learned to read.

    Raises:
        ChatPainterError: the file is missing, damaged, or of another system.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            settings: Any = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            names = [name for name in file.keys() if name.startswith(PREFIX)]  # noqa: SIM118
            state = {name.removeprefix(PREFIX): file.get_tensor(name) for name in names}
        if not isinstance(settings, dict) or settings.get("system") != "damsm":
            raise ChatPainterError(f"{path}: not what chatpainter-train damsm leaves; name its run or generator file")
        vocabulary, words = Vocabulary(tuple(settings["vocabulary"])), int(settings["words"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ChatPainterError(f"{path}: damaged, or not a safetensors file ({one_line(error)})") from None
    encoder = _filled(state, path)
    if len(encoder.encoder.weight) != len(vocabulary):
        raise ChatPainterError(f"{path}: damaged: knows {len(vocabulary):,} words, has others; train it again")
    return encoder, vocabulary, words


def _filled(state: dict[str, Tensor], path: Path) -> TextEncoder:
    try:
        vocabulary, word_dim = state["encoder.weight"].shape
        gates, half = state["rnn.weight_hh_l0"].shape
        if gates != 4 * half:
            raise ValueError(f"rnn.weight_hh_l0 is {gates} x {half}, no LSTM's")
        encoder = TextEncoder(vocabulary, word_dim, 2 * half)
        encoder.load_state_dict(state)
    except KeyError as error:
        raise ChatPainterError(f"{path}: not a text encoder (lacks {error.args[0]})") from None
    except (RuntimeError, ValueError, IndexError) as error:
        raise ChatPainterError(f"{path}: not a text encoder ({one_line(error)})") from None
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise ChatPainterError(f"{path}: holds values that are not numbers; fetch or train it again")
    return encoder.eval().requires_grad_(False)
