"""Figures of an evaluation beside those that its recipe gave before."""

import json
from pathlib import Path

import yaml
from click.testing import CliRunner, Result

from store import params
from tests.support.documents import ROOT
from trainer.evaluation.expected import main

OURS = ROOT / "expected.yaml"


def compared(tmp_path: Path, found: object, ranges: object, changed: bool = False) -> Result:
    (tmp_path / "params.yaml").write_text("dataset: sample\n" + ("raw: elsewhere\n" if changed else ""))
    values = {"recipe": params.digest({"dataset": "sample"}), "figures": ranges}
    (tmp_path / "expected.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    asked = [str(tmp_path / "expected.yaml"), "--params", str(tmp_path / "params.yaml")]
    return CliRunner().invoke(main, [*asked, "--metrics", str(tmp_path / "metrics.json")])


def test_figures_within_their_ranges_are_counted(tmp_path: Path) -> None:
    done = compared(tmp_path, {"told": 0.98, "kept": 0.9, "other": 1}, {"told": [0.98, 1], "kept": [0, 0.9]})
    assert done.exit_code == 0
    assert done.output.startswith("2 figures of")


def test_every_figure_outside_its_range_is_named(tmp_path: Path) -> None:
    done = compared(tmp_path, {"told": 0.9799, "kept": 0.95}, {"told": [0.98, 1], "kept": [0.9, 1], "gone": [0, 1]})
    assert done.exit_code != 0
    assert "gone: not there, expected 0 to 1; told: 0.9799, expected 0.98 to 1" in done.output


def test_another_recipe_is_not_compared(tmp_path: Path) -> None:
    done = compared(tmp_path, {"told": 0.1}, {"told": [0.98, 1]}, changed=True)
    assert done.exit_code == 0
    assert "not the recipe" in done.output


def test_a_range_upside_down_is_refused(tmp_path: Path) -> None:
    done = compared(tmp_path, {}, {"told": [1, 0]})
    assert done.exit_code != 0
    assert "told: 1 to 0 is no range" in done.output


def test_the_ranges_that_ship_are_of_the_params_that_ship() -> None:
    ours = yaml.safe_load(OURS.read_text(encoding="utf-8"))
    assert ours["recipe"] == params.digest(params.load(ROOT / "params.yaml"))
