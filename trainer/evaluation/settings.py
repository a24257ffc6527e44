"""Section `evaluate` of params.yaml."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ClassifierSettings:
    """The small classifier of the world's facts (`trainer.evaluation.classifier`)."""

    split: str = "train"  # whose real pictures it learns from
    width: int = 16
    features: int = 128
    epochs: int = 8
    batch: int = 64
    rate: float = 4e-3

    def __post_init__(self) -> None:
        for name in ("width", "features", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


@dataclass(frozen=True)
class PublishedSettings:
    """Files of published networks inside `weights`; what is not there is skipped, with the reason in metrics.json."""

    weights: str = "data/weights"
    inception_torchvision: str = "inception_v3_google-0cc3c7bd.pth"
    inception_2015: str = "weights-inception-2015-12-05-6726825d.pth"
    vgg16: str = "vgg16-397923af.pth"
    clip: str = "clip-vit-base-patch32"
    damsm: str | None = None  # a run of damsm or a published image_encoder*.pth, wherever it lies: R-precision by it


@dataclass(frozen=True)
class EvaluateSettings:
    """Section `evaluate` of params.yaml."""

    split: str = "val"
    pictures: int | None = None  # the first so many images of the split; null: all
    sides: tuple[int, ...] = ()  # of the painted pictures that are judged; none: all
    batch: int = 50
    part: int = 1000  # pictures between two points to continue from
    seed: int = 2020
    condition: Literal["sample", "mean"] = "sample"  # Conditioning Augmentation while painting
    dialogue: Literal["own", "shuffled", "reversed"] = "own"
    rounds: int | None = None  # only the first so many; null: all
    probes: tuple[Literal["shuffled", "reversed"], ...] = ("shuffled", "reversed")
    rounds_curve: tuple[int, ...] = tuple(range(11))
    probe_pictures: int = 500  # images that the probes are painted for, of the smallest side
    gallery: int = 12
    noises: int = 4
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    published: PublishedSettings = field(default_factory=PublishedSettings)

    def __post_init__(self) -> None:
        for name in ("batch", "part", "probe_pictures", "noises"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.pictures is not None and self.pictures < 8:
            raise ValueError("pictures must be at least 8: distances between distributions need several")
        if self.gallery < 0 or (self.rounds is not None and self.rounds < 0) or any(n < 0 for n in self.rounds_curve):
            raise ValueError("gallery, rounds and rounds_curve cannot be negative")
