"""Processes of the tests: whether they live, waiting for something, and some that find each other as torchrun's do."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor a zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that were not waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"PPid:\t{pid}\n" in text:
            found.append(int(status.parent.name))
    return found


def wait_for(condition: Callable[[], object], what: str = "it took too long", timeout: float = 120) -> None:
    """Until the condition holds. The limit only ends a test that hangs: no result depends on it."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Ranks:
    """`world` processes that run target(*arguments) and find each other as torchrun's do.

    They are forked, as importing torch anew would cost each seconds, but from a process that did nothing but import
    it: this one may have threads that no fork survives, autograd's among them. So `target` is a module's function.
    """

    def __init__(self, target: Callable[..., None], world: int, *arguments: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch._dynamo", "trainer.cli", "trainer.loop"])
        self.each = [
            context.Process(target=_rank, args=(target, arguments, rank, world, port), daemon=True)
            for rank in range(world)
        ]
        for process in self.each:
            process.start()

    def signal(self, rank: int, number: signal.Signals) -> None:
        pid = self.each[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def wait(self, timeout: float = 300) -> list[int | None]:
        """Exit statuses, in the order of ranks; a process that one signal ended has the negative of its number."""
        deadline = time.monotonic() + timeout
        for process in self.each:
            process.join(max(0.0, deadline - time.monotonic()))
        statuses = [process.exitcode for process in self.each]
        self.kill()
        return statuses

    def kill(self) -> None:
        for process in self.each:
            process.kill()
            process.join()


def _rank(target: Callable[..., None], arguments: tuple[object, ...], rank: int, world: int, port: int) -> None:
    import torch

    # A pool of OpenMP threads does not live on in a forked process; one thread needs none.
    torch.set_num_threads(1)
    if world > 1:
        here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "RANK": rank, "LOCAL_RANK": rank}
        os.environ.update({name: str(value) for name, value in here.items()})
    target(*arguments)
