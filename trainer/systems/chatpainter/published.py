"""Files of hanzhanggit/StackGAN-Pytorch: plain state_dicts, netG_epoch_N.pth and netD_epoch_last.pth.

Files of 2017 hold no `num_batches_tracked`; a stage 2 generator holds stage 1's under `STAGE1_G.`. Every size follows
from the tensors' shapes.
"""

from pathlib import Path

from store.errors import ChatPainterError
from trainer import tensor_file
from trainer.systems import Generator
from trainer.systems.chatpainter.config import ModelConfig, Stage
from trainer.systems.chatpainter.discriminator import Discriminator
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings


def read_generator(path: str | Path) -> ChatPainterGenerator:
    """The caption-only generator in a `netG` file of either stage, in eval mode.

    Raises:
        ChatPainterError: the file is missing, holds more than tensors, or is not StackGAN's generator.
    """
    state, origin = tensor_file.read_state(path)
    try:
        stage: Stage = 2 if "STAGE1_G.fc.0.weight" in state else 1
        first = {name.removeprefix("STAGE1_G."): value for name, value in state.items()} if stage == 2 else state
        condition = len(state["ca_net.fc.weight"]) // 2
        channels, joint = first["fc.0.weight"].shape
        model = ModelConfig(
            dialogue="none",
            gf=channels // 128,
            residual_blocks=len({name.split(".")[1] for name in state if name.startswith("residual.")}) or 1,
            condition_dim=condition,
            noise_dim=joint - condition,
        )
        caption_dim = state["ca_net.fc.weight"].shape[1]
        settings = generator_settings(stage, model, caption_dim, None, system=f"stage{stage}", origin=origin)
        generator = tensor_file.build(lambda: ChatPainterGenerator(settings), state, lambda made: made.network)
    except tensor_file.MISFITS as error:
        raise ChatPainterError(f"{path}: not a StackGAN-Pytorch generator ({tensor_file.misfit(error)})") from None
    return generator.eval()


def read_discriminator(path: str | Path) -> Discriminator:
    """The discriminator in a `netD` file of either stage.

    Raises:
        ChatPainterError: as `read_generator`.
    """
    state = tensor_file.read_state(path).tensors
    try:
        df = len(state["encode_img.0.weight"])
        condition = state["get_cond_logits.outlogits.0.weight"].shape[1] - 8 * df
        model = ModelConfig(dialogue="none", df=df, condition_dim=condition)
        stage: Stage = 2 if "get_uncond_logits.outlogits.0.weight" in state else 1
        discriminator = tensor_file.build(lambda: Discriminator(model, stage, "batch"), state)
    except tensor_file.MISFITS as error:
        raise ChatPainterError(f"{path}: not a StackGAN-Pytorch discriminator ({tensor_file.misfit(error)})") from None
    return discriminator


def write_generator(generator: Generator, path: str | Path) -> None:
    """Write `generator` as StackGAN's `netG` state_dict, atomically.

    Raises:
        ChatPainterError: it reads dialogues, standardises, or activates its condition otherwise, for which StackGAN
            has no place.
    """
    if not isinstance(generator, ChatPainterGenerator):
        raise ChatPainterError("the generator of another system has no form in StackGAN-Pytorch's files")
    model = generator.model
    for unfit, what in (
        (model.dialogue != "none", f"dialogue: {model.dialogue}"),
        (model.size != 64, f"size: {model.size}"),
        (model.standardise, "standardise: true"),
        (model.refine and generator.stage == 2, "refine: true"),
        (model.condition_activation != "relu", f"condition_activation: {model.condition_activation}"),
    ):
        if unfit:
            raise ChatPainterError(f"a generator with {what} has no form in StackGAN-Pytorch's files")
    tensor_file.write_state(generator.network, path, generator.settings.get("origin"))


def write_discriminator(discriminator: Discriminator, path: str | Path) -> None:
    """Write a discriminator with BatchNorm as StackGAN's `netD` state_dict, atomically."""
    tensor_file.write_state(discriminator, path)
