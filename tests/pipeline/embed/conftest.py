"""Corpora, the hash encoder and runs of chatpainter-embed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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

    def run(self, *options: str, out: str = "out", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options, out=out), cwd=self.path, env=self.environment(**environ),
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip

    def start(self, *options: str, out: str = "out", **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*options, out=out), cwd=self.path, env=self.environment(**environ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

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
    (tmp_path / "params.yaml").write_text("embed: {shard_mib: 1, workers: 2}\n")
    return Place(tmp_path)


@pytest.fixture(scope="session")
def helpers() -> Any:
    """Functions of this file, which tests cannot import."""

    class Helpers:
        corpus_rows: Callable[..., list[dict[str, Any]]] = staticmethod(corpus_rows)
        content: Callable[[Path], dict[str, bytes]] = staticmethod(content)
        write_corpus: Callable[..., None] = staticmethod(write_corpus)
        schema = SCHEMA

    return Helpers
