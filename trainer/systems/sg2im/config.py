"""Section `sg2im` of params.yaml. The defaults are the numbers of google/sg2im's scripts/train.py, on COCO."""

from dataclasses import dataclass
from typing import Literal

from trainer.config import Concern, Optimisers, OwnSection, Presets, at_least_one
from trainer.systems.sg2im.arch import smallest


@dataclass(frozen=True)
class Networks(Concern):
    """Sizes of the generator, in sg2im's words."""

    side: int = 64  # of the pictures
    embedding_dim: int = 128
    gconv_dim: int = 128
    gconv_hidden_dim: int = 512
    gconv_num_layers: int = 5  # 0: objects hear nothing of each other
    gconv_pooling: Literal["avg", "sum"] = "avg"
    mask_size: int = 16  # side of the masks, as stored; 0: objects fill their boxes
    refinement_dims: tuple[int, ...] = (1024, 512, 256, 128, 64)
    layout_noise_dim: int = 32
    rescale: bool = False  # paint from each picture's darkest value to its lightest, as sg2im's scripts show them

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "side", "embedding_dim", "gconv_dim", "gconv_hidden_dim")
        if min(self.gconv_num_layers, self.layout_noise_dim) < 0:
            raise ValueError("gconv_num_layers and layout_noise_dim must be at least 0")
        if self.mask_size and (self.mask_size < 0 or self.mask_size & (self.mask_size - 1)):
            raise ValueError(f"mask_size must be 0 or a power of two, found {self.mask_size}")
        if not self.refinement_dims or min(self.refinement_dims) < 1:
            raise ValueError("refinement_dims must be the widths of one module or more")
        if self.side % (1 << len(self.refinement_dims)):
            raise ValueError(
                f"{len(self.refinement_dims)} refinement_dims halve the side so often, and {self.side} cannot be"
            )


@dataclass(frozen=True)
class Weights(Concern):
    """What the generator's losses weigh; the discriminators' terms weigh 1 each."""

    pixel_weight: float = 1.0  # mean |painted - real|
    box_weight: float = 10.0  # mean square
    mask_weight: float = 0.1  # cross-entropy; the script's default 0 leaves masks of COCO untrained (its TRAINING.md)
    predicate_weight: float = 0.0  # cross-entropy of the relations that boxes show
    class_weight: float = 0.1  # cross-entropy of what painted objects show
    object_weight: float = 0.01  # how real painted objects look
    image_weight: float = 0.01  # how real pictures look

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in Weights.__dataclass_fields__:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative")


@dataclass(frozen=True)
class Sg2imConfig(OwnSection, Optimisers, Networks, Weights):
    """The networks, and how they are trained."""

    section = "sg2im"

    epochs: int | None = None
    images: int | None = 32_000_000
    batch: int = 32
    g_lr: float = 1e-4
    d_lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    halve_every_epochs: int | None = None
    ema_half_life: int = 0
    relations: Literal["drawn", "all"] = "drawn"  # of each object one, drawn whenever it is seen; or every stored one
    loss: Literal["bce", "wgan", "lsgan"] = "bce"  # sg2im's gan, wgan, lsgan
    arch: str = "C4-64-2,C4-128-2,C4-256-2"  # of both discriminators: kernel, channels, stride
    crop_side: int = 32  # of objects as the discriminator sees them
    classify_patches: bool = False  # the picture's discriminator scores patches by its last layer, which sg2im forgets
    # Pictures seen, after which the generator's BatchNorm stands still and its Adam begins anew; null: never.
    fixed_statistics_after: int | None = 3_200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "crop_side", "fixed_statistics_after")
        if min(self.side, self.crop_side) < smallest(self.arch):
            raise ValueError(
                f"arch {self.arch} needs pictures and crops of {smallest(self.arch)} at least; "
                f"side is {self.side}, crop_side {self.crop_side}"
            )

    @property
    def networks(self) -> Networks:
        """The generator's sizes alone."""
        return Networks(**{name: getattr(self, name) for name in Networks.__dataclass_fields__})


PRESETS: Presets = {
    # scripts/train.py and TRAINING.md, COCO at 64 x 64: 1,000,000 iterations of 32.
    "sg2im": {"sg2im": {}},
    # The same layers at 128 x 128 begin at 8 x 8.
    "sg2im-128": {"sg2im": {"side": 128}},
    # For the sample world on two cores: narrow, and its average is what paints.
    "tiny": {
        "sg2im": {
            **{"embedding_dim": 32, "gconv_dim": 32, "gconv_hidden_dim": 64, "gconv_num_layers": 3},
            **{"refinement_dims": [64, 64, 32, 32, 16], "layout_noise_dim": 4},
            **{"arch": "C4-16-2,C4-32-2,C4-64-2", "classify_patches": True, "relations": "all"},
            **{"images": 64_000, "g_lr": 1e-3, "d_lr": 1e-3, "ema_half_life": 2_000, "fixed_statistics_after": None},
            **{"log_every": 3_200, "grid_every": 16_000, "checkpoint_every": 16_000},
        },
    },
}
