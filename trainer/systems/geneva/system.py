"""GeNeVA-GAN as a system: dialogues with a picture after every turn."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import ParamsError
from trainer.config import section
from trainer.systems.geneva.config import PRESETS, GenevaConfig

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Input
    from trainer.systems.geneva.discriminator import Discriminator
    from trainer.systems.geneva.networks import GenevaGenerator
    from trainer.systems.geneva.step import Geneva


class _Geneva:
    """A `trainer.systems.System`."""

    name, about, starts_from, retired = "geneva", "A dialogue to a picture after every turn (GeNeVA-GAN).", None, ()

    def configure(self, values: Mapping[str, Any], where: str) -> GenevaConfig:
        """Its section, checked."""
        config = section(values, self.name, GenevaConfig, PRESETS, where)
        if config.networks.words:
            raise ParamsError(
                f"{where}: {self.name}: networks.words is of published weights; training reads a vector a turn (0)"
            )
        return config

    def inputs(self, config: GenevaConfig) -> "tuple[Input, ...]":
        """Turns with their pictures and objects; finished pictures, which held-out ones are compared with."""
        from trainer.feed.inputs import FIRST_PICTURES, FIRST_PRESENCE, PRESENCE, TURN_PICTURES, pictures
        from trainer.systems.geneva.networks import text_inputs

        films = (TURN_PICTURES, FIRST_PICTURES, pictures(config.networks.size))
        objects = (PRESENCE, FIRST_PRESENCE) if config.auxiliary else ()
        return (*text_inputs(config.networks), *films, *objects)

    def generator(self, settings: dict[str, Any]) -> "GenevaGenerator":
        """See `networks.GenevaGenerator`."""
        from trainer.systems.geneva.networks import GenevaGenerator

        return GenevaGenerator(settings)

    def trainable(self, config: GenevaConfig, data: "TrainingData", ranks: "Ranks", start: Path | None) -> "Geneva":
        """Fresh networks; films begin with the average of the first pictures."""
        import torch

        from trainer.feed.films import first_picture
        from trainer.systems.geneva.step import Geneva

        torch.manual_seed(config.seed)
        generator, discriminator = self._networks(config, data, data.identity)
        generator.background.copy_(first_picture(data, config.networks.size))
        return Geneva(generator, discriminator, config, ranks)

    def parameters(self, config: GenevaConfig, data: "TrainingData") -> dict[str, int]:
        """Of what paints, of what reads words and pictures, and of the discriminator."""
        import torch

        from trainer.systems.text_reader import parameter_count

        with torch.device("meta"):
            generator, discriminator = self._networks(config, data, {})
        painter, every = parameter_count(generator.generator), parameter_count(generator)
        return {"painter": painter, "encoders": every - painter, "discriminator": parameter_count(discriminator)}

    def describe(self, config: GenevaConfig, generator: "GenevaGenerator") -> dict[str, Any]:
        """Widths, the number of objects, and the stores' identities."""
        return {name: generator.settings[name] for name in ("dims", "objects", "stores")}

    def _networks(
        self, config: GenevaConfig, data: "TrainingData", stores: dict[str, Any]
    ) -> "tuple[GenevaGenerator, Discriminator]":
        from trainer.feed.inputs import PRESENCE
        from trainer.systems.geneva.discriminator import Discriminator
        from trainer.systems.geneva.networks import generator_settings, text_inputs

        objects = data.dim(PRESENCE.name) if config.auxiliary else 0
        dims = {one.name: data.dim(one.name) for one in text_inputs(config.networks)}
        settings = generator_settings(config.networks, dims, objects, stores=stores)
        return self.generator(settings), Discriminator(config.networks, objects)


GENEVA = _Geneva()
