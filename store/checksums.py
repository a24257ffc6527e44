"""A checksum for every block of rows, compared when the block is first read: four bytes for 64 KiB.

CRC32 finds every single and double flipped bit of a block, and any other damage but for one in four milliards. It is
no defence against malice, as sha256 is in `chatpainter-store verify`; but it costs a quarter of a second a gigabyte,
once, instead of a pass over the whole store before the first row can be read.
"""

import zlib
from pathlib import Path

import numpy as np

from store.ahead import Ahead
from store.errors import StoreError
from store.files import in_words, inside, sha256_file
from store.manifest import Manifest

CHECKSUMS = "checksums.crc32"
REMEDY = "run the command that makes the store again (undamaged shards are kept)"
_BLOCK = 1 << 16  # bytes


def block_rows(row_bytes: int) -> int:
    """Rows a block: the largest power of two of them that fits into 64 KiB, at least one."""
    return 1 << max(0, (_BLOCK // max(1, row_bytes)).bit_length() - 1)


def blocks_of(data: memoryview, row_bytes: int) -> bytes:
    """CRC32 of every block of a shard's rows, each four bytes, little endian.

    Args:
        data: the rows' bytes.
    """
    size = block_rows(row_bytes) * row_bytes
    sums = [zlib.crc32(data[start : start + size]) for start in range(0, len(data), size)]
    return np.array(sums, "<u4").tobytes()


def read_checksums(folder: Path, manifest: Manifest) -> np.ndarray | None:
    """The CRC32 of every block of all shards in order, (blocks,) uint32; None where the store has none.

    Raises:
        StoreError: the file is missing, or not the one that the manifest names.
    """
    about = manifest.checksums
    if about is None:
        return None
    path = inside(folder, about.file)
    blocks = sum(-(-shard.rows // about.rows) for shard in manifest.shards)
    with in_words(path):
        if not path.is_file():
            raise StoreError(f"{path}: missing; {REMEDY}")
        if sha256_file(path) != about.sha256:
            raise StoreError(f"{path}: damaged or not this store's (checksum differs); {REMEDY}")
        if path.stat().st_size != 4 * blocks:
            raise StoreError(f"{path}: {path.stat().st_size:,} bytes where {blocks:,} blocks need 4 each; {REMEDY}")
        return np.fromfile(path, "<u4")


class Blocks:
    """Which blocks of a store's rows were not yet compared with their checksums.

    Threads may share it: two that come first at once both compare, to the same end.

    Args:
        data: (positions, *shape) the rows of all shards as they are mapped.
        where: (rows,) the position of each; those of a shard follow each other.
        sums: (blocks,) CRC32 of every block of all shards in order.
        ahead: of a store that memory cannot hold.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        data: np.ndarray,
        where: np.ndarray,
        sums: np.ndarray,
        ahead: Ahead | None = None,
    ) -> None:
        assert manifest.checksums is not None
        self.folder, self.shards, self.data, self.where, self.sums = folder, manifest.shards, data, where, sums
        self.ahead = ahead
        self.rows = manifest.checksums.rows
        counts = [-(-shard.rows // self.rows) for shard in manifest.shards]
        self.first_block = np.cumsum([0, *counts])
        self.first_row = np.array([shard.first_row for shard in manifest.shards], np.int64)
        self.shard_rows = np.array([shard.rows for shard in manifest.shards], np.int64)
        of_shard = zip(self.first_block.tolist(), manifest.shards)
        self.block_of = np.concatenate(
            [np.empty(0, np.int32), *(first + np.arange(shard.rows) // self.rows for first, shard in of_shard)]
        ).astype(np.int32)
        self.waiting = np.ones(len(sums), bool)
        self.left: int = len(sums)

    def touch(self, first: np.ndarray, last: np.ndarray | None = None) -> None:
        """Compare the blocks of these rows, or of the runs of rows `first` to `last`, that were not yet compared.

        Raises:
            StoreError: one differs; names the file and the rows.
        """
        blocks = self.block_of.take(first)
        if last is not None:
            counts = self.block_of.take(last) - blocks + 1
            ends = np.cumsum(counts)
            blocks = np.repeat(blocks - ends + counts, counts) + np.arange(counts.sum())
        waiting = self.waiting.take(blocks)
        if not waiting.any():
            return
        compared = np.unique(blocks[waiting])
        first, count = self._rows_of(compared)
        begin = self.where.take(first)
        if self.ahead is not None:
            self.ahead.ask(begin, begin + count - 1)
        for block, position, rows in zip(compared.tolist(), begin.tolist(), count.tolist()):
            if zlib.crc32(self.data[position : position + rows].reshape(-1).view(np.uint8).data) != self.sums[block]:
                raise StoreError(self._damage(block))
            self.waiting[block] = False
        self.left = int(np.count_nonzero(self.waiting))

    def _rows_of(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first row of each block, and how many rows it has."""
        number = np.searchsorted(self.first_block, blocks, "right") - 1
        begin = (blocks - self.first_block[number]) * self.rows
        return self.first_row[number] + begin, np.minimum(self.rows, self.shard_rows[number] - begin)

    def _damage(self, block: int) -> str:
        (first,), (count,) = self._rows_of(np.array([block]))
        shard = self.shards[int(np.searchsorted(self.first_block, block, "right")) - 1]
        return (
            f"{self.folder / shard.file}: damaged (checksum differs, rows {first:,} to {first + count - 1:,}); {REMEDY}"
        )
