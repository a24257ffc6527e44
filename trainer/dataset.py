"""A store as a torch Dataset, for code that wants one. Training itself gathers whole batches: trainer/batches.py."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

from store import Store


class StoreDataset(Dataset[torch.Tensor]):
    """Rows of a store by position, each (*shape) of the stored dtype.

    A DataLoader asks for a batch at once (`__getitems__`), which is one gather. Workers, forked or spawned, map the
    files themselves.

        loader = DataLoader(StoreDataset("data/embeddings/train/captions"), batch_size=384, shuffle=True)

    Raises:
        StoreError: no such store, or one that is not whole.
        IndexError: a position outside the store.
    """

    def __init__(self, path: str | Path) -> None:
        self.store = Store(path)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.store.take([row])[0])

    def __getitems__(self, rows: Sequence[int]) -> list[torch.Tensor]:
        """(len(rows), *shape), gathered at once and handed out as views."""
        return list(torch.from_numpy(self.store.take(rows)))
