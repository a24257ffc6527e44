"""What every training depends on, whichever system it trains: one dataclass a concern.

A system's section of params.yaml is a dataclass that inherits the concerns which it reads. So its keys stand side by
side in the file, a function says in its signature which concern it depends on, and a key that a system does not
read is refused.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

from store import params
from store.errors import ParamsError

T = TypeVar("T")
Presets = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Preset → section → values that the section's own keys override."""
Norm = Literal["batch", "spectral", "group", "none"]
"""Of a discriminator's layers; group: GroupNorm beside spectral norm."""


@dataclass(frozen=True)
class Concern:
    """Lets `__post_init__` of every concern that a section inherits run."""

    def __post_init__(self) -> None:
        """Nothing to check here."""


@dataclass(frozen=True)
class Duration(Concern):
    """How long, in pictures seen, so that it means the same for every batch size."""

    epochs: int | None = 800
    images: int | None = None  # pictures seen; instead of epochs
    batch: int = 384  # pictures of one iteration, over all processes and accumulation steps
    accumulate: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epochs is None) == (self.images is None):
            raise ValueError("give either epochs or images (the other one null): how long to train")
        at_least_one(self, "epochs", "images", "batch", "accumulate")
        if self.batch < 2 * self.accumulate:
            raise ValueError(f"batch {self.batch} in {self.accumulate} parts leaves no second image for wrong pairs")
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} cannot be split into {self.accumulate} equal parts (accumulate)")

    def end(self, epoch_images: int) -> int:
        """Pictures seen at the configured end, a whole number of batches."""
        if self.images is not None:
            return self.whole(self.images)
        assert self.epochs is not None
        return self.epochs * epoch_images

    def whole(self, images: int) -> int:
        """The whole number of batches nearest to `images` pictures, in pictures; at least one batch."""
        return max(1, round(images / self.batch)) * self.batch


@dataclass(frozen=True)
class Optimisers(Concern):
    """Adam for generator and discriminator, and the generator's average."""

    g_lr: float = 2e-4
    d_lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    halve_every_epochs: int | None = 50
    ema_half_life: int = 10_000  # pictures seen; 0 = no average

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "halve_every_epochs")

    def rate(self, epoch: int) -> float:
        """What learning rates are multiplied by in `epoch` (paper 4.3)."""
        return 0.5 ** (epoch // self.halve_every_epochs) if self.halve_every_epochs else 1.0


@dataclass(frozen=True)
class PictureAugmentation(Concern):
    """What happens to real pictures before the discriminator sees them."""

    crop: Literal["random", "centre"] = "random"
    flip: bool = True
    diffaugment: bool = False  # translation and cutout


@dataclass(frozen=True)
class Convolutions(Concern):
    """How convolutional networks lie in memory and are run; only `sync_batchnorm` changes what is computed."""

    channels_last: bool = True
    compile: bool = False
    sync_batchnorm: bool = False


@dataclass(frozen=True)
class Machine(Concern):
    """What the run asks of the machine; only `precision` changes what is computed."""

    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    threads: int = 1  # that gather batches

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "threads")


@dataclass(frozen=True)
class Records(Concern):
    """What is written on the way; intervals in pictures seen."""

    log_every: int = 20_000
    grid_every: int = 400_000
    checkpoint_every: int = 400_000
    keep: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "log_every", "grid_every", "checkpoint_every", "keep")


@dataclass(frozen=True)
class Training(Duration, Machine, Records):
    """What the loop asks of every system's section."""


@dataclass(frozen=True)
class OwnSection(Training):
    """The section of a system that reads no other: a `Config` by itself. It names the `section` of params.yaml."""

    section: ClassVar[str]

    @property
    def training(self) -> Self:
        """This section."""
        return self

    def plain(self) -> dict[str, Any]:
        """As config.json and the generator's file hold it."""
        return {self.section: asdict(self)}

    def defaults(self) -> dict[str, Any]:
        """The same where nothing is given."""
        return {self.section: asdict(type(self)())}


MAY_CHANGE = ("epochs", "images", "threads", "log_every", "grid_every", "checkpoint_every", "keep")
"""Keys of `Training` that say how long and what is recorded, not what is trained: a run goes on under other ones,
unless it has seen more pictures than they ask for."""


class Config(Protocol):
    """The resolved sections of one training."""

    @property
    def training(self) -> Training:
        """The system's own section."""
        ...

    def plain(self) -> dict[str, Any]:
        """Sections by name, as plain values: what config.json and the generator's file hold."""
        ...

    def defaults(self) -> dict[str, Any]:
        """The same where nothing is given: what a setting was before it existed."""
        ...


def at_least_one(values: Any, *names: str) -> None:
    """Raise ValueError for the first of these fields that is given and below 1."""
    for name in names:
        value = getattr(values, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1")


def section(values: Mapping[str, Any], name: str, kind: type[T], presets: Presets, where: str = "params.yaml") -> T:
    """Section `name` as `kind`, with its preset, if it names one, beneath its own keys, those of its parts too.

    Raises:
        ParamsError: an unknown key or preset, a wrong type, or a combination that cannot work; says which.
    """
    given = values.get(name) or {}
    if not isinstance(given, dict):
        raise ParamsError(f"{where}: {name}: expected a mapping, found {given!r}")
    given = dict(given)
    base = preset(given.pop("preset", next(iter(presets))), name, presets, f"{where}: {name}")
    # A preset's duration gives way to the section's own.
    if "images" in given and "epochs" not in given:
        base = {**base, "epochs": None}
    if "epochs" in given and "images" not in given:
        base = {**base, "images": None}
    return params.build(kind, params.merge(base, given), f"{where}: {name}")


def preset(name: str, part: str, presets: Presets, where: str = "preset") -> dict[str, Any]:
    """Values of preset `name` for section `part`."""
    if name not in presets:
        raise ParamsError(f"{where}: unknown preset {name!r}; known: {', '.join(presets)}")
    return dict(presets[name][part])
