"""sg2im as a system: what it reads and how it is built."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import ChatPainterError
from trainer.config import section
from trainer.systems.sg2im.config import PRESETS, Sg2imConfig

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Input
    from trainer.systems.sg2im.discriminators import CropDiscriminator, PatchDiscriminator
    from trainer.systems.sg2im.networks import Sg2imGenerator
    from trainer.systems.sg2im.step import SceneGraphGan


class _Sg2im:
    """A `trainer.systems.System`."""

    name, about, starts_from, retired = "sg2im", "Scene graphs to pictures, by way of boxes and masks.", None, ()

    def configure(self, values: Mapping[str, Any], where: str) -> Sg2imConfig:
        """Its section, checked."""
        return section(values, self.name, Sg2imConfig, PRESETS, where)

    def inputs(self, config: Sg2imConfig) -> "tuple[Input, ...]":
        """The graph and the truth of its boxes and masks, and pictures whose middle is learned."""
        from trainer.feed.inputs import BOXES, MASKS, OBJECTS, TRIPLES, pictures

        return OBJECTS, TRIPLES, BOXES, *((MASKS,) if config.mask_size else ()), pictures(config.side)

    def generator(self, settings: dict[str, Any]) -> "Sg2imGenerator":
        """See `networks.Sg2imGenerator`."""
        from trainer.systems.sg2im.networks import Sg2imGenerator

        return Sg2imGenerator(settings)

    def trainable(
        self, config: Sg2imConfig, data: "TrainingData", ranks: "Ranks", start: Path | None
    ) -> "SceneGraphGan":
        """Fresh networks, the same for the same seed.

        Raises:
            ChatPainterError: the stored masks have another side than `mask_size`.
        """
        import torch

        from trainer.feed.inputs import MASKS
        from trainer.systems.sg2im.step import SceneGraphGan

        if config.mask_size and data.shape(MASKS.name) != (config.mask_size, config.mask_size):
            stored = data.shape(MASKS.name)[0]
            raise ChatPainterError(
                f"sg2im.mask_size is {config.mask_size}, but the masks in {data.stores[MASKS.name].path} are "
                f"{stored} x {stored}; set it to {stored}"
            )
        torch.manual_seed(config.seed)
        return SceneGraphGan(*self._networks(config, data), config, ranks)

    def parameters(self, config: Sg2imConfig, data: "TrainingData") -> dict[str, int]:
        """Of the generator and of both discriminators; nothing is drawn."""
        import torch

        with torch.device("meta"):
            sizes = [sum(p.numel() for p in network.parameters()) for network in self._networks(config, data)]
        return dict(zip(("generator", "object discriminator", "image discriminator"), sizes))

    def describe(self, config: Sg2imConfig, generator: "Sg2imGenerator") -> dict[str, Any]:
        """The vocabulary."""
        return {"vocabulary": generator.settings["vocabulary"]}

    def _networks(
        self, config: Sg2imConfig, data: "TrainingData"
    ) -> "tuple[Sg2imGenerator, CropDiscriminator, PatchDiscriminator]":
        from trainer.feed.inputs import OBJECTS
        from trainer.systems.sg2im.discriminators import CropDiscriminator, PatchDiscriminator
        from trainer.systems.sg2im.networks import Sg2imGenerator, generator_settings

        vocabulary = data.vocabulary(OBJECTS.name)
        generator = Sg2imGenerator(generator_settings(config.networks, vocabulary, stores=data.identity))
        objects = CropDiscriminator(config.arch, len(vocabulary["objects"]), config.crop_side)
        return generator, objects, PatchDiscriminator(config.arch, config.classify_patches)


SG2IM = _Sg2im()
