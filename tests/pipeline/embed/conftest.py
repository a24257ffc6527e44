"""Runs of chatpainter-embed with the hash encoder, in folders of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.embed_cli import main
from pipeline.worker import unload
from tests.support.corpora import corpus_rows, write_corpus
from tests.support.folders import content
from tests.support.processes import wait_for

ROOT = Path(__file__).parents[3]
ENCODER = "tests.support.hash_encoder"  # a module by name, here and in workers


@dataclass
class EmbedFolder:
    """A folder with params.yaml and a corpus `t`, where chatpainter-embed is run as people run it."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def log_file(self) -> Path:
        return self.path / "hash.log"

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "HASH_LOG": str(self.log_file), **self.environ, **more}

    def command(self, *options: str, out: str = "out") -> list[str]:
        return [sys.executable, "-m", "pipeline.embed_cli", "--split", "t", "--encoders", ENCODER,
                "--out", out, *options]  # fmt: skip

    def run(
        self, *options: str, out: str = "out", timeout: float = 500, **environ: str
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

        def called() -> bool:
            over = ended()
            assert not over, f"the run ended too soon: {getattr(over, 'output', over)}"
            return self.log_file.exists() and self.log_file.read_text().count("\n") - self.loads() >= count

        wait_for(called, "the run does not get on", timeout=300)

    def go_on(self) -> None:
        """Let the call that HASH_HOLD holds go on."""
        Path(f"{self.log_file}.go").touch()

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
def place(tmp_path: Path) -> EmbedFolder:
    return make_place(tmp_path)


def make_place(path: Path) -> EmbedFolder:
    (path / "params.yaml").write_text("embed: {shard_mib: 1, workers: 2}\n")
    return EmbedFolder(path)


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
