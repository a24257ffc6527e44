"""Section `attngan` of params.yaml. The defaults are the published code's for birds (taoxugit/AttnGAN, cfg)."""

from dataclasses import dataclass, field, fields
from typing import Literal

from trainer.config import (
    Concern,
    Convolutions,
    Norm,
    Optimisers,
    OwnSection,
    PictureAugmentation,
    Presets,
    at_least_one,
)
from trainer.systems.dialogue import Attention, DialogueArm, Matching, cannot_cut


@dataclass(frozen=True)
class AttnGanModel(Concern):
    """Shapes and switches of the networks; what builds a generator again."""

    dialogue: DialogueArm = "none"
    size: int = 64  # side of the first branch's pictures; each further branch's are twice as large
    branches: int = 3
    gf: int = 32
    residual_blocks: int = 2  # of each branch after the first
    condition_dim: int = 100
    noise_dim: int = 100
    lstm_hidden: int = 1024  # of the dialogue's LSTM, each way
    standardise: bool = False  # captions and dialogues by their store's statistics; words never
    only_last: bool = False  # G_DCGAN: one picture, of the last branch's features
    attention: Attention = field(default_factory=Attention)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "gf", "condition_dim", "noise_dim", "lstm_hidden")
        if self.size not in (16, 32, 64):
            raise ValueError("size must be 16, 32 or 64, the side of the first branch's pictures")
        if self.branches not in (1, 2, 3):
            raise ValueError("branches must be 1, 2 or 3")
        if self.residual_blocks < 0:
            raise ValueError("residual_blocks cannot be negative")
        if self.dialogue == "attended" and self.branches == 1:
            raise ValueError("dialogue attended needs a second branch: the first one attends to nothing")
        if self.attention.sides != Attention().sides or self.attention.width != Attention().width:
            raise ValueError("attention.sides and attention.width are ChatPainter's; branches attend as to words")
        if self.dialogue != "attended" and self.attention != Attention():
            raise ValueError(f"attention is for dialogue: attended; dialogue is {self.dialogue}")

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the pictures that are painted, smallest first."""
        every = tuple(self.size << number for number in range(self.branches))
        return every[-1:] if self.only_last else every


@dataclass(frozen=True)
class Objective(Concern):
    """The game between the generator and a discriminator for each side, with the DAMSM as judge."""

    df: int = 64
    loss: Literal["bce", "hinge"] = "bce"
    d_norm: Norm = "batch"
    unconditional: bool = True  # discriminators also judge pictures without their text
    d_condition: Literal["caption", "text"] = "caption"  # text: what the arm makes of the dialogue, too
    wrong_pairs: Literal["cyclic", "published"] = (
        "cyclic"  # published: all but the last picture, each with the next text
    )
    mask: Literal["own", "shuffled"] = "own"  # shuffled: the published code's, in training (docs/paper.md)
    kl_weight: float = 1.0
    damsm_weight: float = 5.0  # LAMBDA; 0: none is needed
    focus: float = 4.0  # gamma_1 to gamma_3, as in section damsm
    pooling: float = 5.0
    scale: float = 10.0
    root: bool = False
    classes: bool = False  # for the DAMSM pictures of one class are no wrong ones: reads the store `classes`
    matching: Matching = field(default_factory=Matching)  # of turns, by the last branch's discriminator
    cut_dialogues: float = 0.0  # share of dialogues that end early, after a uniform number of first rounds

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "df")
        if min(self.kl_weight, self.damsm_weight) < 0 or min(self.focus, self.pooling, self.scale) <= 0:
            raise ValueError("kl_weight and damsm_weight cannot be negative; focus, pooling and scale must be above 0")
        if not 0 <= self.cut_dialogues <= 1:
            raise ValueError("cut_dialogues is a share, from 0 to 1")


@dataclass(frozen=True)
class AttnGanConfig(OwnSection, Optimisers, PictureAugmentation, Convolutions, AttnGanModel, Objective):
    """The networks, and how they are trained."""

    section = "attngan"

    crop_side: int | None = None  # pictures are cropped to it and averaged down; null: the largest side painted
    generator: str | None = None  # one whose weights it begins with: ours, or a published netG*.pth

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop_side is not None and (self.crop_side < self.sides[-1] or self.crop_side % self.sides[-1]):
            raise ValueError(f"crop_side must be a multiple of {self.sides[-1]}, the largest side painted")
        if self.dialogue != "attended" and self.matching != Matching():
            raise ValueError(f"matching is for dialogue: attended; it is {self.dialogue}")
        if self.dialogue == "attended" and self.matching.side >= self.sides[-1]:
            raise ValueError(f"matching.side {self.matching.side} is not smaller than the picture")
        if self.cut_dialogues and (why := cannot_cut(self.dialogue)):
            raise ValueError(why.replace("model.", ""))
        if self.d_condition == "text" and self.dialogue == "none":
            raise ValueError("d_condition text is for a dialogue; dialogue is none")

    @property
    def model(self) -> AttnGanModel:
        """What builds the generator."""
        return AttnGanModel(**{one.name: getattr(self, one.name) for one in fields(AttnGanModel)})


# Decay 0.999 an iteration: a half-life of 693 batches.
_PUBLISHED = {"g_lr": 2e-4, "d_lr": 2e-4, "halve_every_epochs": None}

PRESETS: Presets = {
    # cfg/bird_attn2.yml, coco_attn2.yml and bird_attnDCGAN2.yml
    "birds": {"attngan": {**_PUBLISHED, "epochs": 600, "batch": 20, "ema_half_life": 13_863, "classes": True}},
    "coco": {
        "attngan": {
            **_PUBLISHED,
            **{"epochs": 120, "batch": 14, "ema_half_life": 9_704},
            **{"gf": 48, "df": 96, "residual_blocks": 3, "damsm_weight": 50.0},
        }
    },
    "birds-dcgan": {
        "attngan": {
            **_PUBLISHED,
            **{"epochs": 400, "batch": 30, "ema_half_life": 20_794, "classes": True},
            **{"only_last": True, "residual_blocks": 0, "unconditional": False, "damsm_weight": 1.0},
        }
    },
    # For the sample world, in minutes on two cores: two small branches, and what learns on little data.
    "tiny": {
        "attngan": {
            **{"size": 16, "branches": 2, "crop_side": 64, "gf": 16, "df": 16, "residual_blocks": 1},
            **{"condition_dim": 32, "noise_dim": 16, "lstm_hidden": 64, "standardise": True},
            **{"loss": "hinge", "d_norm": "spectral", "kl_weight": 0.02, "damsm_weight": 0.2},
            **{"epochs": None, "images": 96_000, "batch": 32, "flip": False, "ema_half_life": 2_000},
            **{"g_lr": 1e-3, "d_lr": 1e-3, "betas": [0.0, 0.9], "halve_every_epochs": None},
            **{"log_every": 3_200, "grid_every": 32_000, "checkpoint_every": 32_000},
        }
    },
}
