"""Rows of a store that memory cannot hold: a whole batch is asked of the disk at once.

Whoever reads a map waits for one page after the other, and the kernel reads a page's neighbours with it, which are of
use only if they are still there when their turn comes (`benchmarks/store_cold.py` has what both cost).
"""

import ctypes
import mmap

import numpy as np


class Ahead:
    """Tells the kernel which rows of a map come next, and not to guess.

    Args:
        data: (positions, *shape) the rows as they are mapped, from the beginning of a page.
    """

    def __init__(self, data: np.ndarray) -> None:
        self.address: int = data.ctypes.data
        self.row_bytes = data[:1].nbytes
        if hasattr(mmap, "MADV_RANDOM"):
            libc.madvise(self.address, data.nbytes, mmap.MADV_RANDOM)

    def ask(self, first: np.ndarray, last: np.ndarray) -> None:
        """Have the rows at positions `first` to `last` (n,) read, all at once; does not wait for them."""
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        begin = first * self.row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        length = (last + 1) * self.row_bytes - begin
        for start, size in zip((begin + self.address).tolist(), length.tolist()):
            libc.madvise(start, size, mmap.MADV_WILLNEED)


libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_size_t
libc.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
libc.madvise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
