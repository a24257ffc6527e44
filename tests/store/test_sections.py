"""setup.cfg names the sections of params.yaml and their types; commands read what it says."""

import ast
import configparser
import importlib.metadata
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from store import params
from store.errors import ParamsError

ROOT = Path(__file__).parents[2]
ROOMS = ("pipeline", "trainer", "painter", "evidence")


def declared() -> dict[str, str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"][params.GROUP].strip().splitlines()
    return {name.strip(): value.strip() for name, value in (line.split("=") for line in lines)}


def test_what_is_installed_is_what_setup_cfg_says() -> None:
    assert {name: point.value for name, point in params.sections().items()} == declared()


def reads() -> list[tuple[str, str, object]]:
    """Every `section(values, "NAME", TYPE, ...)` in the rooms: where it stands, NAME, and TYPE itself."""
    found = []
    for file in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        names: dict[str, str] = {}  # as that file knows them -> in full
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            elif isinstance(node, ast.ClassDef):
                names[node.name] = f"{module}.{node.name}"
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1].lstrip("_") != "section":
                continue
            if len(node.args) > 2 and isinstance(node.args[1], ast.Constant):
                first, dot, rest = ast.unparse(node.args[2]).partition(".")
                kind = pkgutil.resolve_name(names.get(first, f"builtins.{first}") + dot + rest)
                found.append((f"{module}, line {node.lineno}", str(node.args[1].value), kind))
    return found


def test_every_section_is_read_as_the_type_that_is_registered_for_it() -> None:
    found = reads()
    assert len({name for _, name, _ in found}) >= 6
    for where, name, kind in found:
        assert params.sections()[name].load() == kind, where


def test_the_files_that_we_ship_have_registered_sections_alone() -> None:
    for file in (ROOT / "params.yaml", *(ROOT / "profiles").glob("*.yaml")):
        assert params.load(file) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_an_unknown_section_is_refused_without_loading_what_sections_are_made_of(tmp_path) -> None:
    (tmp_path / "params.yaml").write_text("stagee1: {}\n")
    script = (
        "import sys; from store import params\n"
        "try: params.load('params.yaml')\n"
        "except Exception as error: print(error)\n"
        "print(sorted({'torch', 'numpy', 'pyarrow', 'pipeline', 'trainer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["params.yaml: unknown key 'stagee1'; did you mean 'stage1'?", "[]"]


def test_a_project_that_is_not_installed_says_so(monkeypatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    params.sections.cache_clear()
    with pytest.raises(ParamsError, match=r"ChatPainter is not installed.*pip install"):
        params.load(ROOT / "params.yaml")
    params.sections.cache_clear()
