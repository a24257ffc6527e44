"""chatpainter-train as people use it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from trainer.cli import main

PARAMS: dict[str, Any] = {
    "splits": ["train", "val"],
    "model": {
        "preset": "tiny", "gf": 4, "df": 2, "residual_blocks": 1, "condition_dim": 4, "noise_dim": 3, "lstm_hidden": 3,
    },
    "stage1": {"preset": "tiny", "images": 8, "batch": 4},
    "stage2": {"preset": "tiny", "images": 4, "batch": 2},
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, make_stores: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_stores(tmp_path / "data", images=10, sizes=(76, 304))
    make_stores(tmp_path / "data", "val", images=4, sizes=(76, 304), seed=1, first_id=5000)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


def test_both_stages_with_nothing_but_defaults(project: Path) -> None:
    for stage, size in (("stage1", 8), ("stage2", 4)):
        result = call(stage, "--log", "tensorboard")
        assert result.exit_code == 0, result.output
        assert (project / "runs" / stage / "generator.safetensors").exists()
        assert (project / "runs" / stage / "grids" / f"images-{size:012d}.png").exists()
        assert (project / "runs" / stage / "tensorboard").is_dir()


def test_steps_and_images_seen_count_from_the_start(project: Path) -> None:
    for arguments, seen in ((["--steps", "1"], 4), (["--images-seen", "8"], 8)):
        result = call("stage1", *arguments, "--log", "tensorboard")
        assert result.exit_code == 0, result.output
        newest = max((project / "runs" / "stage1" / "checkpoints").glob("*.pt"))
        assert newest.name == f"images-{seen:012d}.pt"
    assert call("stage1", "--steps", "1", "--images-seen", "4").exit_code == 2


def test_dry_run_prints_everything_and_leaves_nothing(project: Path) -> None:
    result = call("stage2", "--dry-run")
    assert result.exit_code == 0, result.output
    assert not (project / "runs").exists()
    shown = yaml.safe_load(result.output.split("\n\n")[0])
    assert shown["model"]["gf"] == 4
    assert shown["stage2"]["batch"] == 2
    assert shown["stage2"]["kl_weight"] is not None
    assert "generator with stage 1:" in result.output
    assert "dialogue encoder:" in result.output
    assert "discriminator:" in result.output
    assert "reads: captions (12), images (304 x 304 x 3), turns (up to 10 x 10)" in result.output
    assert "10 images" in result.output
    assert "duration: 4 pictures" in result.output


def test_errors_are_one_line(project: Path) -> None:
    (project / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "stage1": {"bach": 4}}))
    result = call("stage1")
    assert result.exit_code == 1
    assert "did you mean 'batch'" in result.output
    assert len(result.output.strip().splitlines()) == 1
    result = call("stage1", "--params", "nowhere.yaml")
    assert result.exit_code == 1
    assert "nowhere.yaml" in result.output
    result = call("stage2", "--split", "nope")
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1


@pytest.fixture
def netg(tmp_path: Path) -> Path:
    """StackGAN's own file, as DataParallel saved it."""
    import torch

    from tests.support import plain_stackgan as plain

    torch.manual_seed(0)
    state = plain.PlainStage1G(4, 6, 5, 3).state_dict()
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "netG_epoch_1.pth")
    return tmp_path / "netG_epoch_1.pth"


@pytest.mark.parametrize(
    ("into", "back"),
    [
        (("import", "--system", "stackgan"), "export"),
        (("import", "--system", "stage1"), "export"),
        (("import-stackgan",), "export-stackgan"),
    ],
    ids=str,
)
def test_published_in_and_out(netg: Path, tmp_path: Path, into: tuple[str, ...], back: str) -> None:
    import torch

    result = call(*into, str(netg), "--out", str(tmp_path / "g.safetensors"))
    assert result.exit_code == 0, result.output
    assert result.output.strip().endswith("stage1, reads captions of 6 dimensions, paints 64 x 64")
    result = call(back, str(tmp_path / "g.safetensors"), "--out", str(tmp_path / "back.pth"))
    assert result.exit_code == 0, result.output
    before, after = (torch.load(path, weights_only=True) for path in (netg, tmp_path / "back.pth"))
    assert list(before) == list(after)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_cannot_be_imported_is_said_in_one_line(netg: Path, tmp_path: Path) -> None:
    import torch

    state = torch.load(netg, weights_only=True)
    state["module.img.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    (tmp_path / "text.pth").write_text("hello")
    for arguments, words in (
        ((str(tmp_path / "nowhere.pth"),), "No such file"),
        ((str(tmp_path / "text.pth"),), "not a file of tensors alone"),
        ((str(tmp_path / "nan.pth"),), "weights that are not numbers"),
        ((str(netg), "--option", "vocabulary=x"), "no option 'vocabulary'; its files take: none"),
    ):
        result = call("import", "--system", "stackgan", *arguments, "--out", str(tmp_path / "g.safetensors"))
        assert result.exit_code == 1
        assert words in result.output
        assert len(result.output.strip().splitlines()) == 1
        assert not (tmp_path / "g.safetensors").exists()


def test_help_needs_no_torch_and_names_every_option() -> None:
    code = "import sys, trainer.cli; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = call("stage1", "--help").output
    for option in (
        "params",
        "embeddings",
        "images",
        "split",
        "held-out",
        "run",
        "images-seen",
        "steps",
        "fork",
        "dry-run",
    ):
        assert f"--{option}" in shown
