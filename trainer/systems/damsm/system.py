"""The DAMSM as a system: what it reads, how it is built, what its image encoder starts from."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import ChatPainterError, one_line
from trainer.config import section
from trainer.systems.damsm.config import PRESETS, DamsmConfig

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Input
    from trainer.systems.damsm.image_encoders import ImageEncoder
    from trainer.systems.damsm.networks import DamsmEncoders
    from trainer.systems.damsm.step import Damsm


class _Damsm:
    """A `trainer.systems.System`."""

    name, starts_from, retired = "damsm", None, ()
    about = "Words and regions that find each other, for AttnGAN."

    def configure(self, values: Mapping[str, Any], where: str) -> DamsmConfig:
        """Its section, checked."""
        return section(values, self.name, DamsmConfig, PRESETS, where)

    def inputs(self, config: DamsmConfig) -> "tuple[Input, ...]":
        """Captions as numbers of words, and pictures."""
        from trainer.feed.inputs import CLASSES, TOKENS, pictures

        return TOKENS, pictures(config.side), *((CLASSES,) if config.classes else ())

    def generator(self, settings: dict[str, Any]) -> "DamsmEncoders":
        """See `networks.DamsmEncoders`."""
        from trainer.systems.damsm.networks import DamsmEncoders

        return DamsmEncoders(settings)

    def trainable(self, config: DamsmConfig, data: "TrainingData", ranks: "Ranks", start: Path | None) -> "Damsm":
        """Fresh encoders, the same for the same seed; Inception from its published weights."""
        import torch

        from trainer.systems.damsm.image_encoders import InceptionEncoder, initialise
        from trainer.systems.damsm.step import Damsm

        torch.manual_seed(config.seed)
        encoders = self._fresh(config, data)
        initialise(encoders.image)
        if isinstance(encoders.image, InceptionEncoder):
            adopt_inception(encoders.image, Path(config.weights), config.inception)
        return Damsm(encoders, config, ranks)

    def parameters(self, config: DamsmConfig, data: "TrainingData") -> dict[str, int]:
        """Of both encoders; nothing is drawn."""
        import torch

        with torch.device("meta"):
            encoders = self._fresh(config, data)
        return {
            "text encoder": sum(p.numel() for p in encoders.text.parameters()),
            "image encoder": sum(p.numel() for p in encoders.image.parameters()),
        }

    def describe(self, config: DamsmConfig, generator: "DamsmEncoders") -> dict[str, Any]:
        """How many words there are, and the stores' identities."""
        return {"vocabulary": len(generator.settings["vocabulary"]), "stores": generator.settings["stores"]}

    def _fresh(self, config: DamsmConfig, data: "TrainingData") -> "DamsmEncoders":
        from trainer.feed.inputs import TOKENS

        names = ("image_encoder", "inception_batchnorm", "side", "dim", "word_dim", "words", "width")
        settings = {name: getattr(config, name) for name in names}
        return self.generator(
            {
                "system": self.name,
                **settings,
                "vocabulary": list(data.vocabulary(TOKENS.name)["words"]),
                "stores": data.identity,
            }
        )


DAMSM = _Damsm()


def adopt_inception(encoder: "ImageEncoder", weights: Path, name: str) -> None:
    """The trunk takes torchvision's published weights.

    Raises:
        ChatPainterError: they are not there, or are not what their name says.
    """
    from trainer.evaluation.weights import Missing, find
    from trainer.systems.damsm.image_encoders import TRUNK
    from trainer.tensor_file import load

    try:
        path = find(weights, name)
    except Missing as missing:
        raise ChatPainterError(f"damsm: {missing}; or set damsm.image_encoder: small") from None
    state = load(path, "a file of plain tensors")
    trunk = {key: value for key, value in state.items() if key.partition(".")[0] in TRUNK}
    try:
        missing_keys, _ = encoder.load_state_dict(trunk, strict=False)
    except RuntimeError as error:
        raise ChatPainterError(f"{path}: not Inception v3's weights ({one_line(error)})") from None
    if lacking := [key for key in missing_keys if key.partition(".")[0] in TRUNK and "num_batches" not in key]:
        raise ChatPainterError(f"{path}: not Inception v3's weights (lacks {lacking[0]})")
