"""AttnGAN's own judge of picture and text: R-precision by the DAMSM (Xu et al., 2018, section 4).

The code of a painted picture and the vectors of captions are compared by their cosine; the judge is the one that the
generator was trained with, so the figure compares generators of one DAMSM, not with those of another.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from store.errors import ChatPainterError
from trainer.evaluation import retrieval
from trainer.evaluation.weights import Judge, Missing, sha256

if TYPE_CHECKING:
    from trainer.evaluation.figures import Figures
    from trainer.evaluation.split import HeldOutSplit

NAME = "damsm"


def load(path: Path, device: str) -> Judge:
    """The image encoder of a run of `damsm` (its folder or generator file), or a published image_encoder*.pth.

    Raises:
        Missing: it is not there.
        ChatPainterError: the file holds something else.
    """
    import torch

    from trainer import generator_file
    from trainer.systems.damsm.image_encoders import ImageEncoder
    from trainer.systems.damsm.networks import DamsmEncoders
    from trainer.systems.damsm.published import read_image_encoder

    file = path / "generator.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise Missing(f"{file} is not there (evaluate.published.damsm)")
    encoder: ImageEncoder
    if file.suffix == ".pth":
        encoder = read_image_encoder(file)
    else:
        encoders = generator_file.load(file)
        if not isinstance(encoders, DamsmEncoders):
            raise ChatPainterError(f"{file}: holds a generator, not the DAMSM's encoders (evaluate.published.damsm)")
        encoder = encoders.image
    encoder.to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def measure(pictures: np.ndarray) -> dict[str, np.ndarray]:
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).to(device)
        return {"codes": unit(encoder(pixels.float() / 127.5 - 1).code.float().cpu().numpy())}

    return Judge(f"DAMSM {type(encoder).__name__}", sha256(file), "bilinear to the encoder's side, [-1, 1]", measure)


def figures_of(
    figures: "Figures",
    name: str,
    codes: np.ndarray,
    held_out: "HeldOutSplit",
    images: np.ndarray,
    seed: int,
    about: dict[str, Any],
) -> None:
    """R-precision as AttnGAN states it: own caption among 99 others, mean and deviation over ten folds.

    Only where the generator's captions are the vectors of a DAMSM's text encoder; else the reason is noted.
    """
    from trainer.evaluation.split import Condition

    encoder = held_out.data.identity["captions"].get("encoder", {}).get("name")
    if encoder != NAME:
        figures.skip(name, f"captions are vectors of {encoder}, not of a DAMSM's text encoder")
        return
    sentences = unit(held_out.texts(images, Condition())["captions"].float().numpy())
    if sentences.shape[1] != codes.shape[1]:
        figures.skip(name, f"captions are vectors of {sentences.shape[1]}, the DAMSM's codes of {codes.shape[1]}")
        return
    protocol = "AttnGAN: cosine of DAMSM's vectors, {}; the judge may have trained it"
    retrieval.r_precision_figure(figures, name, codes, sentences, seed, about, protocol)


def unit(vectors: np.ndarray) -> np.ndarray:
    """(n, d) → rows of unit length; zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)
