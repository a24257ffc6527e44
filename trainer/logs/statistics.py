"""Means over a tick, summed on the device."""

import math
from collections.abc import Mapping

import torch

from trainer import distributed


class Statistics:
    """Means over a tick, summed on the device: reporting never makes the host wait, collecting does so once.

    The idea is StyleGAN's training_stats; the count is known on the host, so only sum and sum of squares travel.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._spread: set[str] = set()

    def report(self, values: Mapping[str, torch.Tensor | float]) -> None:
        """Add one step's values; a tensor of any shape counts with all its elements."""
        for name, value in values.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros(2, dtype=torch.float64, device=self._device)
                self._counts[name] = 0
            if isinstance(value, torch.Tensor):
                flat = value.detach().reshape(-1).to(torch.float32)
                self._sums[name] += torch.stack((flat.sum(), flat.square().sum()))
                self._counts[name] += flat.numel()
                if flat.numel() > 1:
                    self._spread.add(name)
            else:
                # A Python number becomes part of the kernel call: no copy from the host.
                self._sums[name][0] += value
                self._counts[name] += 1

    def collect(self) -> dict[str, float]:
        """Means over everything reported by all processes since the last call, and `name.std` where there is a spread.

        Every process must call it at the same point, with the same names reported.
        """
        names = sorted(self._sums)
        if not names:
            return {}
        counts = torch.tensor([self._counts[name] for name in names], dtype=torch.float64, device=self._device)
        sums = torch.stack([self._sums[name] for name in names])
        table = distributed.sum_over_ranks(torch.cat((counts[:, None], sums), dim=1)).tolist()
        result: dict[str, float] = {}
        for name, (count, total, squares) in zip(names, table, strict=True):
            mean = total / count
            result[name] = mean
            if name in self._spread:
                variance = squares / count - mean * mean
                result[name + ".std"] = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
        self._sums, self._counts, self._spread = {}, {}, set()
        return result
