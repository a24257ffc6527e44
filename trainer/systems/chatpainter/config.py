"""Sections `model`, `stage1` and `stage2` of params.yaml. The defaults are the paper's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from store.errors import ParamsError
from trainer.config import Concern, Convolutions, Norm, Optimisers, PictureAugmentation, Training, at_least_one, section
from trainer.systems.dialogue import Attention, DialogueArm, Matching, cannot_cut

Stage = Literal[1, 2]


@dataclass(frozen=True)
class ModelConfig:
    """Shapes and switches of the networks, shared by both stages (paper section 4; `docs/training.md`)."""

    dialogue: DialogueArm = "recurrent"
    size: int = 64  # side of stage 1's pictures; stage 2's are four times as large
    gf: int = 128  # N_gi = 4 gf
    df: int = 64  # N_di = 8 df
    residual_blocks: int = 4
    condition_dim: int = 128  # N_g = N_d
    noise_dim: int = 100  # N_z
    lstm_hidden: int = 1024  # each way
    condition_activation: Literal["relu", "leaky_relu", "none"] = "relu"
    standardise: bool = False
    refine: bool = False  # stage 2 adds to stage 1's enlarged picture, where StackGAN paints anew
    attention: Attention = field(default_factory=Attention)

    def __post_init__(self) -> None:
        for name in ("gf", "df", "residual_blocks", "condition_dim", "noise_dim", "lstm_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.size not in (32, 64, 128):
            raise ValueError("size must be 32, 64 or 128, the side of stage 1's pictures")
        if self.gf % 4:
            raise ValueError("gf must be a multiple of 4, since stage 2 ends with gf / 4 channels")
        if self.dialogue != "attended" and self.attention != Attention():
            raise ValueError(f"attention is for dialogue: attended; dialogue is {self.dialogue}")
        if max(self.attention.sides, default=0) > self.size:
            raise ValueError(f"attention.sides: stage 1 has features of at most {self.size} x {self.size}")

    @property
    def sides(self) -> tuple[int, int]:
        """Of the pictures that stage 1 and stage 2 paint."""
        return self.size, 4 * self.size

    @property
    def doublings(self) -> int:
        """How often 4 x 4 is doubled to stage 1's side: 4 for 64 x 64."""
        return self.size.bit_length() - 3


@dataclass(frozen=True)
class Penalties:
    """Gradient penalties on the discriminator; a weight of 0 leaves one out."""

    r1: float = 0.0  # gamma / 2 E |grad_x D|^2 on real pictures (Mescheder et al., 2018)
    r2: float = 0.0  # the same on painted ones
    gradient_penalty: float = 0.0  # lambda E (|grad D| - 1)^2 between real and fake (Gulrajani et al., 2017)
    matching_aware: float = 0.0  # k E (|grad_x D| + |grad_e D|)^6 on real matched pairs (Tao et al., 2022)
    every: int = 1  # iterations between penalties; the weight is multiplied by it

    def __post_init__(self) -> None:
        if min(self.r1, self.r2, self.gradient_penalty, self.matching_aware) < 0:
            raise ValueError("a penalty's weight cannot be negative")
        if self.every < 1:
            raise ValueError("every must be at least 1")

    def __bool__(self) -> bool:
        return any((self.r1, self.r2, self.gradient_penalty, self.matching_aware))


@dataclass(frozen=True)
class Auxiliary:
    """Object recognition by the discriminator (paper section 6): which COCO categories the picture shows."""

    weight: float = 0.0
    instances: str | None = None  # instances_{split}.json of the training split


@dataclass(frozen=True)
class Objective(Concern):
    """The game between generator and discriminator."""

    loss: Literal["bce", "hinge", "wgan", "relativistic"] = "bce"
    generator_loss: Literal["non-saturating", "saturating"] = "non-saturating"
    kl_weight: float = 2.0
    d_condition: Literal["mu", "sample", "learned", "none"] = "mu"  # none: D reads the text by matching alone
    wrong_candidates: int = 1  # other texts of the batch; the mismatched pair is the one that D likes best
    d_norm: Norm = "batch"
    penalties: Penalties = field(default_factory=Penalties)
    auxiliary: Auxiliary = field(default_factory=Auxiliary)
    matching: Matching = field(default_factory=Matching)
    cut_dialogues: float = 0.0  # share of dialogues that end early, after few rounds more often than many
    turn_pictures: bool = False  # those are shown the picture after their last round, where rounds change the picture

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "wrong_candidates")
        if not 0 <= self.cut_dialogues <= 1:
            raise ValueError("cut_dialogues is a share, from 0 to 1")
        if self.d_condition == "none" and self.penalties.matching_aware:
            raise ValueError("penalties.matching_aware asks for logits with a condition; d_condition is none")
        if self.loss == "wgan" and self.d_norm == "batch":
            raise ValueError(
                "loss wgan asks for a penalty on each picture, which BatchNorm mixes: d_norm must be none or spectral"
            )
        if self.penalties.gradient_penalty and self.d_norm == "batch":
            raise ValueError(
                "penalties.gradient_penalty is per picture, which BatchNorm mixes: d_norm must not be batch"
            )
        if self.generator_loss == "saturating" and self.loss != "bce":
            raise ValueError(f"generator_loss saturating is a form of loss bce; loss {self.loss} has one form only")
        if self.auxiliary.weight and not self.auxiliary.instances:
            raise ValueError(
                "auxiliary.weight needs auxiliary.instances, the COCO instances JSON of the training split"
            )


@dataclass(frozen=True)
class Stage1Config(Training, Optimisers, PictureAugmentation, Convolutions, Objective):
    """How stage 1 is trained."""


