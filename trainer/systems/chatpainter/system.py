"""ChatPainter's two stages as systems: what they read, how they are built, where stage 2 starts from."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.differences import changes
from store.errors import ChatPainterError
from trainer.systems.chatpainter.config import Stage, StageSettings, other_crop

if TYPE_CHECKING:
    from trainer.distributed import Ranks
    from trainer.feed.data import TrainingData
    from trainer.feed.inputs import Input
    from trainer.systems.chatpainter.discriminator import Discriminator
    from trainer.systems.chatpainter.networks import ChatPainterGenerator
    from trainer.systems.chatpainter.step import Gan


class _Stage:
    """One stage, a `trainer.systems.System`."""

    def __init__(self, stage: Stage, about: str, starts_from: str | None = None, retired: tuple[str, ...] = ()) -> None:
        self.stage, self.name, self.about, self.starts_from = stage, f"stage{stage}", about, starts_from
        self.retired = retired

    def configure(self, values: Mapping[str, Any], where: str) -> StageSettings:
        """Sections `model` and this stage's."""
        return StageSettings.of(values, self.stage, where)

    def inputs(self, config: StageSettings) -> "tuple[Input, ...]":
        """Captions, the dialogue as the arm reads it, and pictures of the stage's side, or those of every turn too."""
        from trainer.feed.inputs import FIRST_PICTURES, TURN_PICTURES, pictures
        from trainer.systems.text_reader import text_inputs

        caption, *said = text_inputs(config.model.dialogue)
        films = (TURN_PICTURES, FIRST_PICTURES) if config.training.turn_pictures else ()
        return caption, pictures(config.side), *said, *films

    def generator(self, settings: dict[str, Any]) -> "ChatPainterGenerator":
        """See `networks.ChatPainterGenerator`."""
        from trainer.systems.chatpainter.networks import ChatPainterGenerator

        return ChatPainterGenerator(settings)

    def trainable(self, config: StageSettings, data: "TrainingData", ranks: "Ranks", start: Path | None) -> "Gan":
        """Stage 1 from nothing; stage 2 with stage 1's generator, dialogue encoder and standardisation (paper 4.2)."""
        import torch

        from trainer.feed.labels import read_labels
        from trainer.systems.chatpainter.step import Gan
        from trainer.systems.text_reader import standardise

        training, labels = config.training, None
        if training.auxiliary.weight:
            assert training.auxiliary.instances is not None
            labels = read_labels(Path(training.auxiliary.instances), data.image_ids, ranks.device)
        torch.manual_seed(training.seed)
        generator = self.generator(self._settings(config, data, data.identity))
        opponent = discriminator(generator, config, labels.classes if labels else 0)
        if start is None:
            standardise(generator, data)
        else:
            adopt(generator, start, data, training.crop)
        return Gan(generator, opponent, training, ranks, labels)

    def parameters(self, config: StageSettings, data: "TrainingData") -> dict[str, int]:
        """Of the stage's generator, the dialogue encoder and the discriminator."""
        import torch

        from trainer.systems.text_reader import parameter_count

        with torch.device("meta"):
            generator = self.generator(self._settings(config, data, {}))
            opponent = discriminator(generator, config)
        own = parameter_count(generator.network)
        sizes = {"generator": own}
        if self.stage == 2:
            sizes = {"generator": own - parameter_count(generator.first), "generator with stage 1": own}
        if generator.dialogue_encoder is not None:
            sizes["dialogue encoder"] = parameter_count(generator.dialogue_encoder)
        return {**sizes, "discriminator": parameter_count(opponent)}

    def describe(self, config: StageSettings, generator: "ChatPainterGenerator") -> dict[str, Any]:
        """Stage, widths, the stores' identities and the sizes of the networks."""
        from trainer.systems.text_reader import parameter_count

        encoder = generator.dialogue_encoder
        return {
            "stage": self.stage,
            **{name: generator.settings[name] for name in ("caption_dim", "dialogue_dim", "stores")},
            "parameters": {
                "generator": parameter_count(generator.network),
                "dialogue_encoder": 0 if encoder is None else parameter_count(encoder),
            },
        }

    def _settings(self, config: StageSettings, data: "TrainingData", stores: dict[str, Any]) -> dict[str, Any]:
        from trainer.feed.inputs import CAPTIONS
        from trainer.systems.chatpainter.networks import generator_settings
        from trainer.systems.text_reader import text_inputs

        said = text_inputs(config.model.dialogue)[1:]
        dim = data.dim(said[0].name) if said else None
        return generator_settings(
            self.stage, config.model, data.dim(CAPTIONS.name), dim, system=self.name, stores=stores
        )


# Stage 1's section took stage 2's two keys once, and read neither.
STAGE1 = _Stage(1, "Text to 64 x 64.", retired=("stage1.finetune_stage1", "stage1.stage1_batchnorm"))
STAGE2 = _Stage(2, "Stage 1's picture and the text again, to 256 x 256.", starts_from="stage1")


def discriminator(generator: "ChatPainterGenerator", config: StageSettings, classes: int = 0) -> "Discriminator":
    """The opponent of `generator`, freshly initialised."""
    from trainer.networks.blocks import initialise
    from trainer.systems.chatpainter.discriminator import Discriminator

    training = config.training
    network = Discriminator(
        config.model,
        generator.stage,
        training.d_norm,
        classes,
        generator.text_dim if training.d_condition == "learned" else None,
        conditional=training.d_condition != "none",
        matching=training.matching,
        token_dims=generator.token_dims,
    )
    network.apply(initialise)
    return network


def adopt(generator: "ChatPainterGenerator", path: Path, data: "TrainingData", crop: str) -> None:
    """Stage 2 takes stage 1's generator, dialogue encoder and standardisation from the generator file at `path`.

    Raises:
        ChatPainterError: it is not a stage 1 generator, or of another model, other encoders, or (where it says so)
            pictures that were not cut by `crop`.
    """
    from trainer import generator_file
    from trainer.systems.chatpainter.networks import ChatPainterGenerator

    first = generator_file.load(path)
    if not isinstance(first, ChatPainterGenerator) or first.stage != 1:
        held = f"stage {first.stage}" if isinstance(first, ChatPainterGenerator) else "another system's generator"
        raise ChatPainterError(f"{path}: holds {held}; stage 2 starts from a stage 1 generator")
    if first.model != generator.model:
        changed = changes(asdict(first.model), asdict(generator.model))
        raise ChatPainterError(
            f"{path}: trained with another model ({', '.join(changed)}); train stage 1 again or restore params"
        )
    data.refuse_other_encoders(first.settings["stores"], str(path))
    trained = first.settings.get("training")
    if complaint := other_crop(trained.get("crop", crop) if isinstance(trained, dict) else crop, crop):
        raise ChatPainterError(f"{path}: stage2: {complaint}")
    generator.first.load_state_dict(first.first.state_dict())
    generator.standardise.load_state_dict(first.standardise.state_dict())
    if generator.dialogue_encoder is not None and first.dialogue_encoder is not None:
        generator.dialogue_encoder.load_state_dict(first.dialogue_encoder.state_dict())
