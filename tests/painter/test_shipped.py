"""The model that ships with the package: it is whole, it paints what it painted, and it is there when no run is."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from painter import Painter, models, shipped
from painter.cli import main
from store.files import sha256_file

CLOSE = 3
"""Levels of 255 by which a pixel may move between machines and versions of torch."""


@pytest.fixture(scope="module")
def demo() -> Painter:
    return Painter.from_run(shipped.FOLDER)


def test_its_files_are_those_of_its_making() -> None:
    listed = dict(line.split("  ")[::-1] for line in (shipped.FOLDER / shipped.SUMS).read_text().splitlines())
    there = {path.relative_to(shipped.FOLDER).as_posix() for path in shipped.FOLDER.rglob("*") if path.is_file()}

    assert there - {shipped.SUMS, ".lock"} == listed.keys()
    for name, digest in listed.items():
        assert sha256_file(shipped.FOLDER / name) == digest, name
    assert sum((shipped.FOLDER / name).stat().st_size for name in there) < shipped.LARGEST


def test_paints_what_it_painted_when_it_was_made(demo: Painter) -> None:
    expected = np.asarray(Image.open(shipped.FOLDER / shipped.GOLDEN).convert("RGB")).astype(int)

    painted = shipped.golden(demo).astype(int)

    assert painted.shape == (256, 256 * len(shipped.PAINTED), 3)
    assert np.abs(painted - expected).max() <= CLOSE


def test_its_golden_picture_shows_what_was_said() -> None:
    """Colours in the middle of the four places of the second picture, whose every place was spoken of."""
    picture = np.asarray(Image.open(shipped.FOLDER / shipped.GOLDEN).convert("RGB"))[:, 256:512].astype(int)
    wanted = {(72, 72): (220, 40, 40), (72, 184): (40, 85, 220), (184, 72): (40, 160, 70), (184, 184): (212, 188, 146)}

    for (row, column), colour in wanted.items():
        seen = picture[row - 4 : row + 4, column - 4 : column + 4].mean((0, 1))
        assert np.abs(seen - colour).max() < 60, (row, column)


def test_paints_where_there_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Painter) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(main, ["a large red circle at the top left", "--plain", "-o", "one.png"])

    assert result.exit_code == 0, result.output
    assert result.stderr == f"{shipped.ABOUT}; name another with --run\n"
    assert result.stdout == "painted one.png\n"
    assert (np.asarray(Image.open("one.png")) == demo.paint("a large red circle at the top left")[0]).all()


def test_a_run_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert models.find(None) == models.SHIPPED
    assert models.choice([]) == [models.SHIPPED]
    for stage in ("stage1", "stage2"):
        (tmp_path / "runs" / stage).mkdir(parents=True)
        (tmp_path / "runs" / stage / "generator.safetensors").touch()
        assert models.find(None) == models.Model(stage, Path("runs") / stage)
    assert models.choice([]) == [models.Model("stage2", Path("runs/stage2")), models.SHIPPED]
    one, two = Path("a/model"), Path("b/model")
    assert [model.name for model in models.choice([one, two, Path("runs/stage1")])] == ["model 1", "model 2", "stage1"]


def test_says_what_it_knows() -> None:
    assert shipped.ABOUT == (
        "the shipped sample model, which knows small and large circles, squares and triangles in red, orange, yellow, "
        "green, blue and purple, at four places on sand, stone, earth and snow"
    )
