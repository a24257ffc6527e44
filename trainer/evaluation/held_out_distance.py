"""Which checkpoint is best: how far the pictures of held-out texts are from the real ones, without any other network.

The sliced Wasserstein distance of local patches (Karras et al., 2018, section 5): pictures are taken apart into a
Laplacian pyramid down to 16 x 16; at each level 7 x 7 patches of both sets, normalised, are projected onto random
directions, and sorted projections compared. It needs no weights and little time, and falls while pictures get better.
It does not read the texts: what says whether those are painted is `chatpainter-evaluate`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.feed.augment import augment
from trainer.feed.data import TrainingData
from trainer.logs.grid import HeldOutTexts
from trainer.systems import Generator, device_of

PICTURES = 256
PATCHES = 64  # of each picture, at each level
PATCH = 7
DIRECTIONS = 256
COARSEST = 16
BATCH = 64


class HeldOutDistance:
    """Calling it with a generator paints up to `PICTURES` held-out texts and returns the distance; lower is better.

    The same texts, noises, patches and directions every time, so that checkpoints can be compared. Painted pictures
    are forgotten batch by batch; only their patches are gathered.
    """

    def __init__(self, data: TrainingData, side: int) -> None:
        self.batch = HeldOutTexts.spread_over(data, PICTURES).batch
        self.places = places(side, self.batch.size)
        self.real = self._patches(lambda part: augment(self.batch["images"][part], side))

    def __call__(self, generator: Generator) -> float:
        """`generator` in eval mode, on any device."""
        device = device_of(generator)
        stream = torch.Generator().manual_seed(0)
        noise = torch.randn(self.batch.size, generator.noise_dim, generator=stream)

        def paint(part: slice) -> Tensor:
            pictures = generator.paint(self.batch.rows(part).to(device), noise[part].to(device))
            return pictures[max(pictures)].float().cpu()

        return distance(self.real, self._patches(paint))

    def _patches(self, pictures: Callable[[slice], Tensor]) -> list[Tensor]:
        """Patches of every level, a batch of pictures at a time."""
        parts = [slice(start, start + BATCH) for start in range(0, self.batch.size, BATCH)]
        with torch.inference_mode():
            found = [patches(pictures(part), [level[:, part] for level in self.places]) for part in parts]
            return [torch.cat(level) for level in zip(*found)]


def places(size: int, count: int, seed: int = 0) -> list[Tensor]:
    """Where patches are cut at every level, finest first: top and left of `PATCHES` a picture, (2, count, PATCHES)."""
    stream = torch.Generator().manual_seed(seed)
    sides = [COARSEST]
    while sides[-1] < size:
        sides.append(2 * sides[-1])
    return [torch.randint(side - PATCH + 1, (2, count, PATCHES), generator=stream) for side in reversed(sides)]


def patches(pictures: Tensor, where: list[Tensor]) -> list[Tensor]:
    """Patches of every level of (n, 3, s, s) at `where`, (n p, 49, 3) each."""
    reach = torch.arange(PATCH)
    number = torch.arange(len(pictures))[:, None, None, None]
    found = []
    for level, (top, left) in zip(pyramid(pictures), where):
        rows, columns = top[:, :, None, None] + reach[:, None], left[:, :, None, None] + reach
        found.append(level.permute(0, 2, 3, 1)[number, rows, columns].flatten(0, 1).flatten(1, 2))
    return found


def distance(real: list[Tensor], painted: list[Tensor], seed: int = 0) -> float:
    """Mean over the levels of the sliced Wasserstein distance between two sets of patches, normalised by channel."""
    stream = torch.Generator().manual_seed(seed)
    distances = []
    for ours, theirs in zip(real, painted):
        directions = F.normalize(torch.randn(3 * PATCH * PATCH, DIRECTIONS, generator=stream), dim=0)
        first, second = ((normalised(level).flatten(1) @ directions).sort(0).values for level in (ours, theirs))
        distances.append((first - second).abs().mean())
    return float(torch.stack(distances).mean())


def normalised(patches: Tensor) -> Tensor:
    """Patches (n, 49, 3) with each channel's mean over the whole set at 0 and its deviation at 1."""
    spread = patches.std((0, 1), correction=0).clamp(min=1e-6)
    return (patches - patches.mean((0, 1))) / spread


def pyramid(pictures: Tensor) -> list[Tensor]:
    """What each halving takes away, finest first, and last the pictures at `COARSEST`."""
    levels = []
    while pictures.shape[-1] > COARSEST:
        smaller = F.avg_pool2d(pictures, 2)
        levels.append(pictures - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False))
        pictures = smaller
    return [*levels, pictures]
