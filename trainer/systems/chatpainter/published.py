"""Files of hanzhanggit/StackGAN-Pytorch: plain state_dicts, netG_epoch_N.pth and netD_epoch_last.pth.

Files of 2017 hold no `num_batches_tracked`; a stage 2 generator holds stage 1's under `STAGE1_G.`. Every size follows
from the tensors' shapes.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from store.errors import ChatPainterError, one_line
from store.files import replacing
from trainer import tensor_file
from trainer.systems import Generator as AnyGenerator
from trainer.systems.chatpainter.config import ModelConfig, Stage
from trainer.systems.chatpainter.discriminator import Discriminator
from trainer.systems.chatpainter.networks import Generator, generator_settings

State = dict[str, Tensor]


def read_generator(path: str | Path) -> Generator:
    """The caption-only generator in a `netG` file of either stage, in eval mode.

    Raises:
        ChatPainterError: the file is missing, holds more than tensors, or is not StackGAN's generator.
    """
    state = _read(path)
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
        generator = Generator(
            generator_settings(
                stage, model, state["ca_net.fc.weight"].shape[1], None, system=f"stage{stage}", source=Path(path).name
            )
        )
        _load(generator.network, state)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise ChatPainterError(f"{path}: not a StackGAN-Pytorch generator ({_first_line(error)})") from None
    return generator.eval()


def read_discriminator(path: str | Path) -> Discriminator:
    """The discriminator in a `netD` file of either stage.

    Raises:
        ChatPainterError: as `read_generator`.
    """
    state = _read(path)
    try:
        df = len(state["encode_img.0.weight"])
        condition = state["get_cond_logits.outlogits.0.weight"].shape[1] - 8 * df
        model = ModelConfig(dialogue="none", df=df, condition_dim=condition)
        stage: Stage = 2 if "get_uncond_logits.outlogits.0.weight" in state else 1
        discriminator = Discriminator(model, stage, "batch")
        _load(discriminator, state)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise ChatPainterError(f"{path}: not a StackGAN-Pytorch discriminator ({_first_line(error)})") from None
    return discriminator


def write_generator(generator: AnyGenerator, path: str | Path) -> None:
    """Write `generator` as StackGAN's `netG` state_dict, atomically.

    Raises:
        ChatPainterError: it reads dialogues, standardises, or activates its condition otherwise, for which StackGAN
            has no place.
    """
    if not isinstance(generator, Generator):
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
    _write(generator.network, path)


def write_discriminator(discriminator: Discriminator, path: str | Path) -> None:
    """Write a discriminator with BatchNorm as StackGAN's `netD` state_dict, atomically."""
    _write(discriminator, path)


def _read(path: str | Path) -> State:
    state = tensor_file.load(path, "a file of tensors alone")
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # a checkpoint of a trainer that keeps its epoch beside it
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ChatPainterError(f"{path}: expected a state_dict, a mapping of names to tensors")
    if all(str(name).startswith("module.") for name in state):
        # DataParallel, saved itself, puts its name before every key.
        state = {str(name).removeprefix("module."): value for name, value in state.items()}
    return cast(State, state)


def _load(module: nn.Module, state: State) -> None:
    missing, unexpected = module.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"lacks {missing[:2]}, has unknown {unexpected[:2]}")


def _write(module: nn.Module, path: str | Path) -> None:
    path = Path(path)
    state = {
        name: value.detach().cpu().contiguous()
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be written ({error.strerror})") from None


def _first_line(error: BaseException) -> str:
    """What does not fit, in words."""
    if isinstance(error, KeyError):
        return f"its state_dict lacks {error.args[0]}"
    return one_line(error) or type(error).__name__
