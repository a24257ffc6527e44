"""Which checkpoint is best: how far the pictures of held-out texts are from the real ones, without any other network.

The sliced Wasserstein distance of local patches (Karras et al., 2018, section 5): pictures are taken apart into a
Laplacian pyramid down to 16 x 16; at each level 7 x 7 patches of both sets, normalised, are projected onto random
directions, and sorted projections compared. It needs no weights and little time, and falls while pictures get better.
It does not read the texts: what says whether those are painted is `chatpainter-evaluate`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.batches import TrainingData, augment
from trainer.generator import Generator
from trainer.grids import held_out

PICTURES = 512
PATCHES = 64  # of each picture, at each level
PATCH = 7
DIRECTIONS = 256
COARSEST = 16
BATCH = 64


class HeldOutScore:
    """Calling it with a generator paints up to `PICTURES` held-out texts and returns the distance; lower is better.

    The same texts, noises, patches and directions every time, so that checkpoints can be compared.
    """

    def __init__(self, data: TrainingData, size: int) -> None:
        self.batch = held_out(data, PICTURES).batch
        self.real = augment(self.batch.images, size)

    def __call__(self, generator: Generator) -> float:
        """`generator` in eval mode, on any device."""
        device = next(generator.parameters()).device
        stream = torch.Generator().manual_seed(0)
        noise = torch.randn(len(self.batch), generator.noise_dim, generator=stream)
        painted = []
        with torch.inference_mode():
            for start in range(0, len(self.batch), BATCH):
                part = self.batch[start : start + BATCH]
                pictures = generator(
                    part.captions.to(device),
                    None if part.dialogues is None else part.dialogues.to(device),
                    part.rounds,
                    noise=noise[start : start + BATCH].to(device),
                )
                painted.append(pictures[max(pictures)].float().cpu())
            return sliced_wasserstein(self.real, torch.cat(painted))


def sliced_wasserstein(real: Tensor, painted: Tensor, seed: int = 0) -> float:
    """Mean over the pyramid's levels of the distance between two sets of pictures, each (n, 3, s, s)."""
    stream = torch.Generator().manual_seed(seed)
    distances = []
    for ours, theirs in zip(pyramid(real), pyramid(painted)):
        places = torch.randint(ours.shape[-1] - PATCH + 1, (2, len(ours), PATCHES), generator=stream)
        directions = F.normalize(torch.randn(3 * PATCH * PATCH, DIRECTIONS, generator=stream), dim=0)
        first, second = ((patches(level, places) @ directions).sort(0).values for level in (ours, theirs))
        distances.append((first - second).abs().mean())
    return float(torch.stack(distances).mean())


def pyramid(pictures: Tensor) -> list[Tensor]:
    """What each halving takes away, finest first, and last the pictures at `COARSEST`."""
    levels = []
    while pictures.shape[-1] > COARSEST:
        smaller = F.avg_pool2d(pictures, 2)
        levels.append(pictures - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False))
        pictures = smaller
    return [*levels, pictures]


def patches(level: Tensor, places: Tensor) -> Tensor:
    """Patches of (n, 3, s, s) at `places` (2, n, p: top, left), normalised by channel over the set: (n p, 147)."""
    reach = torch.arange(PATCH)
    rows = places[0][:, :, None, None] + reach[:, None]
    columns = places[1][:, :, None, None] + reach
    pictures = torch.arange(len(level))[:, None, None, None]
    found = level.permute(0, 2, 3, 1)[pictures, rows, columns].flatten(0, 1).flatten(1, 2)  # (n p, 49, 3)
    spread = found.std((0, 1), correction=0).clamp(min=1e-6)
    return ((found - found.mean((0, 1))) / spread).flatten(1)
