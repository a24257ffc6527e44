"""StackGAN++ as a system: what it reads, how it is built, and the caption-only generator that it may start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.differences import changes
from store.errors import ChatPainterError
from trainer.config import section
from trainer.systems.stackgan_v2.config import NAME, PRESETS, StackGanV2Config

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Input
    from trainer.systems.stackgan_v2.discriminator import Discriminator
    from trainer.systems.stackgan_v2.networks import StackGanV2Generator
    from trainer.systems.stackgan_v2.step import StackGanV2


class _StackGanV2:
    """A `trainer.systems.System`."""

    name, starts_from, retired = NAME, None, ()
    about = "StackGAN++: one to three sides trained together, with or without text."

    def configure(self, values: Mapping[str, Any], where: str) -> StackGanV2Config:
        """Its section, checked."""
        return section(values, self.name, StackGanV2Config, PRESETS, where)

    def inputs(self, config: StackGanV2Config) -> "tuple[Input, ...]":
        """Pictures of the largest side; with text, what the arm reads and pictures of other images."""
        from trainer.feed.inputs import CLASSES, pictures, wrong_pictures
        from trainer.systems.text_reader import text_inputs

        side = config.sides[-1]
        if not config.conditional:
            return (pictures(side),)
        caption, *said = text_inputs(config.dialogue)
        classes = (CLASSES,) if config.other_class else ()
        return caption, pictures(side), wrong_pictures(side), *said, *classes

    def generator(self, settings: dict[str, Any]) -> "StackGanV2Generator":
        """See `networks.StackGanV2Generator`."""
        from trainer.systems.stackgan_v2.networks import StackGanV2Generator

        return StackGanV2Generator(settings)

    def trainable(
        self, config: StackGanV2Config, data: "TrainingData", ranks: "Ranks", start: Path | None
    ) -> "StackGanV2":
        """Fresh networks, the same for the same seed, or the weights of `start_from` in them."""
        import torch

        from trainer.networks.blocks import initialise_orthogonal
        from trainer.systems.stackgan_v2.step import StackGanV2
        from trainer.systems.text_reader import standardise

        torch.manual_seed(config.seed)
        generator = self.generator(self._settings(config, data, data.identity))
        generator.network.apply(initialise_orthogonal)
        opponents = discriminators(generator, config)
        if config.start_from is None:
            standardise(generator, data)
        else:
            adopt(generator, Path(config.start_from), data)
        return StackGanV2(generator, opponents, config, ranks)

    def parameters(self, config: StackGanV2Config, data: "TrainingData") -> dict[str, int]:
        """Of the generator, the dialogue encoder and every discriminator."""
        import torch

        from trainer.systems.text_reader import parameter_count

        with torch.device("meta"):
            generator = self.generator(self._settings(config, data, {}))
            opponents = discriminators(generator, config, draw=False)
        sizes = {"generator": parameter_count(generator.network)}
        if generator.dialogue_encoder is not None:
            sizes["dialogue encoder"] = parameter_count(generator.dialogue_encoder)
        return sizes | {f"discriminator of {side}": parameter_count(one) for side, one in zip(config.sides, opponents)}

    def describe(self, config: StackGanV2Config, generator: "StackGanV2Generator") -> dict[str, Any]:
        """Widths, the stores' identities and the sizes of the networks."""
        from trainer.systems.text_reader import parameter_count

        encoder = generator.dialogue_encoder
        return {
            **{name: generator.settings[name] for name in ("caption_dim", "dialogue_dim", "stores")},
            "parameters": {
                "generator": parameter_count(generator.network),
                "dialogue_encoder": 0 if encoder is None else parameter_count(encoder),
            },
        }

    def _settings(self, config: StackGanV2Config, data: "TrainingData", stores: dict[str, Any]) -> dict[str, Any]:
        from trainer.feed.inputs import CAPTIONS
        from trainer.systems.stackgan_v2.networks import generator_settings
        from trainer.systems.text_reader import text_inputs

        said = text_inputs(config.dialogue)[1:]
        caption_dim = data.dim(CAPTIONS.name) if config.conditional else 0
        return generator_settings(config.model, caption_dim, data.dim(said[0].name) if said else None, stores=stores)


STACKGAN_V2 = _StackGanV2()


def discriminators(
    generator: "StackGanV2Generator", config: StackGanV2Config, draw: bool = True
) -> "list[Discriminator]":
    """One opponent a branch, freshly initialised."""
    from trainer.networks.blocks import initialise_orthogonal
    from trainer.systems.stackgan_v2.discriminator import Discriminator

    made = [
        Discriminator(
            config.df,
            config.size,
            branch,
            config.condition_dim if config.conditional else None,
            config.d_norm,
            text_dim=generator.text_dim if config.d_condition == "learned" else None,
            matching=config.matching,
            token_dims=generator.token_dims,
            width=config.attention.width,
        )
        for branch in range(config.branches)
    ]
    if draw:
        for one in made:
            one.apply(initialise_orthogonal)
    return made


def adopt(generator: "StackGanV2Generator", path: Path, data: "TrainingData") -> None:
    """Take the weights of the caption-only generator at `path`; what a dialogue adds is silent at first.

    Raises:
        ChatPainterError: it is none, or of other sizes, or was trained on other vectors.
    """
    from trainer import generator_file
    from trainer.systems.stackgan_v2.networks import StackGanV2Generator, silence_dialogue

    first = generator_file.load(path)
    if not isinstance(first, StackGanV2Generator) or first.model.dialogue != "none":
        raise ChatPainterError(f"{path}: start_from: not a StackGAN++ generator that reads captions alone")
    ours, theirs = generator.settings["model"], first.settings["model"]
    mine = ("dialogue", "attention", "lstm_hidden")
    if changed := changes(
        {k: v for k, v in theirs.items() if k not in mine}, {k: ours[k] for k in ours if k not in mine}
    ):
        raise ChatPainterError(f"{path}: start_from: of another model ({', '.join(changed)}); restore these in params")
    if first.settings["caption_dim"] != generator.settings["caption_dim"]:
        raise ChatPainterError(
            f"{path}: start_from: reads captions of {first.settings['caption_dim']} dimensions, the store has "
            f"{generator.settings['caption_dim']}; embed with its encoder"
        )
    if stores := first.settings.get("stores"):  # a published file does not say what its captions were encoded with
        data.refuse_other_encoders({**data.identity, **stores}, str(path))
    generator.network.load_state_dict(first.network.state_dict(), strict=False)
    generator.standardise.load_state_dict(first.standardise.state_dict(), strict=False)
    silence_dialogue(generator)
