"""AttnGAN as a system: what it reads, how it is built, and which DAMSM judges it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import ChatPainterError
from trainer.config import section
from trainer.systems.attngan.config import PRESETS, AttnGanConfig

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Input
    from trainer.systems.attngan.discriminator import Discriminator
    from trainer.systems.attngan.networks import AttnGanGenerator
    from trainer.systems.attngan.step import AttnGan
    from trainer.systems.damsm.image_encoders import ImageEncoder


class _AttnGan:
    """A `trainer.systems.System`."""

    name, starts_from, retired = "attngan", "damsm", ()
    about = "AttnGAN: places attend to words, and to turns beside them."

    def configure(self, values: Mapping[str, Any], where: str) -> AttnGanConfig:
        """Its section, checked."""
        return section(values, self.name, AttnGanConfig, PRESETS, where)

    def inputs(self, config: AttnGanConfig) -> "tuple[Input, ...]":
        """Captions and their words, the dialogue as the arm reads it, and pictures."""
        from trainer.feed.inputs import CLASSES, WORDS, pictures
        from trainer.systems.text_reader import text_inputs

        caption, *said = text_inputs(config.dialogue)
        classes = (CLASSES,) if config.classes else ()
        return caption, WORDS, pictures(config.crop_side or config.sides[-1]), *said, *classes

    def generator(self, settings: dict[str, Any]) -> "AttnGanGenerator":
        """See `networks.AttnGanGenerator`."""
        from trainer.systems.attngan.networks import AttnGanGenerator

        return AttnGanGenerator(settings)

    def trainable(self, config: AttnGanConfig, data: "TrainingData", ranks: "Ranks", start: Path | None) -> "AttnGan":
        """Fresh networks, the same for the same seed, or an earlier generator's; judged by the DAMSM of `start`."""
        import torch

        from trainer.networks.blocks import initialise_orthogonal
        from trainer.systems.attngan.step import AttnGan
        from trainer.systems.attngan.widening import begin_with, silence_dialogue
        from trainer.systems.text_reader import standardise

        image_encoder = None
        if config.damsm_weight:
            image_encoder = damsm_image_encoder(start, data)
        torch.manual_seed(config.seed)
        generator = self.generator(self._settings(config, data, data.identity))
        generator.network.apply(initialise_orthogonal)
        silence_dialogue(generator)
        opponents = discriminators(generator, config)
        for network in opponents:
            network.apply(initialise_orthogonal)
        standardise(generator, data)
        if config.generator is not None:
            begin_with(generator, Path(config.generator))
        return AttnGan(generator, opponents, image_encoder, config, ranks)

    def parameters(self, config: AttnGanConfig, data: "TrainingData") -> dict[str, int]:
        """Of the generator and of each discriminator; nothing is drawn."""
        import torch

        from trainer.systems.text_reader import parameter_count

        with torch.device("meta"):
            generator = self.generator(self._settings(config, data, {}))
            opponents = discriminators(generator, config)
        named = {f"discriminator of {network.side}": parameter_count(network) for network in opponents}
        return {"generator": parameter_count(generator), **named}

    def describe(self, config: AttnGanConfig, generator: "AttnGanGenerator") -> dict[str, Any]:
        """Widths and the stores' identities."""
        return {name: generator.settings[name] for name in ("caption_dim", "word_dim", "dialogue_dim", "stores")}

    def _settings(self, config: AttnGanConfig, data: "TrainingData", stores: dict[str, Any]) -> dict[str, Any]:
        from trainer.feed.inputs import CAPTIONS, WORDS
        from trainer.systems.attngan.networks import generator_settings
        from trainer.systems.text_reader import text_inputs

        said = text_inputs(config.dialogue)[1:]
        dim = data.dim(said[0].name) if said else None
        return generator_settings(config.model, data.dim(CAPTIONS.name), data.dim(WORDS.name), dim, stores=stores)


ATTNGAN = _AttnGan()


def discriminators(generator: "AttnGanGenerator", config: AttnGanConfig) -> "list[Discriminator]":
    """One opponent for each side that is painted, smallest first."""
    from trainer.feed.inputs import CAPTIONS
    from trainer.systems.attngan.discriminator import Discriminator

    branches = range(config.branches)
    return [
        Discriminator(
            config.df,
            config.size,
            branch,
            generator.text_dim if config.d_condition == "text" else generator.dims[CAPTIONS.name],
            config.d_norm,
            unconditional=config.unconditional,
            matching=config.matching if branch == branches[-1] else None,
            token_dims=generator.token_dims,
        )
        for branch in (branches[-1:] if config.only_last else branches)
    ]


def damsm_image_encoder(start: Path | None, data: "TrainingData") -> "ImageEncoder":
    """The DAMSM's image encoder: of a run of `damsm`, or a published image_encoder*.pth.

    Raises:
        ChatPainterError: there is none, it holds something else, or its vectors cannot be compared with the words.
    """
    from trainer import generator_file
    from trainer.feed.inputs import CAPTIONS, WORDS
    from trainer.systems.damsm.networks import DamsmEncoders
    from trainer.systems.damsm.published import read_image_encoder

    if start is None or not start.is_file():
        raise ChatPainterError(
            f"{start}: no DAMSM to judge the pictures; train one (chatpainter-train damsm), name it or a published "
            "image_encoder*.pth with --damsm, or set attngan.damsm_weight: 0"
        )
    encoder: ImageEncoder
    if start.suffix == ".pth":
        encoder = read_image_encoder(start)
    else:
        encoders = generator_file.load(start)
        if not isinstance(encoders, DamsmEncoders):
            raise ChatPainterError(f"{start}: holds a generator, not the DAMSM's encoders")
        encoder = encoders.image
        refuse_other_words(start, data)
    dim = encoder.emb_cnn_code.out_features
    for one in (WORDS, CAPTIONS):
        if data.dim(one.name) != dim:
            raise ChatPainterError(
                f"{start}: compares vectors of {dim}, but {data.stores[one.name].path} has {data.dim(one.name)}; embed "
                "with the DAMSM's own text encoder (encoders: damsm), or set attngan.damsm_weight: 0"
            )
    return encoder


def refuse_other_words(start: Path, data: "TrainingData") -> None:
    """Raise ChatPainterError if the words are those of another DAMSM than `start`'s."""
    from store.files import sha256_file

    encoder = data.identity["words"].get("encoder", {})
    if encoder.get("name") == "damsm" and sha256_file(start) not in encoder.get("weights", {}).values():
        raise ChatPainterError(
            f"{data.stores['words'].path}: made by another DAMSM than {start}; embed again with that one, or name the "
            "one that made them with --damsm"
        )
