"""What stands around the code: workflows, images, metadata and the site say what the tree has."""

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.documents import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
ROOMS = {pattern.rstrip("*") for pattern in SETUP["options.packages.find"]["include"].split()}


def commands(workflow: Path) -> list[str]:
    """What a workflow's steps run."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


def test_workflows_follow_the_schema() -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        *WORKFLOWS,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_there_is(workflow: Path) -> None:
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    said = "\n".join(commands(workflow))
    assert set(re.findall(r"\bmake ([\w./-]+)", said)) <= targets
    for path in re.findall(r"\btests/[\w./]+", said):
        assert (ROOT / path).exists()


def test_every_python_that_is_tested_is_promised() -> None:
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    promised = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
    assert tests["jobs"]["tests"]["strategy"]["matrix"]["python"] == promised


def test_the_image_holds_every_room() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {source for line in re.findall(r"^COPY (.+)", text, re.M) for source in line.split()[:-1]}
    assert copied >= ROOMS
    assert all((ROOT / source).exists() for source in copied)
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split() if line.startswith("!")}
    assert let_in == copied
    extras = {name for found in re.findall(r'"\.\[([\w,]+)\]"', text) for name in found.split(",")}
    assert extras <= set(SETUP["options.extras_require"])


def test_the_two_places_of_metadata_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == SETUP["metadata"]["name"]
    assert project["requires-python"] == SETUP["options"]["python_requires"]
    # Whatever else PEP 621 names is taken from setup.cfg, so nothing can stand in both.
    assert set(project) == {"name", "requires-python", "dynamic"}


def test_the_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == SETUP["metadata"]["license"]
    assert [one["value"] for paper in citation["references"] for one in paper["identifiers"]] == ["arXiv:1802.08216"]


def test_the_site_is_built_and_no_link_is_dead(tmp_path: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        tmp_path / "site",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    named = {path.stem for path in (ROOT / "docs").glob("*.md")}
    built = {path.parent.name for path in (tmp_path / "site").glob("*/index.html")} | {"index"}
    assert named <= built


def test_one_version_stands_everywhere() -> None:
    version = SETUP["metadata"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert newest[1] == version


def test_the_changelog_s_fragments_are_found_by_towncrier() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    kinds = "|".join(kind["directory"] for kind in settings["type"])
    names = {path.name for path in (ROOT / settings["directory"]).iterdir()} - {"README.md"}
    assert {name for name in names if not re.fullmatch(rf"\+[\w-]+\.({kinds})\.md", name)} == set()
    assert settings["start_string"] in (ROOT / settings["filename"]).read_text(encoding="utf-8")
