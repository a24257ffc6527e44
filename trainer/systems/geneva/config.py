"""Section `geneva` of params.yaml. The defaults are the published ones for CoDraw."""

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import Concern, Optimisers, OwnSection, Presets, at_least_one


@dataclass(frozen=True)
class Networks:
    """Shapes of the networks, and how they paint."""

    size: int = 128  # side of the pictures
    up: tuple[int, ...] = (1024, 1024, 512, 256, 128, 64)  # the painter's channels from 4 x 4 on, doubling the side
    features: tuple[int, ...] = (64, 128, 512)  # of the previous picture, halving the side
    down: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024)  # D's, halving down to 4 x 4; the last stays there
    auxiliary: int = 256  # hidden width of D's object head
    sentence: int = 1024  # width in which a turn enters the dialogue's GRU
    hidden: int = 1024  # of the dialogue's GRU
    condition_dim: int = 256
    noise_dim: int = 100
    caption: Literal["none", "first"] = "none"  # first: the GRU reads the caption before the first turn
    words: int = 0  # width of a word's vector in published weights, whose turns come as words; 0: a vector a turn
    start: Literal["published", "identity"] = "published"  # of conditional BatchNorm
    statistics: Literal["running", "batch"] = "running"  # of BatchNorm, while painting

    def __post_init__(self) -> None:
        at_least_one(self, "auxiliary", "sentence", "hidden", "condition_dim", "noise_dim")
        if self.size not in (32, 64, 128):
            raise ValueError("networks.size must be 32, 64 or 128, the side of the pictures")
        if len(self.up) != self.doublings + 1:
            raise ValueError(f"networks.up: {self.size} x {self.size} takes {self.doublings + 1} widths, from 4 x 4 on")
        if not 1 <= len(self.features) < self.doublings:
            raise ValueError(f"networks.features: {self.size} x {self.size} takes 1 to {self.doublings - 1} widths")
        if len(self.down) != self.doublings + 1 or self.down[-1] != self.down[-2]:
            raise ValueError(
                f"networks.down: {self.size} x {self.size} takes {self.doublings + 1} widths, the last two alike"
            )
        if self.words and self.caption == "first":
            raise ValueError("networks.caption: turns come as words, and so no caption is read before them")
        if min(*self.up, *self.features, *self.down) < 1 or self.words < 0 or self.sentence % 2:
            raise ValueError("networks: widths must be at least 1, and sentence an even number")

    @property
    def doublings(self) -> int:
        """How often 4 x 4 is doubled to the picture's side: 5 for 128 x 128."""
        return self.size.bit_length() - 3

    @property
    def before_features(self) -> int:
        """Doublings until the previous picture's features come in: 2 for 128 x 128, at 16 x 16."""
        return self.doublings - len(self.features)


@dataclass(frozen=True)
class Objective(Concern):
    """The game of every turn."""

    kl_weight: float = 1.0
    auxiliary: float = 10.0  # weight of D's object head; 0: it has none, and no presence is read
    painted_objects: Literal["all", "new"] = "all"  # which a painted picture should show the head
    r1: float = 10.0  # weight of |grad_x D(x, y, previous)|^2 on real pictures, without the usual 1/2
    wrong: float = 0.5  # weights of D's terms beside real pictures with their own turn
    fake: float = 0.5
    ended: Literal["padded", "repeated"] = "padded"  # what dialogues that have ended bring to BatchNorm and wrong pairs
    own_pictures: float = 0.0  # share of dialogues that go on from their own last picture, not from the true one
    pixel_noise: float = 1 / 64  # added to real pictures, uniform from 0 to this

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.kl_weight, self.auxiliary, self.r1, self.wrong, self.fake, self.pixel_noise) < 0:
            raise ValueError("a weight cannot be negative")
        if not 0 <= self.own_pictures <= 1:
            raise ValueError("own_pictures is a share, from 0 to 1")


@dataclass(frozen=True)
class EncoderOptimisers(Concern):
    """Adam of what turns words and pictures into features, beside those of generator and discriminator."""

    rnn_lr: float = 3e-4
    features_lr: float = 6e-3  # of the condition encoder and the previous picture's encoder
    encoder_betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 50.0  # longest gradient of the dialogue's GRU


@dataclass(frozen=True)
class GenevaConfig(OwnSection, Optimisers, EncoderOptimisers, Objective):
    """GeNeVA-GAN, and how it is trained. Where others count pictures seen, this counts dialogues."""

    section = "geneva"

    networks: Networks = field(default_factory=Networks)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.accumulate > 1:
            raise ValueError("accumulate must be 1: networks move at every turn; lower the batch")


PRESETS: Presets = {
    # Maluuba/GeNeVA, geneva/config.yml and the arguments of CoDraw
    "geneva": {
        "geneva": {
            "epochs": 200,
            "batch": 32,
            "g_lr": 1e-4,
            "d_lr": 4e-4,
            "betas": [0.0, 0.9],
            "halve_every_epochs": None,
            "ema_half_life": 0,
        }
    },
}
PRESETS = {
    **PRESETS,
    # i-CLEVR's arguments
    "geneva-iclevr": {"geneva": {**PRESETS["geneva"]["geneva"], "auxiliary": 5.0, "r1": 1.0, "pixel_noise": 1 / 128}},
    # The same idea for a laptop: 32 x 32, and what the originals leave to chance put right (docs/paper.md).
    "tiny": {
        "geneva": {
            **PRESETS["geneva"]["geneva"],
            "epochs": None,
            "images": 16_000,
            "log_every": 640,
            "grid_every": 6_400,
            "checkpoint_every": 6_400,
            "g_lr": 5e-4,
            "d_lr": 1e-3,
            "features_lr": 1e-3,
            "rnn_lr": 1e-3,
            "ema_half_life": 2_000,
            "kl_weight": 0.02,
            "painted_objects": "new",
            "ended": "repeated",
            "r1": 1.0,
            "networks": {
                "size": 32,
                "up": [64, 64, 32, 16],
                "features": [16, 32],
                "down": [16, 32, 64, 64],
                "auxiliary": 64,
                "sentence": 128,
                "hidden": 128,
                "condition_dim": 32,
                "noise_dim": 16,
                "start": "identity",
            },
        }
    },
}
