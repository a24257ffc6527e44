"""CLIP as a judge of picture and text (Radford et al., 2021): CLIPScore and R-precision. An optional extra.

CLIP reads 77 tokens at most, which cuts a dialogue of ten rounds short; so the caption and each round are scored on
their own. The folder is a transformers checkpoint with model.safetensors; nothing is fetched and nothing unpickled.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from store.errors import ChatPainterError
from trainer.evaluation import retrieval
from trainer.evaluation.weights import Judge, Missing, sha256

if TYPE_CHECKING:
    from trainer.evaluation.figures import Figures
    from trainer.evaluation.split import HeldOutSplit

BATCH = 256  # texts at a time


def load(weights: Path, name: str, device: str) -> Judge:
    """CLIP from the folder `weights`/`name`: unit vectors of pictures (`features`) and of texts (`read`).

    Raises:
        Missing: the folder or transformers is not there.
        ChatPainterError: the folder does not hold CLIP.
    """
    folder = weights / name
    file = folder / "model.safetensors"
    if not file.is_file():
        raise Missing(f"{file} is not there (docs/metrics.md says where it comes from)")
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel
    except ImportError:
        raise Missing("transformers is not installed (pip install chatpainter[modern])") from None
    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ChatPainterError(f"{folder}: not a CLIP checkpoint ({str(error).splitlines()[0]})") from None
    torch.nn.Module.to(model, device).eval().requires_grad_(False)

    @torch.inference_mode()
    def measure(pictures: np.ndarray) -> dict[str, np.ndarray]:
        pixels = processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(device)
        vectors = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        return {"features": torch.nn.functional.normalize(vectors, dim=1).float().cpu().numpy()}

    @torch.inference_mode()
    def read(texts: Sequence[str]) -> np.ndarray:
        vectors = []
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            tokens = tokenizer(batch, padding=True, truncation=True, max_length=77, return_tensors="pt").to(device)
            found = model.text_projection(model.text_model(**tokens).pooler_output)
            vectors.append(torch.nn.functional.normalize(found, dim=1).float().cpu().numpy())
        return np.concatenate(vectors)

    return Judge(name, sha256(file), "as the checkpoint's preprocessor_config.json says", measure, read)


def figures_of(
    figures: "Figures",
    name: str,
    features: np.ndarray,
    read: Callable[[Sequence[str]], np.ndarray],
    held_out: "HeldOutSplit",
    images: np.ndarray,
    seed: int,
    about: dict[str, Any],
) -> None:
    """CLIPScore (Hessel et al., 2021: 100 max(cos, 0)) of the caption and of each round, and R-precision.

    Args:
        name: what the pictures are called.
        features: (n, d) unit vectors of the pictures; `read` gives those of texts.
        images: (n,) whose texts were painted.
    """
    captions, rounds = zip(*held_out.words(images))
    vectors = read(list(captions))
    scores = 100 * np.clip((features * vectors).sum(axis=1), 0, None)
    figures.add(f"{name}_clip_score_caption", scores.mean(), "100 max(cos, 0), own caption", len(images), **about)
    retrieval.r_precision_figure(figures, f"{name}_clip_r_precision", features, vectors, seed, about)
    counts = np.array([len(texts) for texts in rounds])
    if counts.sum():
        owners = np.repeat(np.arange(len(images)), counts)
        vectors = read([text for texts in rounds for text in texts])
        scores = 100 * np.clip((features[owners] * vectors).sum(axis=1), 0, None)
        protocol = "100 max(cos, 0), mean over every round on its own (77 tokens at most)"
        figures.add(f"{name}_clip_score_round", scores.mean(), protocol, len(images), rounds=len(owners), **about)