@dataclass(frozen=True)
class Stage2Config(Stage1Config):
    """How stage 2 is trained, and what becomes of stage 1's generator inside it."""

    stage1_batchnorm: Literal["frozen", "moving"] = "frozen"
    finetune_stage1: float = 0.0  # learning rate of stage 1's generator inside stage 2; 0 = frozen
    keep_stage1: float = 0.0  # weight of |picture averaged down - stage 1's|, which holds what stage 1 got right


@dataclass(frozen=True)
class StageSettings:
    """What one stage's training depends on."""

    stage: Stage
    model: ModelConfig
    training: Stage1Config

    @classmethod
    def of(cls, values: Mapping[str, Any], stage: Stage, where: str = "params.yaml") -> "StageSettings":
        """From the sections `model` and `stage1` or `stage2`.

        Raises:
            ParamsError: an unknown key, a wrong type, or a combination that cannot work; says which.
        """
        model = section(values, "model", ModelConfig, PRESETS, where)
        kind = Stage1Config if stage == 1 else Stage2Config
        training = section(values, f"stage{stage}", kind, PRESETS, where)
        complaint = _misfit(model, training, stage)
        if stage == 2 and "stage1" in values:
            stage1 = section(values, "stage1", Stage1Config, PRESETS, where)
            complaint = complaint or other_crop(stage1.crop, training.crop)
        if complaint:
            raise ParamsError(f"{where}: stage{stage}: {complaint}")
        return cls(stage, model, training)

    @property
    def side(self) -> int:
        """Of the pictures that this stage paints."""
        return self.model.sides[self.stage - 1]

    def plain(self) -> dict[str, Any]:
        """The two sections by name."""
        return {"model": asdict(self.model), f"stage{self.stage}": asdict(self.training)}

    def defaults(self) -> dict[str, Any]:
        """The same where nothing is given."""
        return {"model": asdict(ModelConfig()), f"stage{self.stage}": asdict(type(self.training)())}


def _misfit(model: ModelConfig, training: Stage1Config, stage: Stage) -> str:
    """Why a stage cannot be trained so on this model; nothing if it can."""
    attended = model.dialogue == "attended"
    if not attended and training.matching != Matching():
        return f"matching is for model.dialogue: attended; it is {model.dialogue}"
    if not attended and training.d_condition == "none":
        return f"d_condition none leaves the text to matching, which {model.dialogue} dialogues do not have"
    if training.cut_dialogues and (complaint := cannot_cut(model.dialogue)):
        return complaint
    if training.turn_pictures and not (training.cut_dialogues and training.crop == "centre" and not training.flip):
        return "turn_pictures: is of dialogues that are cut (cut_dialogues), with crop: centre and flip: false"
    if attended and training.matching.side >= model.sides[stage - 1]:
        return f"matching.side {training.matching.side} is not smaller than the picture"
    return ""


def other_crop(stage1: str, stage2: str) -> str:
    """Why stage 2 cannot go on from pictures that were cropped otherwise; nothing if they were not.

    Its discriminator would see real things where stage 1 never puts them (docs/evidence-diary.md, "What the condition
    took": shapes 0.85 instead of 0.95).
    """
    if stage1 == stage2:
        return ""
    return f"crop is {stage2}, stage 1's is {stage1}: it goes on from stage 1's pictures; set both alike"


_STACKGAN_STAGE = {
    "epochs": 120,
    "batch": 128,
    "halve_every_epochs": 20,
}

_STABLE_MODEL = {"condition_activation": "none", "standardise": True}
_STABLE_STAGE = {
    "loss": "hinge",
    "d_norm": "spectral",
    "d_condition": "learned",
    "wrong_candidates": 4,
    "kl_weight": 0.02,
    "g_lr": 2e-4,
    "d_lr": 4e-4,
    "betas": [0.0, 0.9],
    "halve_every_epochs": None,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # The paper's numbers (section 4) are the defaults above; stage 2 differs in its batch.
    "paper": {"model": {}, "stage1": {}, "stage2": {"batch": 64}},
    # hanzhanggit/StackGAN-Pytorch, code/cfg/coco_s1.yml and coco_s2.yml
    "stackgan-coco": {
        "model": {"dialogue": "none", "gf": 192, "df": 96, "residual_blocks": 2},
        "stage1": _STACKGAN_STAGE,
        "stage2": {**_STACKGAN_STAGE, "epochs": 100, "batch": 40, "stage1_batchnorm": "moving"},
    },
    # What learns on little data, found on the sample world (docs/training.md): the paper's sizes, another objective.
    "stable": {"model": _STABLE_MODEL, "stage1": _STABLE_STAGE, "stage2": {**_STABLE_STAGE, "batch": 64}},
    # The same for a laptop: minutes on two cores.
    "tiny": {
        "model": {
            **_STABLE_MODEL,
            "gf": 16,
            "df": 16,
            "residual_blocks": 1,
            "condition_dim": 64,
            "noise_dim": 16,
            "lstm_hidden": 64,
            "refine": True,
        },
        "stage1": {
            **_STABLE_STAGE,
            # One rate for both: with so few pictures it decides (docs/evidence.md).
            **{"epochs": None, "images": 64_000, "batch": 32, "g_lr": 1e-3, "d_lr": 1e-3},
            **{"flip": False, "ema_half_life": 2_000},
            **{"log_every": 3_200, "grid_every": 16_000, "checkpoint_every": 16_000},
        },
        "stage2": {
            **_STABLE_STAGE,
            **{"epochs": None, "images": 3_200, "batch": 8, "flip": False, "ema_half_life": 500},
            **{"log_every": 320, "grid_every": 1_600, "checkpoint_every": 1_600},
        },
    },
}
