"""A project folder of its own: the real dvc.yaml over a params.yaml small enough for a test."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


def update(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes` laid over it, section by section."""
    return {
        **values,
        **{k: update(values.get(k) or {}, v) if isinstance(v, dict) else v for k, v in changes.items()},
    }


SMALL = {
    "embed": {"workers": 1},
    "world": {"train": 16, "val": 8, "image_size": 96},
    "model": {"gf": 4, "df": 4, "residual_blocks": 1, "condition_dim": 8, "noise_dim": 8, "lstm_hidden": 8},
    "stage1": {"images": 32, "batch": 8, "checkpoint_every": 16, "grid_every": 16, "log_every": 8},
    "stage2": {"images": 16, "batch": 4, "checkpoint_every": 8, "grid_every": 8, "log_every": 4},
}


def stages_run(output: str) -> set[str]:
    """The stages that DVC says it ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


class Project:
    """A folder in which a person would work: params.yaml, dvc.yaml and the commands on the path."""

    def __init__(self, folder: Path, changes: dict[str, Any], profile: Path = ROOT / "params.yaml") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "dvc.yaml", folder)
        (folder / "data" / "weights").mkdir(parents=True)
        shutil.copy(ROOT / "data" / "weights" / "README.md", folder / "data" / "weights")
        self.params(changes, yaml.safe_load(profile.read_text()))

    def params(self, changes: dict[str, Any], values: dict[str, Any] | None = None) -> None:
        """Write params.yaml with `changes` laid over what it says."""
        file = self.folder / "params.yaml"
        values = values if values is not None else yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(update(values, changes), sort_keys=False))

    def run(self, *command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one command here and check its exit status; stdout and stderr come back as one text."""
        bin_folder = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == status, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The sample world's whole road, driven once by `dvc repro`."""
    project = Project(tmp_path_factory.mktemp("road"), SMALL)
    project.run("dvc", "init", "--no-scm", "-q")
    project.run("dvc", "repro")
    return project


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Project:
    """25 real COCO images with real VisDial rounds, in the official layout."""
    folder = tmp_path_factory.mktemp("mini")
    project = Project(
        folder,
        {"raw": "data/raw/mini", **{k: SMALL[k] for k in ("model", "stage1", "stage2")}},
        ROOT / "profiles/mini2014.yaml",
    )
    shutil.copytree(shared_data / "coco_mini", folder / "data/raw/mini", copy_function=shutil.copyfile)
    for path in (folder / "data/raw/mini", *(folder / "data/raw/mini").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return project
