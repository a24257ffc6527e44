"""What is lost of a margin when rounds are reversed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from evidence import margins, order
from evidence.margins import Margin
from tests.support.documents import ROOT


def report(path: Path, title: str, arms: dict[str, dict[int, tuple[float, float, float]]]) -> Path:
    """A report with (score, a copy's, reversed) of arm -> seed, after fewer pictures other ones."""
    trainings: list[dict[str, Any]] = []
    for arm, seeds in arms.items():
        for seed, (score, copy, backwards) in seeds.items():
            figures = {"slots": score, "copy_start_slots": copy, "reversed_slots": backwards}
            points = {"900": dict.fromkeys(figures, 0.5), "1000": figures, "800": {}}
            trainings.append({"arm": arm, "without": None, "seed": seed, "points": points})
        trainings.append({"arm": arm, "without": "carry", "seed": 0, "points": {"1000": {}}})
    path.write_text(json.dumps({"title": title, "trainings": trainings}))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(order.main, [str(word) for word in words])


def rows(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in result.output.splitlines()[2:]]


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ([Margin(0.7, 0.2, 0.4)], 0.6),
        ([Margin(0.7, 0.2, 0.7), Margin(0.3, 0.2, 0.2)], 1 / 6),  # of the means: 0.1 of 0.6 in all
        ([Margin(0.7, 0.6, 0.5)], 2.0),
        ([Margin(0.2, 0.2, 0.1)], None),
        ([Margin(0.1, 0.2, 0.1)], None),
    ],
)
def test_the_share_of_a_margin(found: list[Margin], share: float | None) -> None:
    assert margins.lost(found) == (None if share is None else pytest.approx(share))


def test_domains_apart_and_together(tmp_path: Path) -> None:
    much = report(
        tmp_path / "a.json",
        "much",
        {"painter": {1: (0.7, 0.2, 0.7), 0: (0.7, 0.2, 0.2)}, "other": {0: (0.1, 0.2, 0.1)}},
    )
    little = report(
        tmp_path / "b.json",
        "little",
        {"other": {2: (0.3, 0.2, 0.2)}, "painter": {0: (0.6, 0.5, 0.6), 1: (0.6, 0.5, 0.4)}},
    )
    assert rows(run(much, little)) == [
        ["much", "painter", "2", "0.700", "0.200", "0.450", "50.0 %", "all, 0.0 %"],
        ["much", "other", "1", "0.100", "0.200", "0.100", "–", "–"],
        ["little", "other", "1", "0.300", "0.200", "0.200", "all", "all"],
        ["little", "painter", "2", "0.600", "0.500", "0.500", "all", "0.0 %, all"],
        # Seeds 0 and 1 of both: (0.5 + 0) / (0.5 + 0.1), and (0 + 0.2) / 0.6. The other arm has no seed in both.
        ["together", "painter", "2", "0.650", "0.350", "0.475", "58.3 %", "83.3 %, 33.3 %"],
    ]
    assert len(rows(run(much))) == 2


def test_what_is_no_report_or_has_no_such_score(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    for path in (tmp_path / "a.json", tmp_path / "none.json"):
        result = run(path)
        assert result.exit_code != 0
        assert f"{path}: not a report of python -m evidence" in result.output
        assert "Traceback" not in result.output
    made = report(tmp_path / "b.json", "made", {"painter": {0: (0.7, 0.2, 0.4)}})
    result = run(made, "--score", "object_f1")
    assert result.exit_code != 0
    assert f"{made}: no object_f1 with rounds reversed" in result.output


def test_the_document_has_what_the_command_prints() -> None:
    document = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`python -m evidence\.order ([^`]+)`", document)
    result = run(*(ROOT / report for report in command.split()))
    printed = result.output.splitlines()
    assert printed[0] in document.splitlines()
    assert next(line for line in printed if line.startswith("| together | iterative ")) in document.splitlines()
