"""Attention over turns and the previous picture, as a system: dialogues with a picture after every turn."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import section
from trainer.systems.iterative.config import PRESETS, IterativeConfig

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Input
    from trainer.systems.iterative.discriminator import Discriminator
    from trainer.systems.iterative.networks import IterativeGenerator
    from trainer.systems.iterative.step import Iterative


class _Iterative:
    """A `trainer.systems.System`."""

    name, starts_from, retired = "iterative", None, ()
    about = "A dialogue to a picture after every turn, by attention over turns and the previous picture."

    def configure(self, values: Mapping[str, Any], where: str) -> IterativeConfig:
        """Its section, checked."""
        return section(values, self.name, IterativeConfig, PRESETS, where)

    def inputs(self, config: IterativeConfig) -> "tuple[Input, ...]":
        """Captions and turns with their pictures; finished pictures, which held-out ones are compared with."""
        from trainer.feed.inputs import FIRST_PICTURES, TURN_PICTURES, pictures
        from trainer.systems.text_reader import text_inputs

        films = (TURN_PICTURES, FIRST_PICTURES, pictures(config.networks.size))
        return (*text_inputs(config.networks.dialogue), *films)

    def generator(self, settings: dict[str, Any]) -> "IterativeGenerator":
        """See `networks.IterativeGenerator`."""
        from trainer.systems.iterative.networks import IterativeGenerator

        return IterativeGenerator(settings)

    def trainable(
        self, config: IterativeConfig, data: "TrainingData", ranks: "Ranks", start: Path | None
    ) -> "Iterative":
        """Fresh networks; films begin with the average of the first pictures."""
        import torch

        from trainer.feed.films import first_picture
        from trainer.systems.iterative.step import Iterative
        from trainer.systems.text_reader import standardise

        torch.manual_seed(config.seed)
        generator, discriminator = self._networks(config, data, data.identity)
        standardise(generator, data)
        generator.background.copy_(first_picture(data, config.networks.size))
        return Iterative(generator, discriminator, config, ranks)

    def parameters(self, config: IterativeConfig, data: "TrainingData") -> dict[str, int]:
        """Of generator and discriminator."""
        import torch

        from trainer.systems.text_reader import parameter_count

        with torch.device("meta"):
            generator, discriminator = self._networks(config, data, {})
        return {"generator": parameter_count(generator), "discriminator": parameter_count(discriminator)}

    def describe(self, config: IterativeConfig, generator: "IterativeGenerator") -> dict[str, Any]:
        """Widths and the stores' identities."""
        return {name: generator.settings[name] for name in ("dims", "stores")}

    def _networks(
        self, config: IterativeConfig, data: "TrainingData", stores: dict[str, Any]
    ) -> "tuple[IterativeGenerator, Discriminator]":
        from trainer.feed.inputs import TURNS
        from trainer.systems.iterative.discriminator import Discriminator
        from trainer.systems.iterative.networks import generator_settings
        from trainer.systems.text_reader import text_inputs

        dims = {one.name: data.dim(one.name) for one in text_inputs(config.networks.dialogue)}
        generator = self.generator(generator_settings(config.networks, dims, stores=stores))
        return generator, Discriminator(config.networks, config.matching, dims[TURNS.name], config.d_norm)


ITERATIVE = _Iterative()
