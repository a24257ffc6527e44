"""A generator that knew no dialogue goes on as it was, with a dialogue beside its words."""

from pathlib import Path
from typing import cast

import torch

from store.errors import ChatPainterError
from trainer.feed.inputs import CAPTIONS
from trainer.systems.attngan.networks import AttnGanGenerator


def silence_dialogue(generator: AttnGanGenerator) -> None:
    """What Conditioning Augmentation reads of the dialogue counts nothing at the start: its columns are zero.

    Attention to turns needs nothing: its gates are zero.
    """
    with torch.no_grad():
        generator.network.ca_net.fc.weight[:, generator.dims[CAPTIONS.name] :] = 0


def begin_with(generator: AttnGanGenerator, path: Path) -> None:
    """`generator` takes over an earlier one's weights, and paints what that paints until it has learned to listen.

    Args:
        path: of a generator of ours, or of a published netG*.pth.

    Raises:
        ChatPainterError: it is not there, or of other sizes.
    """
    from trainer import generator_file
    from trainer.systems.attngan.published import read_generator

    found = read_generator(path) if path.suffix == ".pth" else generator_file.load(path)
    if not isinstance(found, AttnGanGenerator):
        raise ChatPainterError(f"{path}: another system's generator; attngan.generator takes AttnGAN's")
    mine, theirs = generator.state_dict(), found.state_dict()
    fc = "network.ca_net.fc.weight"
    narrow, wide = cast(torch.Tensor, theirs[fc]), mine[fc]
    if narrow.shape[1] < wide.shape[1] and narrow.shape[0] == wide.shape[0]:
        theirs[fc] = torch.cat([narrow, torch.zeros_like(wide[:, narrow.shape[1] :])], 1)
    unfit = [name for name, value in theirs.items() if name not in mine or mine[name].shape != value.shape]
    missing = [name for name in mine if name not in theirs and "turns" not in name and "dialogue" not in name]
    if unfit or missing:
        raise ChatPainterError(
            f"{path}: has other sizes than section attngan asks for ({(unfit + missing)[0]}); give both the same"
        )
    generator.load_state_dict({**mine, **theirs})
