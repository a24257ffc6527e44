"""A generator that reads nothing paints from noise alone."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from painter import cli
from painter import noise as alone
from painter.cli import main
from painter.painter import Painter
from store.errors import ChatPainterError
from tests.support.worlds import untrained_generator
from trainer import generator_file
from trainer.feed.augment import to_uint8
from trainer.systems.stackgan_v2.config import StackGanV2Model
from trainer.systems.stackgan_v2.networks import StackGanV2Generator, generator_settings


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An untrained generator of pictures of 16 and 32."""
    torch.manual_seed(0)
    model = StackGanV2Model(conditional=False, size=16, branches=2, gf=4, noise_dim=5)
    generator_file.save(StackGanV2Generator(generator_settings(model, 0, None)), tmp_path / "generator.safetensors")
    return tmp_path


def painted(run: Path, *args: str) -> Any:
    return CliRunner().invoke(main, ["noise", "--run", str(run), "-o", str(run / "out.png"), *args])


def test_pictures_are_those_of_their_own_noise(run: Path) -> None:
    generator = alone.load(run)
    pictures = alone.paint(generator, 20, seed=4)
    assert pictures.shape == (20, 32, 32, 3)
    assert (pictures[:3] == alone.paint(generator, 3, seed=4)).all()
    assert (pictures[0] != pictures[1]).any()
    row = torch.from_numpy(np.random.default_rng([4, 7]).standard_normal((1, 5)).astype(np.float32))
    with torch.no_grad():
        expected = to_uint8(generator.paint({}, row)[32])[0].numpy()
    np.testing.assert_allclose(pictures[7].astype(int), expected.astype(int), atol=1)
    still = alone.paint(generator, 2, seed=4, truncation=0.0)
    assert (still[0] == still[1]).all()


def test_the_command_writes_rows_of_eight(run: Path) -> None:
    result = painted(run, "-n", "11", "--seed", "2")
    assert result.exit_code == 0, result.output
    assert f"painted {run / 'out.png'}" in result.output
    with Image.open(run / "out.png") as sheet:
        assert 8 * 192 < sheet.width < 9 * 192
        assert 2 * 192 < sheet.height < 3 * 192
        assert sheet.getpixel((sheet.width - 100, sheet.height - 100)) == (255, 255, 255)  # the second row holds three


def test_each_command_says_which_generators_it_paints_with(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ChatPainterError, match="paints from noise alone; use chatpainter-paint noise"):
        Painter.from_run(run)
    generator_file.save(untrained_generator(), tmp_path / "told.safetensors")
    refused = painted(run, "--run", str(tmp_path / "told.safetensors"))
    assert refused.exit_code == 1
    assert "paints what is said (captions, turns), not from noise alone" in refused.output
    assert painted(run, "-o", str(run / "out.gif")).exit_code == 2
    assert not (run / "out.gif").exists()


def test_other_processes_are_considered(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    monkeypatch.setattr(cli, "considerate", lambda device: entered.append(device) or nullcontext())
    assert painted(run, "-n", "1").exit_code == 0
    assert entered == ["cpu"]
