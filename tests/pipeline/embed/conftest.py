"""Corpora, the hash encoder and runs of chatpainter-embed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline.embed import unload
from pipeline.embed_cli import main

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))  # the encoder must be a module by name, here and in workers
SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captions", pa.list_(pa.struct([("caption_id", pa.int64()), ("text", pa.string())]))),
        ("rounds", pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))),
        ("visdial_caption", pa.string()),
    ]
)
WORDS = [
    "red",
    "blue",
    "small",
    "large",
    "circle",
    "square",
    "at the top",
    "left",
    "is there",
    "any",
    "how many",
    "yes",
]


def corpus_rows(images: int, seed: int = 0, captions: int = 5, rounds: int = 10) -> list[dict[str, Any]]:
    """Images with mostly 5 captions and 10 rounds, some with fewer, none or more; texts repeat now and then."""
    rng = np.random.default_rng(seed)

    def words(count: int) -> str:
        return " ".join(rng.choice(WORDS, count))

    rows = []
    for image in range(images):
        few = image % 7 == 3
        rows.append(
            {
                "image_id": 1000 + 3 * image,
                "file_name": f"{image}.jpg",
                "width": 8,
                "height": 8,
                "captions": [
                    {"caption_id": image * 10 + k, "text": words(6)}
                    for k in range(int(rng.integers(0, captions + 3)) if few else captions)
                ],
                "rounds": [
                    {
                        "question": words(4) if k % 4 else "any people",
                        "answer": "" if few and k == 3 else words(int(rng.integers(1, 3))),
                    }
                    for k in range(int(rng.integers(0, rounds + 1)) if few else rounds)
                ],
                "visdial_caption": words(5),
            }
        )
    return rows


def write_corpus(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@dataclass
class Place:
    """A folder with params.yaml and a corpus `t`, where chatpainter-embed is run as people run it."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def log_file(self) -> Path:
        return self.path / "hash.log"

    def environment(self, **more: str) -> dict[str, str]:
        paths = os.pathsep.join([str(HERE), str(ROOT)])
        return {**os.environ, "PYTHONPATH": paths, "HASH_LOG": str(self.log_file), **self.environ, **more}

    def command(self, *options: str, out: str = "out") -> list[str]:
        return [sys.executable, "-m", "pipeline.embed_cli", "--split", "t", "--encoders", "hash_encoder",
                "--out", out, *options]  # fmt: skip

    def run(
        self, *options: str, out: str = "out", timeout: float = 180, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options, out=out), cwd=self.path, env=self.environment(**environ),
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def start(self, *options: str, out: str = "out", **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*options, out=out), cwd=self.path, env=self.environment(**environ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def here(self, *options: str) -> Result:
        """The command in this process: quicker, and without a terminal."""
        arguments = [*self.command()[3:-2], "--out", str(self.path / "out"), "--corpus", str(self.path / "data/corpus"),
                     "--params", str(self.path / "params.yaml"), *options]  # fmt: skip
        unload()
        return CliRunner(env={"HASH_LOG": str(self.log_file)}).invoke(main, arguments)

    def wait_for_calls(self, count: int, ended: Callable[[], Any]) -> None:
        """Until the encoder was called `count` times by a run that has not ended."""
        deadline = time.monotonic() + 120
        while not self.log_file.exists() or self.log_file.read_text().count("\n") - self.loads() < count:
            assert not ended(), "the run ended too soon"
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.01)

    def loads(self) -> int:
        return self.log_file.read_text().count('"load ')

    def corpus(self, rows: list[dict[str, Any]]) -> None:
        write_corpus(self.path / "data/corpus/t.parquet", rows)

    def calls(self) -> list[dict[str, Any]]:
        """What the encoder noted since the last look."""
        if not self.log_file.exists():
            return []
        lines = [json.loads(line) for line in self.log_file.read_text().splitlines()]
        self.log_file.unlink()
        return lines


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def make_place(path: Path) -> Place:
    (path / "params.yaml").write_text("embed: {shard_mib: 1, workers: 2}\n")
    return Place(path)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """A corpus of 8 shards: 2 of captions, 5 of turns, 1 of dialogues."""
    return corpus_rows(120)


@pytest.fixture(scope="session")
def whole(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run over `rows` leaves behind."""
    place = make_place(tmp_path_factory.mktemp("whole"))
    place.corpus(rows)
    done = place.here("--scheduler", "sync")
    assert done.exit_code == 0, done.output
    return content(place.path / "out")


@pytest.fixture(scope="session")
def helpers() -> Any:
    """Functions of this file, which tests cannot import."""

    class Helpers:
        corpus_rows: Callable[..., list[dict[str, Any]]] = staticmethod(corpus_rows)
        content: Callable[[Path], dict[str, bytes]] = staticmethod(content)
        write_corpus: Callable[..., None] = staticmethod(write_corpus)
        schema = SCHEMA
        place: Callable[[Path], Place] = staticmethod(make_place)

    return Helpers
