"""AttnGAN's text encoder and its captions.pickle, as they were published, of a few words."""

import pickle
from pathlib import Path

import torch

from tests.support.legacy import write_legacy
from words import files
from words.text_encoder import TextEncoder
from words.vocabulary import END

KNOWN = [END, "a", "red", "bird"]


def network() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(len(KNOWN), 6, 8)


def publish(folder: Path, words: list[str] = KNOWN, legacy: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    content = [[], [], dict(enumerate(words)), {word: number for number, word in enumerate(words)}]
    (folder / "captions.pickle").write_bytes(pickle.dumps(content, protocol=2))
    path = folder / "text_encoder100.pth"
    if legacy:
        write_legacy(path, network().state_dict())
    else:
        files.write_published(network(), path)
    return path
