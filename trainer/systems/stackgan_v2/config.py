"""Section `stackgan-v2` of params.yaml. The defaults are the published ones for birds."""

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

NAME = "stackgan-v2"


@dataclass(frozen=True)
class StackGanV2Model(Concern):
    """Shapes and switches of the generator: what its file holds beside the weights."""

    conditional: bool = True  # whether a text is read; without one, noise stands in its place
    dialogue: DialogueArm = "none"
    size: int = 64  # side of the first branch's pictures; every further branch's are twice as large
    branches: int = 3
    gf: int = 64
    residual_blocks: int = 2  # R_NUM, in the second and third branch each
    condition_dim: int = 128
    noise_dim: int = 100
    lstm_hidden: int = 1024  # each way
    standardise: bool = False
    attention: Attention = field(default_factory=Attention)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "gf", "condition_dim", "noise_dim", "lstm_hidden")
        if self.residual_blocks < 0:
            raise ValueError("residual_blocks cannot be negative")
        if self.branches not in (1, 2, 3):
            raise ValueError("branches must be 1, 2 or 3")
        if self.size not in (16, 32, 64):
            raise ValueError("size must be 16, 32 or 64, the side of the first branch's pictures")
        if self.gf % (1 << self.branches - 1):
            raise ValueError(f"gf must be a multiple of {1 << self.branches - 1}: every further branch halves it")
        if not self.conditional and self.dialogue != "none":
            raise ValueError(f"conditional: false reads no text; dialogue is {self.dialogue}")
        if not self.conditional and self.standardise:
            raise ValueError("conditional: false reads no text that standardise could standardise")
        if self.dialogue != "attended" and self.attention != Attention():
            raise ValueError(f"attention is for dialogue: attended; dialogue is {self.dialogue}")
        if self.dialogue == "attended" and max(self.attention.sides, default=0) > self.sides[-1]:
            raise ValueError(f"attention.sides: there are features of at most {self.sides[-1]} x {self.sides[-1]}")

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the branches' pictures, smallest first."""
        return tuple(self.size << branch for branch in range(self.branches))


@dataclass(frozen=True)
class Objective(Concern):
    """The game between the generator and one discriminator a branch."""

    df: int = 64
    d_norm: Norm = "batch"
    loss: Literal["bce", "hinge"] = "bce"
    unconditional_weight: float = 1.0  # of logits that do not know the text (UNCOND_LOSS)
    balanced: bool = False  # real pairs weigh as much as wrong and painted ones together; published: 1 each
    colour_weight: float = 0.0  # holds a branch's colours to those of the branch before (COLOR_LOSS)
    kl_weight: float = 2.0
    d_condition: Literal["mu", "learned"] = "mu"  # the generator's mean, or what D's own layer makes of the text
    g_through_condition: bool = True  # whether the generator learns through D's condition, too (d_condition: mu)
    other_class: bool = False  # a wrong picture of the picture's own class is drawn again, once; reads `classes`
    ema_decay: float | None = 0.999  # of an iteration, from its start; null: ema_half_life, with statistics
    matching: Matching = field(default_factory=Matching)
    cut_dialogues: float = 0.0  # share of dialogues that end early, after few rounds more often than many

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "df")
        if min(self.unconditional_weight, self.colour_weight, self.kl_weight) < 0:
            raise ValueError("a weight cannot be negative")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError("ema_decay is a share, from 0 to below 1")
        if not 0 <= self.cut_dialogues <= 1:
            raise ValueError("cut_dialogues is a share, from 0 to 1")


@dataclass(frozen=True)
class StackGanV2Config(OwnSection, Optimisers, PictureAugmentation, Convolutions, Objective, StackGanV2Model):
    """One training of all branches together."""

    section = NAME

    epochs: int | None = 600
    batch: int = 24
    halve_every_epochs: int | None = None
    start_from: str | None = None  # generator file of a caption-only StackGAN++ whose weights it starts from

    def __post_init__(self) -> None:
        super().__post_init__()
        attended = self.dialogue == "attended"
        if not attended and self.matching != Matching():
            raise ValueError(f"matching is for dialogue: attended; dialogue is {self.dialogue}")
        if self.cut_dialogues and (complaint := cannot_cut(self.dialogue)):
            raise ValueError(complaint)
        if attended and self.matching.side >= self.size:
            raise ValueError(f"matching.side {self.matching.side} is not smaller than the first branch's picture")
        if not self.conditional and (self.other_class or self.d_condition == "learned"):
            raise ValueError("conditional: false draws no wrong pairs and has no text: no other_class, no d_condition")

    @property
    def model(self) -> StackGanV2Model:
        """What the generator is built from."""
        return StackGanV2Model(**{one.name: getattr(self, one.name) for one in fields(StackGanV2Model)})


PRESETS: Presets = {
    # hanzhanggit/StackGAN-v2, code/cfg/birds_3stages.yml: the defaults above, and wrong pictures of other classes.
    "birds": {NAME: {"other_class": True}},
    # Ours for COCO, for which nothing was published: birds, without classes.
    "coco": {NAME: {}},
    # code/cfg/dog_3stages_color.yml and its like: no text, colours held together.
    "unconditional": {NAME: {"conditional": False, "colour_weight": 50.0}},
    # What learns on little data: the objective of ChatPainter's `tiny` (docs/training.md), 16, 32 and 64 together.
    "tiny": {
        NAME: {
            **{"dialogue": "recurrent", "standardise": True, "size": 16, "gf": 32, "df": 16, "residual_blocks": 1},
            **{"condition_dim": 64, "noise_dim": 16, "lstm_hidden": 64},
            **{"loss": "hinge", "balanced": True, "d_norm": "spectral", "d_condition": "learned", "kl_weight": 0.02},
            **{"g_lr": 1e-3, "d_lr": 1e-3, "betas": [0.0, 0.9], "ema_decay": None, "ema_half_life": 2_000},
            **{"epochs": None, "images": 64_000, "batch": 32, "flip": False},
            **{"log_every": 3_200, "grid_every": 16_000, "checkpoint_every": 16_000},
        }
    },
}
