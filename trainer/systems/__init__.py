"""The seam behind which every text-to-image system lives, and the table of those there are.

A system is one training that a command starts: `chatpainter-train stage1`. What it reads, how its networks are built
and painted with is its `System`; what it does in one step is its `Trainable`. Everything else (feed, loop, checkpoints,
logs, evaluation) sees these two and nothing of the networks. There is no base trainer and no hook to fill in; a class
that names `Generator` or `System` as its base has what they say of the simplest case.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from store.errors import ChatPainterError
from trainer.config import Config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Batch, Input
    from trainer.optimising import Report, Updates

SYSTEMS = {
    "stage1": "trainer.systems.chatpainter.system:STAGE1",
    "stage2": "trainer.systems.chatpainter.system:STAGE2",
    "stackgan-v2": "trainer.systems.stackgan_v2.system:STACKGAN_V2",
    "damsm": "trainer.systems.damsm.system:DAMSM",
    "sg2im": "trainer.systems.sg2im.system:SG2IM",
    "geneva": "trainer.systems.geneva.system:GENEVA",
    "iterative": "trainer.systems.iterative.system:ITERATIVE",
    "attngan": "trainer.systems.attngan.system:ATTNGAN",
}
"""Name of command, section of params.yaml and folder below runs/ → where its System is, imported when asked for."""

LAST = "stage2"
"""Whose run is evaluated and painted with where none is named."""


class Generator(Protocol):
    """A system's network for painting, a `torch.nn.Module`; what leaves the house.

    Attributes:
        settings: plain JSON, enough to build it again (`System.generator`).
        noise_dim, condition_dim: widths of the noise and of the condition's noise.
        inputs: what it reads of a text.
        dims: width of each input that is vectors, by name.
        names: what the pictures of each side are called, smallest side first; none where nothing is painted.
        silence: vectors that stand for nothing said, by input.
    """

    settings: dict[str, Any]
    noise_dim: int
    condition_dim: int = 0
    inputs: "tuple[Input, ...]"
    dims: dict[str, int]

    @property
    def names(self) -> dict[int, str]:
        """Side → what its pictures are called, smallest first."""
        ...

    @property
    def silence(self) -> "dict[str, Tensor]":
        """Input that always has a vector → the one, (dim,), that stands for nothing said. None has to have one."""
        return {}

    def encode(self, texts: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """What it makes of B texts: named tensors of B rows, which `draw` paints from."""
        ...

    def draw(
        self,
        encoded: "Mapping[str, Tensor]",
        noise: "Tensor",
        condition_noise: "Tensor | None" = None,
        sides: Sequence[int] | None = None,
    ) -> "dict[int, Tensor]":
        """`paint` from what `encode` gave."""
        ...

    def paint(
        self,
        texts: "Mapping[str, Tensor]",
        noise: "Tensor",
        condition_noise: "Tensor | None" = None,
        sides: Sequence[int] | None = None,
    ) -> "dict[int, Tensor]":
        """Pictures by side, smallest first, each (B, 3, s, s) in [-1, 1].

        Args:
            texts: the inputs by name, as a `Batch` holds them.
            noise: (B, noise_dim).
            condition_noise: (B, condition_dim), or None for the mean condition.
            sides: which are asked for; larger ones may be left out.
        """
        return self.draw(self.encode(texts), noise, condition_noise, sides)

    # Of torch.nn.Module:
    def eval(self) -> Any: ...  # noqa: D102
    def parameters(self) -> Any: ...  # noqa: D102
    def modules(self) -> Any: ...  # noqa: D102
    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any: ...  # noqa: D102


@runtime_checkable
class Listens(Protocol):
    """What a `Generator` has besides, if places of its pictures attend to tokens; others simply lack it."""

    @property
    def listens_to(self) -> tuple[str, ...]:
        """Names of the inputs whose vectors are the tokens, in the order of the tokens; none of one that is deaf."""
        ...

    def encode(self, texts: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """As `Generator.encode`."""
        ...

    def listen(self, encoded: "Mapping[str, Tensor]", noise: "Tensor") -> "dict[int, Tensor]":
        """Each token's share of what every place listens to while the mean condition is painted.

        By side, (B, T, side, side); what is missing to 1 over the T tokens listens to nothing.
        """
        ...


@runtime_checkable
class PaintsFilms(Protocol):
    """What a generator of dialogues has beside, if it paints each turn's picture from the one before.

    It learns pictures of what the turns told: a caption changes no picture of it.
    """

    def film(self, texts: "Mapping[str, Tensor]", noise: "Tensor", condition_noise: "Tensor | None" = None) -> "Tensor":
        """The pictures after every turn, (B, T, 3, s, s) in [-1, 1]; arguments as in `Generator.paint`.

        After a dialogue's last turn the last one again. A dialogue that goes on keeps the pictures that it had.
        """
        ...


class Trainable(Protocol):
    """What one training changes, and how: the loop knows this much.

    Attributes:
        average: what is painted with, evaluated and saved.
        networks: every module, to be made alike on all processes at the start.
        updates: counts optimiser steps left out for gradients that were not finite.
        shown: label → figures of the log that the status line shows.
    """

    @property
    def average(self) -> Generator:
        """What is painted with, in eval mode."""
        ...

    @property
    def networks(self) -> "Sequence[nn.Module]":
        """Every module, `average` among them."""
        ...

    @property
    def updates(self) -> "Updates":
        """The optimisers' steps."""
        ...

    @property
    def shown(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(label, figures beside each other) of the status line, left to right."""
        ...

    def step(self, batch: "Batch", images_seen: int, epoch: int, report: "Report") -> None:
        """Train on one process's share of a batch; `images_seen` and `epoch` are those before it."""
        ...

    def learning_rates(self) -> dict[str, float]:
        """By name, for the log."""
        ...

    def finite(self) -> bool:
        """Whether every weight is a number; waits for the device."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that continuing needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        ...


class System(Protocol):
    """What one training reads and builds.

    Attributes:
        name: its key in `SYSTEMS`.
        about: one line for `--help`.
        starts_from: the system whose generator it starts from, if any.
        retired: keys that older config.json files hold although nothing reads them.
    """

    @property
    def name(self) -> str:
        """Its key in `SYSTEMS`, section of params.yaml and folder below runs/."""
        ...

    @property
    def about(self) -> str:
        """One line for `--help`, a sentence."""
        ...

    @property
    def starts_from(self) -> str | None:
        """The system whose generator it starts from; none."""
        return None

    @property
    def retired(self) -> tuple[str, ...]:
        """Keys (`section.key`) of older config.json files that are passed over; none."""
        return ()

    def configure(self, values: Mapping[str, Any], where: str) -> Config:
        """Its sections of params.yaml, checked; `where` names the file. Imports no torch."""
        ...

    def inputs(self, config: Config) -> "tuple[Input, ...]":
        """What a batch holds."""
        ...

    def generator(self, settings: dict[str, Any]) -> Generator:
        """The generator that these settings describe, freshly initialised."""
        ...

    def trainable(self, config: Config, data: "TrainingData", ranks: "Ranks", start: Path | None) -> Trainable:
        """Fresh networks, the same on every process for the same seed.

        Args:
            start: generator file of the system that this one starts from.
        """
        ...

    def parameters(self, config: Config, data: "TrainingData") -> dict[str, int]:
        """How many parameters each part would have, of `plain_settings` the generator; draws none."""
        import torch

        with torch.device("meta"):
            generator = self.generator(plain_settings(self, config, data))
        return {"generator": sum(parameter.numel() for parameter in generator.parameters())}

    def describe(self, config: Config, generator: Generator) -> dict[str, Any]:
        """Plain values for config.json beside the sections: all that decides what is trained; widths and stores."""
        return {name: generator.settings[name] for name in ("dims", "stores")}


def find(name: str) -> System:
    """The system of that name.

    Raises:
        ChatPainterError: there is none.
    """
    if name not in SYSTEMS:
        raise ChatPainterError(f"no system {name!r}; known: {', '.join(SYSTEMS)}")
    module, _, attribute = SYSTEMS[name].partition(":")
    system: System = getattr(import_module(module), attribute)
    return system


def plain_settings(system: System, config: Config, data: "TrainingData") -> dict[str, Any]:
    """What builds a generator for these data: the system's own section, widths of the texts, and whose they are."""
    dims = {one.name: data.dim(one.name) for one in system.inputs(config) if one.where == "embeddings"}
    training = config.plain()[system.name]
    return {"system": system.name, "training": training, "dims": dims, "stores": data.identity}


def lineage(name: str) -> list[str]:
    """The system and those that it starts from, the first one first."""
    names = [name]
    while (before := find(names[0]).starts_from) is not None:
        names.insert(0, before)
    return names


def named_in(settings: Mapping[str, Any]) -> str:
    """The system that a generator's settings name; files of 0.1.0 name ChatPainter's stage only.

    Raises:
        ChatPainterError: they name none.
    """
    name = settings.get("system", f"stage{settings.get('stage')}")
    if name not in SYSTEMS:
        raise ChatPainterError(f"made by a system that is not known here: {str(name)[:60]!r}")
    return str(name)


def require_pictures(generator: Generator, file: Path) -> None:
    """Raise ChatPainterError for what paints nothing, such as the encoders of the DAMSM; `file`: where it lay."""
    if not generator.names:
        raise ChatPainterError(
            f"{file}: made by {named_in(generator.settings)}, which paints nothing; name another run"
        )


def reads(generator: Generator, name: str) -> bool:
    """Whether the generator reads the input `name`."""
    return any(one.name == name for one in generator.inputs)


def device_of(generator: Generator) -> "torch.device":
    """Where the generator's parameters are."""
    device: torch.device = next(generator.parameters()).device
    return device
