"""docs/architecture.md names files that are there, rooms that there are, and the arrows that are held."""

import itertools
import re
import tomllib
from pathlib import Path

from tests.support.documents import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = ("store", "words", "pipeline", "trainer", "evidence", "painter")


def test_every_path_that_it_names_exists() -> None:
    named = set(re.findall(rf"`((?:{'|'.join(ROOMS)}|tests|benchmarks)/[\w./]*)`", TEXT))
    assert len(named) > 90
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_every_folder_of_code_is_named() -> None:
    folders = {file.parent.relative_to(ROOT) for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    assert sorted(str(folder) for folder in folders if f"{folder}/" not in TEXT) == []


def test_the_arrows_are_those_of_the_contract() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = pyproject["tool"]["importlinter"]["contracts"][0]["layers"]
    assert ", ".join(f"`{layer}`" for layer in layers) in TEXT
    drawn = set(re.findall(r"^  (\w+)(?:\[.*?\])? --> (\w+)$", TEXT, re.MULTILINE))
    above = [[room.strip() for room in layer.split("|")] for layer in layers]
    allowed = {(a, b) for upper, lower in itertools.pairwise(above) for a in upper for b in lower}
    assert drawn == allowed


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    broken = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / Path(target)).exists()
    ]
    assert broken == []
