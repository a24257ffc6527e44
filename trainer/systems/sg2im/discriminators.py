"""Is the picture real, and is each object, and what is it? (google/sg2im, discriminators.py), named as in its files."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.systems.sg2im.arch import layers
from trainer.systems.sg2im.layout import crop

HIDDEN = 1024


def cnn(arch: str) -> nn.Sequential:
    """Convolutions without padding, each but the first behind BatchNorm and LeakyReLU: (b, 3, s, s) → (b, c, h, w)."""
    made: list[nn.Module] = []
    before = 3
    for kernel, channels, stride in layers(arch):
        if made:
            made += [nn.BatchNorm2d(before), nn.LeakyReLU(0.2)]
        made.append(nn.Conv2d(before, channels, kernel, stride))
        before = channels
    return nn.Sequential(*made)


class PatchDiscriminator(nn.Module):
    """Of whole pictures.

    Args:
        classify: score patches by one convolution more. sg2im has its weights and never uses them: every channel of
            every patch is a score of its own.
    """

    def __init__(self, arch: str, classify: bool = False) -> None:
        super().__init__()
        self.cnn, self.classify = cnn(arch), classify
        self.classifier = nn.Conv2d(layers(arch)[-1].channels, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """(b, 3, s, s) → scores (b, n)."""
        seen = self.cnn(pictures)
        return cast(Tensor, self.classifier(seen) if self.classify else seen).flatten(1)


class ObjectDiscriminator(nn.Module):
    """Of crops (o, 3, s, s): how real each is (o,), and what it shows (o, classes)."""

    def __init__(self, arch: str, classes: int) -> None:
        super().__init__()
        self.cnn = nn.Sequential(cnn(arch), Mean(), nn.Linear(layers(arch)[-1].channels, HIDDEN))
        self.real_classifier = nn.Linear(HIDDEN, 1)
        self.obj_classifier = nn.Linear(HIDDEN, classes)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """(o, 3, s, s) → (o,), (o, classes)."""
        seen = self.cnn(crops)
        return self.real_classifier(seen)[:, 0], self.obj_classifier(seen)


class CropDiscriminator(nn.Module):
    """`ObjectDiscriminator` of the boxes of pictures."""

    def __init__(self, arch: str, classes: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.discriminator = ObjectDiscriminator(arch, classes)

    def forward(self, pictures: Tensor, objects: Tensor, boxes: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (b, 3, s, s); classes, boxes (4) and pictures of o objects → (o,) how real, () how badly named."""
        real, named = self.discriminator(crop(pictures, boxes, image, self.side))
        return real, F.cross_entropy(named.float(), objects)


class Mean(nn.Module):
    """(o, c, h, w) → (o, c)."""

    def forward(self, features: Tensor) -> Tensor:
        """The mean over places."""
        return features.mean((2, 3))
