"""Small stores for the trainer's tests, made through the real writer, and processes that train together."""

import itertools
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

from store import StoreWriter

MakeStores = Callable[..., tuple[Path, Path]]


def write_store(path: Path, rows: np.ndarray, index: dict[str, Any], *, shards: int = 2, **about: Any) -> None:
    """`rows` in `shards` shards."""
    kind = about.pop("kind", path.name)
    bounds = np.linspace(0, len(rows), shards + 1).astype(int)
    plan = [(int(a), int(b - a), f"{path.name}-{a}") for a, b in itertools.pairwise(bounds)]
    dataset = "images" if kind == "images" else "vectors"
    with StoreWriter(
        path, kind=kind, split="train", shape=rows.shape[1:], dtype=str(rows.dtype), dataset=dataset, made_from=about
    ) as writer:
        for number in writer.plan(plan):
            first, count, key = plan[number]
            writer.write_shard(number, rows[first : first + count], key)
        writer.commit(pyarrow.table(index))


@pytest.fixture(scope="session")
def make_stores() -> MakeStores:
    """Write captions, turns, dialogues and images of a small made-up split, in the folders that a run expects.

    Returns (folder/embeddings/SPLIT, folder/images/SPLIT/SIZE of the first size).
    Every vector holds its own row number in element 0, its image in element 1; every picture is full of noise but
    for pixel (0, 0), which holds its image's position.
    """

    def make(
        folder: Path,
        split: str = "train",
        *,
        images: int = 24,
        first_id: int = 1000,
        captions: Sequence[int] = (5, 1, 6, 7),
        rounds: Sequence[int] = (10, 3, 1),
        caption_dim: int = 12,
        turn_dim: int = 10,
        sizes: Sequence[int] = (76,),
        dtype: str = "float16",
        seed: int = 0,
        without_dialogue: Sequence[int] = (),
        identity: str = "one",
        corpus: str = "c0",
        shards: int = 2,
    ) -> tuple[Path, Path]:
        random = np.random.default_rng(seed)
        embeddings, pictures_of = folder / "embeddings" / split, folder / "images" / split
        ids = first_id + 7 * random.permutation(images)
        per_caption = np.resize(captions, images)
        talking = [i for i in range(images) if i not in without_dialogue]
        per_round = np.resize(rounds, images)[talking]
        about = {"corpus": corpus, "encoder": {"name": identity, "sha256": identity}, "text": {"turn": "q+a"}}

        def vectors(owners: np.ndarray, dim: int) -> np.ndarray:
            rows = random.normal(size=(len(owners), dim)).astype(dtype)
            rows[:, 0], rows[:, 1] = np.arange(len(owners)), owners
            return rows

        owners = np.repeat(np.arange(images), per_caption)
        write_store(
            embeddings / "captions",
            vectors(owners, caption_dim),
            {
                "row": np.arange(len(owners)),
                "image_id": ids[owners],
                "caption_id": 10 * np.arange(len(owners)),
                "text": [f"caption {row} of image {ids[owner]}" for row, owner in enumerate(owners)],
            },
            shards=shards,
            **about,
        )
        turns = np.repeat(talking, per_round)
        first = np.cumsum(per_round) - per_round
        write_store(
            embeddings / "turns",
            vectors(turns, turn_dim),
            {
                "row": first,
                "image_id": ids[talking],
                "rounds": per_round.astype(np.int32),
                "texts": [[f"round {r} of image {ids[i]}" for r in range(n)] for i, n in zip(talking, per_round)],
            },
            shards=1,
            **about,
        )
        write_store(
            embeddings / "dialogues",
            vectors(np.array(talking), turn_dim),
            {
                "row": np.arange(len(talking)),
                "image_id": ids[talking],
                "text": [f"dialogue of image {ids[i]}" for i in talking],
            },
            shards=shards,
            **about,
        )
        for size in sizes:
            pictures = random.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
            pictures[:, 0, 0] = np.arange(images)[:, None]
            # Another order than the captions': alignment is by image_id.
            order = random.permutation(images)
            write_store(
                pictures_of / str(size),
                pictures[order],
                {
                    "row": np.arange(images),
                    "image_id": ids[order],
                    "file_name": [f"{ids[i]}.jpg" for i in order],
                },
                kind="images",
                shards=shards,
                resampling="box",
            )
        return embeddings, pictures_of / str(sizes[0])

    return make


class Processes:
    """Processes that find each other as torchrun's do. They are forked: importing torch anew would cost each 10 s."""

    def __init__(self, target: Callable[..., None], world: int, *arguments: object) -> None:
        import torch._dynamo  # noqa: F401  (the first step of an optimiser imports it; here all inherit it)

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        self.each = [
            context.Process(target=_member, args=(target, arguments, rank, world, port), daemon=True)
            for rank in range(world)
        ]
        for process in self.each:
            process.start()

    def signal(self, rank: int, number: signal.Signals) -> None:
        pid = self.each[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def wait(self, timeout: float = 120) -> list[int | None]:
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


def _member(target: Callable[..., None], arguments: tuple[object, ...], rank: int, world: int, port: int) -> None:
    import torch

    # A pool of OpenMP threads does not live on in a forked process; one thread needs none.
    torch.set_num_threads(1)
    if world > 1:
        here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "RANK": rank, "LOCAL_RANK": rank}
        os.environ.update({name: str(value) for name, value in here.items()})
    target(*arguments)


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Processes]]:
    """launch(function, world, *arguments): `world` processes that run the function; none outlives the tests."""
    started: list[Processes] = []

    def start(target: Callable[..., None], world: int, *arguments: object) -> Processes:
        started.append(Processes(target, world, *arguments))
        return started[-1]

    yield start
    for processes in started:
        processes.kill()
