"""Shards made by dask workers: a cluster of this machine's own, or one that exists.

dask is asked for little: to carry a shard's texts to a worker that is free. It may lose finished tasks when a worker
dies and leave futures that never end, so futures are polled, few are in flight at a time, and whoever calls
compares with the disk afterwards.
"""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.worker import EncodedShard, EncoderSource, Lost, Work, make, unload, width
from store.errors import ChatPainterError
from store.machine import cores

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_RESULT_SECONDS = 10
_DESERTED_SECONDS = 45  # a worker that starts anew where all cores are busy takes half a minute


@dataclass(frozen=True)
class Tls:
    """Files that dask's own TLS options name; all three, or none."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Cluster:
    """A Runner over dask, started when first needed.

    Args:
        scheduler: an address, or a scheduler file; None starts workers on this machine, reachable from it alone.
        workers: processes of a cluster of our own; never more than cores.
        gpus: names as in CUDA_VISIBLE_DEVICES; a cluster of our own has one worker for each, however many `workers`.
        idle_seconds: end when no shard was finished for so long.
        wait_seconds: end when there was no worker, or no scheduler, for so long.
        dashboard: serve dask's dashboard (a cluster of our own has none otherwise).
        report: where to write dask's performance report.
    """

    def __init__(
        self,
        scheduler: str | None = None,
        *,
        workers: int = 1,
        gpus: Sequence[str] = (),
        idle_seconds: float = 3600,
        wait_seconds: float = 60,
        dashboard: bool = False,
        report: Path | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.scheduler, self.tls = scheduler, tls
        self.gpus = tuple(gpus)
        self.workers = len(self.gpus) or min(workers, cores())
        # Processes x threads must not exceed the cores; a cluster that exists looks after its own.
        self.threads = max(1, cores() // self.workers)
        self.idle_seconds, self.wait_seconds = idle_seconds, wait_seconds
        self.dashboard, self.report = dashboard, report
        self._client: Any = None
        self._exit = contextlib.ExitStack()
        self._deserted = False

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: Any) -> None:
        self._exit.close()

    @property
    def dashboard_link(self) -> str | None:
        return self.client.dashboard_link if self.dashboard or self.scheduler else None

    @property
    def client(self) -> Any:
        if self._client is None:
            self._exit.enter_context(_quiet())
            self._client = self._connect() if self.scheduler else self._start()
            if self.report:
                from distributed import performance_report

                self._exit.enter_context(performance_report(filename=str(self.report)))
        return self._client

    def _connect(self) -> Any:
        from distributed.security import Security

        assert self.scheduler is not None
        options: dict[str, Any] = {}
        if self.scheduler.endswith(".json"):
            if not Path(self.scheduler).is_file():
                raise ChatPainterError(
                    f"{self.scheduler}: no such file; write it with: dask scheduler --scheduler-file"
                )
            options["scheduler_file"] = self.scheduler
        else:
            options["address"] = self.scheduler
        if self.tls:
            options["security"] = Security(
                tls_ca_file=self.tls.ca,
                tls_client_cert=self.tls.cert,
                tls_client_key=self.tls.key,
                require_encryption=True,
            )
        try:
            return self._exit.enter_context(_client(timeout=min(self.wait_seconds, 30), **options))
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
            raise ChatPainterError(
                f"{self.scheduler}: no dask scheduler answers there ({_first_line(error)}); start one with "
                "`dask scheduler`, or leave out --scheduler to work on this machine"
            ) from None

    def _start(self) -> Any:
        import dask

        settings: dict[str, Any] = {
            f"distributed.nanny.pre-spawn-environ.{name}": self.threads for name in _THREAD_VARIABLES
        }
        # dask has malloc give every large block back to the kernel: each of the encoder's matrices, as large as the
        # ones before it, would be mapped and zeroed anew.
        settings["distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"] = None
        settings["distributed.scheduler.allowed-failures"] = 1  # a shard is tried again in the next round
        before = dict(os.environ)
        with dask.config.set(settings):
            try:
                cluster = self._exit.enter_context(self._local())
                client = self._exit.enter_context(_client(address=cluster, set_as_default=bool(self.report)))
            except (OSError, TimeoutError, RuntimeError) as error:
                raise ChatPainterError(
                    f"this machine: workers cannot be started ({_first_line(error)}); use fewer (--workers), or none: "
                    "--scheduler sync"
                ) from None
        for name in os.environ.keys() - before.keys():  # dask leaves its workers' environment in this process
            del os.environ[name]
        os.environ.update(before)
        return client

    def _local(self) -> Any:
        options: dict[str, Any] = {
            "threads_per_worker": 1,
            "processes": True,
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0" if self.dashboard else None,
            # dask would count the mapped word vectors as the worker's own memory, and kill it.
            "memory_limit": 0,
            "silence_logs": logging.CRITICAL,
        }
        if self.gpus:
            from pipeline.local_gpus import LocalGpus

            return LocalGpus(self.gpus, **options)
        from distributed import LocalCluster

        return LocalCluster(n_workers=self.workers, **options)

    def _stop(self) -> None:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self._exit.close()
        self._client = None

    def width(self, source: EncoderSource) -> int:
        if self.scheduler is None:
            return width(source)
        wake = threading.Event()
        future = self.client.submit(width, source, pure=False)
        future.add_done_callback(lambda _: wake.set())
        watch = _Watch(self)
        while not wake.wait(0.5) and future.status == "pending":
            watch.look()
        if future.status == "finished":
            return int(future.result(timeout=_RESULT_SECONDS))
        raise _permanent(future) or ChatPainterError(f"the encoder could not be loaded on a worker: {_reason(future)}")

    def run(self, work: Iterable[Work]) -> Iterator[EncodedShard | Lost]:
        queue = iter(work)
        alone = self._client is None and self.scheduler is None and not (self.dashboard or self.report)
        if alone and not self._deserted:
            first = list(itertools.islice(queue, 2))
            if len(first) < 2:  # nothing to share out: workers would only take longer to start
                yield from map(make, first)
                return
            queue = itertools.chain(first, queue)
            unload()
        pending: dict[int, Any] = {}
        wake = threading.Event()
        watch = _Watch(self)
        while True:
            # Enough that no worker waits for its next shard, few enough that the scheduler never holds a corpus.
            while len(pending) < 2 * max(1, watch.threads) + 1 and (item := next(queue, None)) is not None:
                key = f"{item.task.path.stem}-{item.task.key[:16]}-{time.time_ns()}"
                future = self.client.submit(make, item, key=key, pure=False)
                future.add_done_callback(lambda _: wake.set())
                pending[item.task.number] = future
            if not pending:
                return
            wake.wait(0.5)
            wake.clear()
            watch.look()
            if self.client.status != "running":
                continue  # it may come back; its tasks, cancelled by now, are then made again
            if self.scheduler is None and watch.alone_seconds > _DESERTED_SECONDS:
                # Workers that die again and again are given up by those who start them.
                yield from (Lost(number, "all workers died") for number in pending)
                self._deserted = True  # what killed them shall not be tried in this process
                self._stop()
                return
            for number, future in list(pending.items()):
                if future.status == "pending":
                    continue
                del pending[number]
                yield self._result(number, future)
                watch.progressed()

    def _result(self, number: int, future: Any) -> EncodedShard | Lost:
        if future.status == "finished":
            try:
                return future.result(timeout=_RESULT_SECONDS)
            except ChatPainterError:
                raise
            except Exception as error:
                return Lost(number, f"its result was lost: {_first_line(error)}")
        if permanent := _permanent(future):
            raise permanent
        return Lost(number, _reason(future))


class _Watch:
    """Ends a run whose scheduler, workers or progress are gone for too long."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.threads = sum(cluster.client.nthreads().values())
        self._alive = self._progress = self._looked = time.monotonic()

    @property
    def alone_seconds(self) -> float:
        """Since when there has been no worker."""
        return self._looked - self._alive

    def progressed(self) -> None:
        self._progress = time.monotonic()

    def look(self) -> None:
        now = time.monotonic()
        if now - self._looked < 1:
            return
        self._looked = now
        client, where = self.cluster.client, self.cluster.scheduler or "this machine"
        running = client.status == "running"
        if running:
            with contextlib.suppress(OSError, TimeoutError):
                self.threads = sum(client.nthreads().values())
                if self.threads:
                    self._alive = now
        if client.status == "closed" or now - self._alive > self.cluster.wait_seconds:
            gone = "has no worker" if running else "does not answer: the scheduler is gone"
            raise ChatPainterError(
                f"{where}: the dask cluster {gone} (waited {now - self._alive:.0f} s); start it and run the same "
                "command again, finished shards are kept"
            )
        if now - self._progress > self.cluster.idle_seconds:
            raise ChatPainterError(
                f"{where}: no shard was finished for {self.cluster.idle_seconds:.0f} s; see the workers' logs, or "
                "allow more with --timeout; run the same command again, finished shards are kept"
            )


