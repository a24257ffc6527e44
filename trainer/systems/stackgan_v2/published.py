"""Files of hanzhanggit/StackGAN-v2: state_dicts of DataParallel, netG_N.pth and netD0.pth to netD2.pth.

Their keys begin with `module.`; those of 2017 hold no `num_batches_tracked`. Every size follows from the shapes.
"""

from pathlib import Path

from torch import Tensor

from store.errors import ChatPainterError
from trainer import tensor_file
from trainer.systems import Generator
from trainer.systems.stackgan_v2.config import StackGanV2Model
from trainer.systems.stackgan_v2.discriminator import Discriminator
from trainer.systems.stackgan_v2.networks import StackGanV2Generator, generator_settings

WHAT = "a file of tensors alone"


def read_generator(path: str | Path) -> StackGanV2Generator:
    """The generator in a `netG` file, with or without text, in eval mode.

    Raises:
        ChatPainterError: the file is missing, holds more than tensors, or is not StackGAN++'s generator.
    """
    state, origin = tensor_file.read_state(path, WHAT)
    try:
        model, caption_dim = _model(state)
        settings = generator_settings(model, caption_dim, None, origin=origin)
        generator = tensor_file.build(lambda: StackGanV2Generator(settings), state, lambda made: made.network)
    except tensor_file.MISFITS as error:
        raise ChatPainterError(f"{path}: not a StackGAN-v2 generator ({tensor_file.misfit(error)})") from None
    return generator.eval()


def read_discriminator(path: str | Path, size: int = 64) -> Discriminator:
    """The discriminator in a `netD` file of any branch.

    Args:
        size: side of the first branch's pictures.

    Raises:
        ChatPainterError: as `read_generator`.
    """
    state = tensor_file.read_state(path, WHAT).tensors
    try:
        df, features = len(state["img_code_s16.0.weight"]), state["logits.0.weight"].shape[1]
        joint, condition_dim = state.get("jointConv.0.weight"), None
        if joint is not None:
            condition_dim = joint.shape[1] - features
        branch = 2 if "img_code_s64.0.weight" in state else 1 if "img_code_s32.0.weight" in state else 0
        discriminator = tensor_file.build(lambda: Discriminator(df, size, branch, condition_dim), state)
    except tensor_file.MISFITS as error:
        raise ChatPainterError(f"{path}: not a StackGAN-v2 discriminator ({tensor_file.misfit(error)})") from None
    return discriminator


def write_generator(generator: Generator, path: str | Path) -> None:
    """Write `generator` as StackGAN++'s `netG`, atomically.

    Raises:
        ChatPainterError: it reads dialogues or standardises, for which StackGAN++ has no place.
    """
    if not isinstance(generator, StackGanV2Generator):
        raise ChatPainterError("the generator of another system has no form in StackGAN-v2's files")
    model = generator.model
    for unfit, what in (
        (model.dialogue != "none", f"dialogue: {model.dialogue}"),
        (model.size != 64, f"size: {model.size}"),
        (model.standardise, "standardise: true"),
    ):
        if unfit:
            raise ChatPainterError(f"a generator with {what} has no form in StackGAN-v2's files")
    origin = generator.settings.get("origin")
    tensor_file.write_state(generator.network, path, origin, prefix=tensor_file.PREFIX)


def write_discriminator(discriminator: Discriminator, path: str | Path) -> None:
    """Write a discriminator with BatchNorm as StackGAN++'s `netD`, atomically."""
    tensor_file.write_state(discriminator, path, prefix=tensor_file.PREFIX)


def _model(state: dict[str, Tensor]) -> tuple[StackGanV2Model, int]:
    """Sizes, and the width of a caption's vector (0: no text)."""
    wide, inputs = state["h_net1.fc.0.weight"].shape
    doublings = len({name.split(".")[1] for name in state if name.startswith("h_net1.upsample")})
    blocks = len({name.split(".")[2] for name in state if name.startswith("h_net2.residual.")})
    fc = state.get("ca_net.fc.weight")
    condition_dim = 0 if fc is None else len(fc) // 4
    return StackGanV2Model(
        conditional=fc is not None,
        size=4 << doublings,
        branches=len({name.split(".")[0] for name in state if name.startswith("img_net")}),
        gf=wide // 32 >> doublings,
        residual_blocks=blocks,
        condition_dim=condition_dim or StackGanV2Model().condition_dim,
        noise_dim=inputs - condition_dim,
    ), 0 if fc is None else fc.shape[1]
