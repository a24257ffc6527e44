"""Files of taoxugit/AttnGAN: bird_AttnGAN2.pth, coco_AttnGAN2.pth, bird_AttnDCGAN2.pth, netG_epoch_N.pth, netD0.pth.

Plain state_dicts without `num_batches_tracked`; of a generator the averaged weights. Every size follows from the
tensors' shapes.
"""

import re
from pathlib import Path

from store.errors import ChatPainterError, one_line
from trainer import tensor_file
from trainer.systems import Generator
from trainer.systems.attngan.config import AttnGanModel
from trainer.systems.attngan.discriminator import Discriminator
from trainer.systems.attngan.networks import AttnGanGenerator, generator_settings

_UNFIT = (KeyError, ValueError, RuntimeError, IndexError)


def read_generator(path: str | Path) -> AttnGanGenerator:
    """The generator in a `netG` file, in eval mode; it reads captions and words of DAMSM's text encoder.

    Raises:
        ChatPainterError: the file is missing, holds more than tensors, or is not AttnGAN's generator.
    """
    state, origin = tensor_file.read_state(path)
    try:
        branches = sum(re.fullmatch(r"h_net\d\.upsample(1?)\.1\.weight", name) is not None for name in state)
        doublings = sum(re.fullmatch(r"h_net1\.upsample\d\.1\.weight", name) is not None for name in state)
        wide, code = state["h_net1.fc.0.weight"].shape
        condition, caption_dim = len(state["ca_net.fc.weight"]) // 4, state["ca_net.fc.weight"].shape[1]
        contexts = [value for name, value in state.items() if name.endswith(".att.conv_context.weight")]
        blocks = {name.split(".")[2] for name in state if name.startswith("h_net2.residual.")}
        model = AttnGanModel(
            size=4 << doublings,
            branches=branches,
            gf=wide // 32 >> doublings,
            residual_blocks=len(blocks),
            condition_dim=condition,
            noise_dim=code - condition,
            only_last="img_net.img.0.weight" in state,
        )
        word_dim = contexts[0].shape[1] if contexts else caption_dim
        generator = AttnGanGenerator(generator_settings(model, caption_dim, word_dim, None, origin=origin))
        tensor_file.fit(generator.network, state)
    except _UNFIT as error:
        raise ChatPainterError(f"{path}: not AttnGAN's generator ({_said(error)})") from None
    return generator.eval()


def write_generator(generator: Generator, path: str | Path) -> None:
    """Write `generator` as AttnGAN's `netG`, atomically.

    Raises:
        ChatPainterError: it reads dialogues or standardises, for which AttnGAN has no place.
    """
    if not isinstance(generator, AttnGanGenerator):
        raise ChatPainterError("the generator of another system has no form in AttnGAN's files")
    model = generator.model
    for unfit, what in (
        (model.dialogue != "none", f"dialogue: {model.dialogue}"),
        (model.standardise, "standardise: true"),
    ):
        if unfit:
            raise ChatPainterError(f"a generator with {what} has no form in AttnGAN's files")
    tensor_file.write_state(generator.network, path, generator.settings.get("origin"))


def read_discriminator(path: str | Path) -> Discriminator:
    """The discriminator in a `netD` file, of 64, 128 or 256 pixels.

    Raises:
        ChatPainterError: as `read_generator`.
    """
    state = tensor_file.read_state(path).tensors
    try:
        df = len(state["img_code_s16.0.weight"])
        branch = 2 if "img_code_s64.0.weight" in state else 1 if "img_code_s32.0.weight" in state else 0
        sentence_dim = state["COND_DNET.jointConv.0.weight"].shape[1] - 8 * df
        unconditional = "UNCOND_DNET.outlogits.0.weight" in state
        network = Discriminator(df, 64, branch, sentence_dim, unconditional=unconditional)
        tensor_file.fit(network, state)
    except _UNFIT as error:
        raise ChatPainterError(f"{path}: not AttnGAN's discriminator ({_said(error)})") from None
    return network


def write_discriminator(network: Discriminator, path: str | Path) -> None:
    """Write a discriminator with BatchNorm as AttnGAN's `netD`, atomically."""
    tensor_file.write_state(network, path)


def _said(error: BaseException) -> str:
    """What does not fit, in words."""
    if isinstance(error, KeyError):
        return f"its state_dict lacks {error.args[0]}"
    return one_line(error) or type(error).__name__