def _client(**options: Any) -> Any:
    """A dask client. One that cannot connect is closed at once.

    Left to the garbage collector it would close itself in the middle of whatever comes next, which may be the next
    client taking the lock that it then waits for.
    """
    from distributed import Client

    class ClosingClient(Client):
        def start(self, **timeouts: Any) -> None:
            try:
                super().start(**timeouts)
            except BaseException:
                self.close()  # does nothing where it was closed by what failed
                self._loop_runner.stop()
                raise

    return ClosingClient(**options)


def _permanent(future: Any) -> ChatPainterError | None:
    """The error of a task that failed in a way that people must put right."""
    error = future.exception(timeout=_RESULT_SECONDS) if future.status == "error" else None
    return error if isinstance(error, ChatPainterError) else None


def _reason(future: Any) -> str:
    if future.status != "error":
        return f"dask lost its task ({future.status})"
    error = future.exception(timeout=_RESULT_SECONDS)
    if type(error).__name__ == "KilledWorker":
        return "it killed the worker every time: out of memory? use fewer workers or a smaller embed.shard_mib"
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """dask logs every lost connection with a traceback; what people must know is said elsewhere in one line."""
    import distributed  # noqa: F401  (it sets its loggers' levels when first imported)

    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    loggers = [logging.getLogger(name) for name in [*names, "asyncio"]]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
