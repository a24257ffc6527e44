"""Pictures of a generator that reads nothing, such as StackGAN++ of dogs, cats or rooms: noise alone decides."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from store.errors import ChatPainterError

if TYPE_CHECKING:
    from trainer.systems import Generator

COLUMNS = 8


def load(path: str | Path, device: str = "cpu") -> "Generator":
    """The generator of a run's folder or of a generator file, if it paints from noise alone.

    Raises:
        ChatPainterError: there is none, or it reads something.
    """
    from painter.painter import generator_file
    from store import devices
    from trainer import generator_file as files
    from trainer import systems

    file = generator_file(path)
    generator = files.load(file, devices.choose(device))
    systems.require_pictures(generator, file)
    if generator.inputs:
        read = ", ".join(one.name for one in generator.inputs)
        raise ChatPainterError(f"{file}: paints what is said ({read}), not from noise alone; say what to paint")
    return generator


def paint(generator: "Generator", count: int, seed: int = 0, truncation: float = 1.0) -> np.ndarray:
    """(count, s, s, 3) uint8, the largest pictures; picture i depends on the seed and i alone."""
    import torch

    from painter.painter import AT_ONCE, normal
    from trainer.feed.augment import to_uint8
    from trainer.systems import device_of

    side = max(generator.names)
    noise = normal(generator.noise_dim, count, seed, truncation).to(device_of(generator))
    with torch.inference_mode():
        painted = [to_uint8(generator.paint({}, some)[side]).cpu().numpy() for some in noise.split(AT_ONCE)]
    return np.concatenate(painted)


def sheet(pictures: np.ndarray, out: Path) -> None:
    """(n, s, s, 3) uint8 in rows of `COLUMNS`, as a PNG.

    Raises:
        ChatPainterError: the file cannot be written.
    """
    from trainer.logs.grid import write_grid

    write_grid([pictures[start : start + COLUMNS] for start in range(0, len(pictures), COLUMNS)], out)
