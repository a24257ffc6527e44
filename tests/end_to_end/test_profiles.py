"""Every profile has what the stages of dvc.yaml ask of it, and numbers that the commands take."""

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from store import params
from trainer import systems

ROOT = Path(__file__).parents[2]
PROFILES = (ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml")))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_no_stage_lacks_a_number(path: Path) -> None:
    """`dvc repro` stops at a stage of which params.yaml lacks one."""
    values: Any = params.load(path)
    stages = set(STAGES) - ({"world"} if not values["worlds"] else set())
    if "stage2" not in values:  # such a profile ends in 64 x 64
        assert 304 not in values["images"]["sizes"]
        stages -= {"stage2"}
    for stage in stages:
        for name in STAGES[stage].get("do", STAGES[stage])["params"]:
            assert reduce(lambda part, key: part[key], name.split("."), values) is not None, (stage, name)
    for name in set(systems.SYSTEMS) & set(values):
        systems.find(name).configure(values, str(path))
