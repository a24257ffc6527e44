"""char-CNN-RNN (Reed et al., 2016) with gradients: what `encoders.character_net` computes, as HybridCNNLong.lua and
FixedGRU.lua of reedscot/icml2016 have it, and the joint embedding loss of reedscot/cvpr2016's train_sje_hybrid.lua.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.weights import reed

THRESHOLD = 1e-6  # nn.Threshold's default: what lies at or below it becomes 0
UNIFORM = 0.08  # of all weights and biases at the beginning, to either side of 0


class CharacterNetwork(nn.Module):
    """Texts as numbers of channels → vectors.

    Args:
        widths: of the three convolutions; the last is the recurrence's, too.
        dim: of a text's vector.
    """

    def __init__(self, widths: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        inputs = (reed.ALPHABET, *widths[:2])
        self.convolutions = nn.ModuleList(nn.Conv1d(n, m, reed.KERNEL) for n, m in zip(inputs, widths))
        self.maps = nn.ModuleDict({name: nn.Linear(widths[2], widths[2]) for name in reed.GRU_MAPS})
        self.projection = nn.Linear(widths[2], dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -UNIFORM, UNIFORM)

    def forward(self, channels: Tensor) -> Tensor:
        """(n, 201) int64, ALPHABET where there is nothing → (n, dim)."""
        x = (
            F.one_hot(channels, reed.ALPHABET + 1)[..., : reed.ALPHABET]
            .to(self.projection.weight.dtype)
            .transpose(1, 2)
        )
        for number, convolution in enumerate(self.convolutions):
            x = F.threshold(convolution(x), THRESHOLD, 0.0)
            if number < 2:
                x = F.max_pool1d(x, 3, 3)
        columns = x.transpose(1, 2)
        update, reset, candidate = (self.maps[name](columns) for name in ("input_update", "input_reset", "input"))
        h = torch.tanh(candidate[:, 0])
        total = h
        for t in range(1, columns.shape[1]):
            z = torch.sigmoid(update[:, t] + self.maps["hidden_update"](h))
            r = torch.sigmoid(reset[:, t] + self.maps["hidden_reset"](h))
            h = z * torch.tanh(candidate[:, t] + self.maps["hidden"](r * h)) + (1 - z) * h
            total = total + h
        vectors: Tensor = self.projection(total / columns.shape[1])
        return vectors

    @property
    def steps(self) -> int:
        """Columns that leave the convolutions."""
        columns = reed.LENGTH
        for number in range(3):
            columns = columns - reed.KERNEL + 1
            columns = columns // 3 if number < 2 else columns
        return columns

    def weights(self) -> tuple[tuple[reed.Map, ...], dict[str, reed.Map], reed.Map]:
        """Convolutions, maps and projection as a .t7 file has them: a convolution's columns kernel-major."""
        convolutions = tuple(
            (_array(each.weight.permute(0, 2, 1).flatten(1)), _array(each.bias))
            for each in self.convolutions
            if isinstance(each, nn.Conv1d)
        )
        maps = {name: (_array(each.weight), _array(each.bias)) for name, each in self.maps.items()}
        return convolutions, maps, (_array(self.projection.weight), _array(self.projection.bias))


def _array(value: object) -> np.ndarray:
    assert isinstance(value, Tensor)
    return np.ascontiguousarray(value.detach().float().cpu().numpy())


def joint_embedding_loss(texts: Tensor, pictures: Tensor) -> Tensor:
    """The structured loss of n texts (n, dim) with n pictures (n, dim), each pair of another class.

    Every text that comes nearer to a picture than its own less a margin of 1 counts, and every picture likewise:
    (1/n²) Σ max(0, 1 + F(v, t') - F(v, t)) + max(0, 1 + F(v', t) - F(v, t)), F the inner product.
    """
    scores = pictures @ texts.T
    own = scores.diagonal()
    others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    by_text = F.relu(1 + scores - own[:, None])[others].sum()
    by_picture = F.relu(1 + scores - own[None])[others].sum()
    return (by_text + by_picture) / len(scores) ** 2
