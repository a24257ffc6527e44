"""Pictures to regions and one code: Inception v3 under two layers that learn (CNN_ENCODER), or a small network.

Parameters of `InceptionEncoder` bear the names of `image_encoder*.pth`.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from store.errors import ChatPainterError
from trainer.networks.blocks import GROUPS
from trainer.networks.words import ImageFeatures

TRUNK = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)
POOLED_BEFORE = ("Conv2d_3b_1x1", "Mixed_5b")
LAST_REGIONS = "Mixed_6e"
INCEPTION_SIDE = 299


class InceptionEncoder(nn.Module):
    """Any square pictures (B, 3, s, s) in [-1, 1] → regions (B, dim, 17, 17) and codes (B, dim).

    Only `emb_features` and `emb_cnn_code` learn. Its trunk was trained on pictures in [-1, 1], so torchvision's
    `transform_input`, for pictures normalised otherwise, stays off.

    Args:
        align_corners: of the resize to 299. In torch up to 0.3 it was True, which AttnGAN's weights probably saw.
        frozen: BatchNorm uses its running statistics even while the rest trains; as published it does not.

    Raises:
        ChatPainterError: torchvision is not installed.
    """

    def __init__(self, dim: int, align_corners: bool = True, frozen: bool = False):
        super().__init__()
        try:
            from torchvision.models import inception_v3
        except ImportError:
            raise ChatPainterError("Inception needs torchvision: pip install 'chatpainter[metrics]'") from None
        self.align_corners, self.frozen = align_corners, frozen
        whole = inception_v3(weights=None, transform_input=False, init_weights=False, aux_logits=False)
        for name in TRUNK:
            self.add_module(name, getattr(whole, name).requires_grad_(False))
        self.emb_features = nn.Conv2d(768, dim, 1, bias=False)
        self.emb_cnn_code = nn.Linear(2048, dim)

    def train(self, mode: bool = True) -> "InceptionEncoder":
        """As ever, but a frozen trunk stays in eval mode."""
        super().train(mode)
        if self.frozen:
            for name in TRUNK:
                self.get_submodule(name).eval()
        return self

    def forward(self, pictures: Tensor) -> ImageFeatures:
        """See the class."""
        x = F.interpolate(
            pictures, size=(INCEPTION_SIDE, INCEPTION_SIDE), mode="bilinear", align_corners=self.align_corners
        )
        regions = x
        for name in TRUNK:
            if name in POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2)
            x = self.get_submodule(name)(x)
            if name == LAST_REGIONS:
                regions = x
        code = F.avg_pool2d(x, 8).flatten(1)
        return ImageFeatures(self.emb_features(regions), self.emb_cnn_code(code))


class SmallEncoder(nn.Module):
    """Pictures (B, 3, s, s) in [-1, 1] → regions (B, dim, s / 8, s / 8) and codes (B, dim); all of it learns.

    Our own, for worlds whose pictures no published network knows: three halvings, a layer by which a region knows
    its neighbours, and the mean over the picture for the code. GroupNorm, since a picture must have the same code
    whatever it is seen beside: BatchNorm would tell the pictures of a batch apart by the batch.

    Args:
        side: what pictures of other sides are resized to.
        width: channels of the first layer.
    """

    def __init__(self, dim: int, side: int, width: int):
        super().__init__()
        self.side = side
        self.features = nn.Sequential(
            *_layer(3, width, 4, 2),
            *_layer(width, 2 * width, 4, 2),
            *_layer(2 * width, 4 * width, 4, 2),
            *_layer(4 * width, 4 * width, 3, 1),
        )
        self.emb_features = nn.Conv2d(4 * width, dim, 1, bias=False)
        self.emb_cnn_code = nn.Linear(4 * width, dim)

    def forward(self, pictures: Tensor) -> ImageFeatures:
        """See the class."""
        if pictures.shape[-1] != self.side:
            pictures = F.interpolate(pictures, size=(self.side, self.side), mode="bilinear", align_corners=False)
        features = self.features(pictures)
        return ImageFeatures(self.emb_features(features), self.emb_cnn_code(features.mean((2, 3))))


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)
    return [convolution, nn.GroupNorm(math.gcd(GROUPS, outputs), outputs), nn.LeakyReLU(0.2, inplace=True)]


ImageEncoder = InceptionEncoder | SmallEncoder


def initialise(encoder: ImageEncoder) -> None:
    """The two layers that both have as AttnGAN draws them, U(-0.1, 0.1)."""
    for layer in (encoder.emb_features, encoder.emb_cnn_code):
        nn.init.uniform_(layer.weight, -0.1, 0.1)
