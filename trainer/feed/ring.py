"""Batches gathered and moved to the device while the last one trains."""

import threading
import time

import torch

from store.errors import ChatPainterError
from trainer.feed.data import TrainingData
from trainer.feed.inputs import Batch
from trainer.feed.sampler import Rows, rows_for


class BatchRing:
    """Batches of `rows_for` on the device, for ever, starting after `images_seen` images.

    A thread or two gather into a ring of preallocated batches while the device works; for CUDA these are pinned and a
    side stream copies them. The tensors of a batch belong to the ring again when the next batch is asked
    for; a caller that keeps one longer clones it.

    Raises:
        ChatPainterError: the batch is larger than the data or does not divide among the processes.
    """

    def __init__(
        self,
        data: TrainingData,
        batch: int,
        *,
        seed: int,
        images_seen: int = 0,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
        depth: int = 3,
        threads: int = 2,
    ) -> None:
        if batch > len(data):
            raise ChatPainterError(f"a batch of {batch} is larger than the data ({data.report()}); lower the batch")
        if batch % world:
            raise ChatPainterError(f"a batch of {batch} does not divide among {world} processes; make it a multiple")
        self._data, self._batch, self._seed, self._start = data, batch, seed, images_seen
        self._rank, self._world = rank, world
        self._slots = [_Slot(data, batch // world, torch.device(device)) for _ in range(depth)]
        self._ready: set[int] = set()
        self._claimed = self._given = 0  # batches that a thread has taken up, that the caller has had
        self._closed = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._waited = 0.0
        threading.Thread(target=data.read_ahead, daemon=True, name="read ahead").start()
        self._threads = [threading.Thread(target=self._work, daemon=True, name="gather") for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> "BatchRing":
        return self

    def __next__(self) -> Batch:
        began = time.perf_counter()
        with self._changed:
            number = self._given
            if number:
                self._slots[(number - 1) % len(self._slots)].release()
            self._given += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: number in self._ready or self._failure is not None or self._closed)
            if number not in self._ready:
                raise self._failure or StopIteration
            self._ready.remove(number)
        batch = self._slots[number % len(self._slots)].receive()
        self._waited += time.perf_counter() - began
        return batch

    def take_wait(self) -> float:
        """Seconds that the caller has waited for data since this was last asked."""
        waited, self._waited = self._waited, 0.0
        return waited

    def close(self) -> None:
        """Stop the threads and let go of the buffers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> "BatchRing":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    number, self._claimed = self._claimed, self._claimed + 1
                    # Its slot held batch `number - depth`, which the caller gives back on asking for the one after.
                    free = number - len(self._slots) + 2 if number >= len(self._slots) else 0
                    while not self._closed and self._given < free:
                        self._changed.wait()
                    if self._closed:
                        return
                seen = self._start + number * self._batch
                rows = rows_for(self._seed, seen, self._batch, len(self._data), self._rank, self._world)
                self._slots[number % len(self._slots)].fill(self._data, rows)
                with self._changed:
                    self._ready.add(number)
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()


class _Slot:
    """One place of the ring: a host batch and, for CUDA, the device batch that it is copied to."""

    def __init__(self, data: TrainingData, size: int, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._host = data.new_batch(size, pinned=self._cuda)
        self._here = self._host
        if self._cuda:
            self._stream = torch.cuda.Stream(device)
            self._copied, self._used = torch.cuda.Event(), torch.cuda.Event()
            self._here = self._host.map(lambda tensor: torch.empty_like(tensor, device=device))

    def fill(self, data: TrainingData, rows: Rows) -> None:
        """Called by a gathering thread once the slot is free."""
        if not self._cuda:
            data.gather(rows, out=self._host)
            return
        self._copied.synchronize()  # the last copy may still read the host batch
        data.gather(rows, out=self._host)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used)  # the last step may still read the device batch
            self._here.copy_(self._host)
            self._copied.record()

    def receive(self) -> Batch:
        """Called by the training thread: its stream waits for the copy, the thread itself does not."""
        if self._cuda:
            torch.cuda.current_stream().wait_event(self._copied)
        return self._here

    def release(self) -> None:
        """Called by the training thread when it has queued all work on the batch."""
        if self._cuda:
            self._used.record()
