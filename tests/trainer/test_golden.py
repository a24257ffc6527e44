"""Trainings give what they gave: figures written down, and two runs of one machine the same to the bit."""

import json
from pathlib import Path

import pytest

from tests.support import golden
from tests.support.runs import figures

CASES = sorted(golden.cases(Path()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    golden.write_data(folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_training_gives_the_figures_written_down(case: str, data: Path, tmp_path: Path) -> None:
    """Within 1e-5 of each figure's size: processors differ in their last bits."""
    recorded = json.loads(golden.RECORDED.read_text(encoding="utf-8"))
    for name, folder in golden.trained(data, tmp_path, case):
        found = golden.written(folder)
        assert len(found) == len(recorded[name]) == 4
        for ours, before in zip(found, recorded[name]):
            assert ours == pytest.approx(before, rel=1e-5, abs=1e-5), name


def test_two_trainings_are_the_same_to_the_bit(data: Path, tmp_path: Path) -> None:
    folders = [list(golden.trained(data, tmp_path / each, "learning, recurrent")) for each in ("one", "other")]
    for (name, one), (_, other) in zip(*folders):
        assert figures(one) == figures(other), name
        for file in ("generator.safetensors", "generator-best.safetensors", "grids/images-000000000024.png"):
            assert (one / file).read_bytes() == (other / file).read_bytes(), (name, file)
