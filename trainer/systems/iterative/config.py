"""Section `iterative` of params.yaml."""

from dataclasses import dataclass, field
from typing import Literal

from trainer.config import Concern, Optimisers, OwnSection, Presets, at_least_one
from trainer.systems.dialogue import Attention, DialogueArm, Matching

DNorm = Literal["spectral", "group"]


@dataclass(frozen=True)
class Networks:
    """Shapes of the networks."""

    size: int = 64  # side of the pictures
    widths: tuple[int, ...] = (32, 64, 128, 128)  # of the painter's features, from the picture's side down to 8 x 8
    df: int = 32  # of D's features at half the picture's side; they double with every halving
    noise_dim: int = 16
    ages: int = 6  # turns that places tell apart by how long ago they were said; what is older is as old as the last
    heads: int = 4  # of the attention by which places see each other; 0: they do not
    see: tuple[int, ...] = (8,)  # sides of the features whose places do
    recent: bool = False  # places, and D's regions, see what changed last: it is what "it" stands for
    modulate: bool = False  # what places hear scales their features, too
    look: int = 0  # heads of the attention by which turns look at the picture before places listen; 0: they do not
    carry: int = 0  # side of the features whose places take over what stood elsewhere, or a turn earlier; 0: none do
    standardise: bool = True  # text vectors by their store's statistics
    attention: Attention = field(default_factory=Attention)

    def __post_init__(self) -> None:
        at_least_one(self, "df", "noise_dim", "ages")
        if self.size not in (32, 64, 128):
            raise ValueError("networks.size must be 32, 64 or 128, the side of the pictures")
        if len(self.widths) != self.halvings + 1 or min(self.widths) < 1:
            raise ValueError(
                f"networks.widths: {self.size} x {self.size} takes {self.halvings + 1} widths, down to 8 x 8"
            )
        if not set(self.see) <= set(self.sides):
            raise ValueError(f"networks.see must name sides of features: {', '.join(map(str, self.sides))}")
        if self.carry and self.carry not in self.attention.sides:
            sides = ", ".join(map(str, self.attention.sides))
            raise ValueError(
                f"networks.carry must be 0 or one of networks.attention.sides, where places listen: {sides}"
            )
        if self.look < 0 or (self.look and self.attention.width % self.look):
            raise ValueError("networks.look must divide networks.attention.width")
        if self.heads < 0 or (self.heads and any(self.width(side) % self.heads for side in self.see)):
            raise ValueError("networks.heads must divide the widths of the sides that see")
        if self.attention.tokens == "states" or self.attention.condition == "dialogue":
            raise ValueError(
                "networks.attention: tokens and condition must be turns and caption; a BiLSTM would let earlier "
                "pictures know what is said later"
            )
        if not self.attention.sides or max(self.attention.sides) > self.size:
            raise ValueError("networks.attention.sides must name sides from 8 to the picture's")

    @property
    def halvings(self) -> int:
        """How often the picture's side is halved to 8: 3 for 64."""
        return self.size.bit_length() - 4

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the painter's features, from the picture's down to 8; each has its width."""
        return tuple(self.size >> number for number in range(self.halvings + 1))

    def width(self, side: int) -> int:
        """Of the features of this side."""
        return self.widths[self.sides.index(side)]

    # What reads the texts asks for these too (trainer.systems.dialogue.ReadsTexts).
    @property
    def dialogue(self) -> DialogueArm:
        """Places listen to turns."""
        return "attended"

    @property
    def lstm_hidden(self) -> int:
        """There is no LSTM."""
        return 1


@dataclass(frozen=True)
class Objective(Concern):
    """What a change of the picture is taught by."""

    l1: float = 30.0  # weight of |painted - real|, beside the game
    listening: float = 3.0  # weight: places listen to new turns where the true picture changes, and to none elsewhere
    carrying: float = 3.0  # weight: places take over from where what comes to them stood; for networks.carry
    game: float = 1.0  # weight of the game in the generator's loss
    matching: Matching = field(default_factory=Matching)
    any_pair: float = 0.25  # share of samples that lead over any number of turns; the others over one
    candidates: int = 1  # changes of one turn drawn of each dialogue; trained on is the one that is painted worst
    own_pictures: float = 0.25  # share of samples that start from a picture of our own, where there is one before them
    own_turns: int = 1  # turns that this picture is painted from a true one, at most; every number is as likely
    d_norm: DNorm = "spectral"  # group: GroupNorm under spectral norm

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "candidates", "own_turns")
        if min(self.l1, self.listening, self.carrying, self.game) < 0:
            raise ValueError("a weight cannot be negative")
        if not (0 <= self.any_pair <= 1 and 0 <= self.own_pictures <= 1):
            raise ValueError("any_pair and own_pictures are shares, from 0 to 1")


@dataclass(frozen=True)
class IterativeConfig(OwnSection, Optimisers, Objective):
    """The system, and how it is trained: a sample is one change of one dialogue's picture."""

    section = "iterative"

    networks: Networks = field(default_factory=Networks)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.accumulate > 1:
            raise ValueError("accumulate must be 1: texts are matched with the whole batch; lower the batch")
        if not 8 <= self.matching.side < self.networks.size:
            raise ValueError("matching.side must be at least 8 and smaller than the picture")


_NETWORKS = {"recent": True, "modulate": True, "look": 4, "see": [8, 16], "attention": {"width": 128}}

_LEARNS = {
    "epochs": None,
    "images": 400_000,
    "batch": 64,
    "g_lr": 5e-4,
    "d_lr": 5e-4,
    "betas": [0.0, 0.9],
    "halve_every_epochs": None,
    "candidates": 3,
    "own_turns": 3,
    "d_norm": "group",
    "networks": _NETWORKS,
}

PRESETS: Presets = {
    "stable": {"iterative": _LEARNS},
    # For a laptop: 32 x 32.
    "tiny": {
        "iterative": {
            **_LEARNS,
            "images": 64_000,
            "batch": 16,
            "g_lr": 1e-3,
            "d_lr": 1e-3,
            "ema_half_life": 2_000,
            "log_every": 1_600,
            "grid_every": 16_000,
            "checkpoint_every": 16_000,
            "networks": {**_NETWORKS, "size": 32, "widths": [32, 64, 128]},
        }
    },
}
