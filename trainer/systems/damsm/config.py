"""Section `damsm` of params.yaml. The defaults are the published code's for birds (taoxugit/AttnGAN, cfg/DAMSM)."""

from dataclasses import dataclass
from typing import Literal

from trainer.config import Convolutions, OwnSection, PictureAugmentation, Presets, at_least_one


@dataclass(frozen=True)
class DamsmConfig(OwnSection, PictureAugmentation, Convolutions):
    """Both encoders, and how they are trained."""

    section = "damsm"

    image_encoder: Literal["inception", "small"] = "inception"  # small: a few layers of our own, from nothing
    side: int = 299  # of the pictures it sees; they are cropped from a store of 76/64 of that
    dim: int = 256  # of words, sentences, regions and codes
    word_dim: int = 300  # of a word before the LSTM
    words: int = 18  # of a longer caption so many are read, drawn anew each time
    width: int = 32  # of the small image encoder's first layer
    weights: str = "data/weights"
    inception: str = "inception_v3_google-0cc3c7bd.pth"  # in `weights`: what Inception starts from
    inception_batchnorm: Literal["moving", "frozen"] = "moving"  # moving: as published, statistics of the batch
    focus: float = 4.0  # gamma_1
    pooling: float = 5.0  # gamma_2
    scale: float = 10.0  # gamma_3
    root: bool = False  # the pooled score as eq. 10 is printed; the published code leaves out its root
    classes: bool = False  # pictures of one class are no wrong ones for each other: reads the store `classes`
    lr: float = 2e-3
    lr_factor: float = 0.98  # after each epoch, down to
    lowest_lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    restart_adam: bool = True  # its moments are forgotten after each epoch, as published
    clip: float = 0.25  # norm of the text encoder's gradient

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "side", "dim", "word_dim", "words", "width")
        if self.dim % 2:
            raise ValueError("dim must be even: it is an LSTM's two directions")
        if min(self.focus, self.pooling, self.scale, self.lr, self.lr_factor, self.lowest_lr, self.clip) <= 0:
            raise ValueError("focus, pooling, scale, lr, lr_factor, lowest_lr and clip must be above 0")
        if self.image_encoder == "small" and (self.side < 16 or self.side & (self.side - 1)):
            raise ValueError("side must be a power of two from 16 on for the small image encoder")
        if self.diffaugment:
            raise ValueError("diffaugment is for discriminators; here pictures are cropped and mirrored")

    def rate(self, epoch: int) -> float:
        """The learning rate of `epoch`: it falls until it is no longer above the lowest."""
        rate = self.lr
        for _ in range(epoch):
            if rate <= self.lowest_lr:
                break
            rate *= self.lr_factor
        return rate


PRESETS: Presets = {
    # cfg/DAMSM/bird.yml and coco.yml; as many epochs as the released files' names say.
    "birds": {"damsm": {"epochs": 200, "batch": 48, "classes": True}},
    "coco": {"damsm": {"epochs": 100, "batch": 48, "words": 15}},
    # For the sample world, in minutes on two cores.
    "tiny": {
        "damsm": {
            **{"image_encoder": "small", "side": 64, "dim": 64, "word_dim": 32, "words": 20, "width": 16},
            **{"epochs": None, "images": 48_000, "batch": 48, "flip": False, "restart_adam": False},
            **{"log_every": 4_800, "grid_every": 48_000, "checkpoint_every": 24_000},
        }
    },
}
