"""The code that documents show, put into the files that it says it belongs to, and run there."""

import configparser
import importlib
import multiprocessing
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("store", "words", "pipeline", "trainer", "evidence", "painter", "tests")


def blocks(document: Path, language: str) -> list[tuple[str, str]]:
    """(file, code) of each block of this language whose first line names a file, in order."""
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n# (\S+\.\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def write(document: Path, tree: Path) -> list[Path]:
    """Put a document's Python files and changes into the project that lies in `tree`; returns the new files."""
    new = []
    for name, code in blocks(document, "python"):
        path = tree / name
        assert not path.exists(), f"{name} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        new.append(path)
    for name, change in blocks(document, "diff"):
        lines = change.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        text = (tree / name).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{name}: these lines stand there {text.count(before)} times:\n{before}"
        (tree / name).write_text(text.replace(before, after), encoding="utf-8")
    return new


def copy_of_the_project(tree: Path) -> None:
    """The rooms, the tests and the files that steer them, without what was built or measured."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)


def install(tree: Path) -> None:
    """What `pip install -e` writes of a project's entry points, for whoever has `tree` first on its path."""
    config = configparser.ConfigParser()
    config.read(tree / "setup.cfg", encoding="utf-8")
    folder = tree / "chatpainter.egg-info"
    folder.mkdir()
    version = config["metadata"]["version"]
    (folder / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: chatpainter\nVersion: {version}\n")
    groups = (f"[{group}]\n{lines.strip()}\n" for group, lines in config["options.entry_points"].items())
    (folder / "entry_points.txt").write_text("\n".join(groups))


def python(tree: Path, *arguments: str, folder: Path) -> tuple[int | None, str]:
    """Exit status and words of `python -m NAME ...` or `python -c CODE ...` with the project in `tree` and no other.

    A fork of this process, which has imported torch: that would cost every new one several seconds.
    """
    import torch._dynamo  # noqa: F401  (the first step of an optimiser imports it; here all inherit it)

    said = tree.with_name(f"{tree.name}-said.txt")
    process = multiprocessing.get_context("fork").Process(target=_python, args=(tree, arguments, folder, said))
    process.start()
    process.join(500)
    process.kill()
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8")


def _python(tree: Path, arguments: tuple[str, ...], folder: Path, said: Path) -> None:
    import torch

    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    torch.set_num_threads(1)  # a pool of OpenMP threads does not live on in a forked process
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(tree)  # of processes that it starts
    sys.path.insert(0, str(tree))
    for name in list(sys.modules):
        if name.partition(".")[0] in ROOMS:
            del sys.modules[name]
    importlib.invalidate_caches()
    kind, what, *rest = arguments
    sys.argv = [kind, *rest]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
