"""StoreDataset: a store through torch's DataLoader."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.stores import write_store
from trainer.dataset import StoreDataset


@pytest.fixture
def rows(tmp_path):
    rows = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float16)
    write_store(tmp_path, rows, {"row": np.arange(50)}, kind="captions", split="t", shards=[20, 30])
    return rows


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_stores_rows(tmp_path, rows, workers):
    loader = DataLoader(StoreDataset(tmp_path), batch_size=7, num_workers=workers)
    got = torch.cat(list(loader))
    assert got.dtype == torch.float16
    np.testing.assert_array_equal(got.numpy(), rows)


def test_one_row(tmp_path, rows):
    data = StoreDataset(tmp_path)
    assert len(data) == 50
    np.testing.assert_array_equal(data[33].numpy(), rows[33])
    with pytest.raises(IndexError):
        data[50]
