"""Every command line that the documents show names a command, subcommand, module and options that exist."""

import importlib
import importlib.metadata
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.support.documents import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = re.compile(
    r"(chatpainter-\w+|python -m (?:benchmarks|evidence|trainer|pipeline|painter|store)\S*|torchrun)\b"
)
SCRIPTS = {
    point.name: point
    for point in importlib.metadata.entry_points(group="console_scripts")
    if point.name.startswith("chatpainter-")
}
ADDED = {("chatpainter-prepare", "described"), ("chatpainter-train", "regression")}  # by docs/extending.md


def command_lines(document: Path) -> Iterator[tuple[str, str]]:
    """(where, command line): in blocks of code, and in `code` within a sentence."""
    text = re.sub(r"\\\n\s*", "", document.read_text(encoding="utf-8"))
    for line in text.splitlines():
        pieces = re.findall(r"`([^`]+)`", line) or [line.removeprefix("$ ").strip().removeprefix("> ")]
        for piece in pieces:
            for command in re.split(r"\s*(?:&&|\|\||;)\s*", piece):
                command = re.sub(r"^(?:[A-Z_]+=\S+ )+|^(?:\.venv/bin/|srun )", "", command)
                if PROGRAM.match(command):
                    yield f"{document.name}: {command}", command


LINES = [one for document in DOCUMENTS for one in command_lines(document)]


def words(command: str) -> list[str]:
    """The words of a command line, without what is redirected or remarked."""
    command = re.split(r"\s+[#>]|\s{2,}\(", command)[0].replace("…", " ").replace(" | ", " ")
    return shlex.split(command.replace("'", "\\'") if command.count("'") % 2 else command)


def options_of(command: click.Command) -> set[str]:
    options = (one for one in command.params if isinstance(one, click.Option))
    return {name for one in options for name in (*one.opts, *one.secondary_opts)}


def check(command: click.Command, given: list[str], program: str) -> None:
    """Its subcommand, if it has some, and every option of `given` are known."""
    known = options_of(command) | {"-h", "--help"}
    if isinstance(command, click.Group):
        named = [word for word in given if word in command.commands]
        # chatpainter-paint takes a caption where another command has the name of a subcommand.
        first = next((word for word in given if re.fullmatch(r"[a-z][a-z-]*\d?", word)), None)
        if first is not None and program != "chatpainter-paint":
            assert first in command.commands or (program, first) in ADDED, f"{program} has no command {first}"
        several = [command.commands[named[0]]] if named else list(command.commands.values())
        # chatpainter-encoders train has commands of its own.
        several += [inner for one in several if isinstance(one, click.Group) for inner in one.commands.values()]
        known = known.union(*map(options_of, several))
    assert [word for word in given if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known] == []


def module_options(module: str) -> set[str]:
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"no module {module}"
    if importlib.util.find_spec(f"{module}.__main__" if spec.submodule_search_locations else module) is None:
        pytest.fail(f"{module} cannot be run")
    folder = Path(str(spec.origin)).parent
    files = folder.glob("*.py") if spec.submodule_search_locations else [Path(str(spec.origin))]
    shared = (ROOT / "store" / "options.py").read_text(encoding="utf-8")
    source = shared + "".join(file.read_text(encoding="utf-8") for file in files)
    return set(re.findall(r"[\"'](--?[a-z][\w-]*)[\"']", source)) | {"-h", "--help"}


def test_documents_show_commands() -> None:
    assert len(LINES) > 80
    assert {command.split()[0] for _, command in LINES} >= set(SCRIPTS)


@pytest.mark.parametrize("command", [pytest.param(command, id=where) for where, command in LINES])
def test_the_command_line_is_one_that_exists(command: str) -> None:
    given = words(command)
    if given[0] == "torchrun":
        given = given[given.index("-m") :] if "-m" in given else []
        given = ["python", *given]
    if given[0] == "python":
        if len(given) == 1:
            return
        known = module_options(given[2])
        assert [word for word in given[3:] if re.match(r"--[a-z]", word) and word.partition("=")[0] not in known] == []
        return
    assert given[0] in SCRIPTS, f"no command {given[0]}"
    check(SCRIPTS[given[0]].load(), given[1:], given[0])
