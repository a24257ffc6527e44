"""From stored text vectors to a condition: standardising, the dialogue's BiLSTM, Conditioning Augmentation."""

from typing import Literal

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / deviation per dimension, with statistics of the training store kept as buffers."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def fit(self, vectors: Tensor) -> None:
        """Take the statistics of `vectors` (n, dim); a dimension that never changes is only centred."""
        vectors = vectors.double()
        deviation = vectors.std(0, correction=0)
        self.mean.copy_(vectors.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation, 1.0))

    def forward(self, vectors: Tensor) -> Tensor:
        """vectors (..., dim) of any float dtype → the same shape, float32."""
        return (vectors.float() - self.mean) * self.scale


def _bfloat16_lstms() -> bool:
    """Whether this processor has LSTMs in bfloat16: oneDNN's want AVX-512, and end in an error without it."""
    return not torch.backends.mkldnn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class DialogueEncoder(nn.Module):
    """The paper's recurrent encoder: final states of an LSTM each way over the turn vectors.

    A bidirectional LSTM with packing would need the lengths on the host in every iteration. Two LSTMs over the
    padded turns, one of them reading each dialogue from its own last turn, give the same states without that.
    """

    def __init__(self, turn_dim: int, hidden: int):
        super().__init__()
        self.ahead = nn.LSTM(turn_dim, hidden, batch_first=True)
        self.back = nn.LSTM(turn_dim, hidden, batch_first=True)

    def states(self, turns: Tensor, rounds: Tensor) -> Tensor:
        """The state at every turn, each way (B, T, 2 hidden); what lies after the last round means nothing.

        turns and rounds as in `forward`. A turn that leans on another ("make it blue") is understood here.
        """
        ahead, back, reverse = self._both(turns, rounds)
        return torch.cat([ahead, back.gather(1, reverse[..., None].expand_as(back))], 2)

    def forward(self, turns: Tensor, rounds: Tensor) -> Tensor:
        """turns (B, T, turn_dim), rounds (B,) how many of them are real → (B, 2 hidden); no rounds give zeros."""
        ahead, back, _ = self._both(turns, rounds)
        last = (rounds - 1).clamp(min=0)[:, None, None].expand(-1, 1, ahead.shape[2])
        final = torch.cat([ahead.gather(1, last), back.gather(1, last)], 2)[:, 0]
        return final * (rounds > 0)[:, None]

    def _both(self, turns: Tensor, rounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States ahead by turn and back by step, (B, T, hidden) each, and which turn each step back reads (B, T)."""
        positions = torch.arange(turns.shape[1], device=turns.device)
        reverse = ((rounds - 1).clamp(min=0)[:, None] - positions).clamp(min=0)
        backwards = turns.gather(1, reverse[..., None].expand_as(turns))
        if turns.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not _bfloat16_lstms():
            with torch.autocast("cpu", enabled=False):
                return self.ahead(turns.float())[0], self.back(backwards.float())[0], reverse
        return self.ahead(turns)[0], self.back(backwards)[0], reverse


class ConditioningAugmentation(nn.Module):
    """text (B, T) → mu, logvar (B, c) each (paper eq. 1, 2; StackGAN's CA_NET, whose activation clamps both at 0).

    StackGAN++'s and AttnGAN's has gated linear units instead (`glu`), before which `fc` is twice as wide.

    Args:
        beside: width of what stands beside the text, after it, with a layer of its own: while that is zero, the same
            comes out to the bit as without it.
    """

    def __init__(
        self,
        text_dim: int,
        condition_dim: int,
        activation: Literal["relu", "leaky_relu", "none", "glu"],
        beside: int = 0,
    ):
        super().__init__()
        wide = (4 if activation == "glu" else 2) * condition_dim
        self.fc = nn.Linear(text_dim, wide)
        self.beside = nn.Linear(beside, wide, bias=False) if beside else None
        self.activation = {
            "relu": nn.ReLU(),
            "leaky_relu": nn.LeakyReLU(0.2),
            "none": nn.Identity(),
            "glu": nn.GLU(dim=1),
        }[activation]

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """text (B, T + beside) → mu, logvar (B, c) each, never in bfloat16."""
        with torch.autocast(text.device.type, enabled=False):
            text = text.to(self.fc.weight.dtype)
            if self.beside is None:
                x = self.fc(text)
            else:
                dim = self.fc.in_features
                x = self.fc(text[:, :dim].contiguous()) + self.beside(text[:, dim:].contiguous())
            mu, logvar = self.activation(x).chunk(2, 1)
        return mu, logvar


def sample(mu: Tensor, logvar: Tensor, epsilon: Tensor | None) -> Tensor:
    """mu + sigma * epsilon (paper eq. 2); without epsilon the mean itself."""
    return mu if epsilon is None else mu + (0.5 * logvar).exp() * epsilon
