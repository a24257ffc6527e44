"""A dataset's folder is replaced whole, wherever it really lies, or refused before any work."""

import multiprocessing
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.corpora import sample_files
from pipeline.corpora.folders import replacing_folder
from pipeline.prepare_cli import main
from store.errors import ChatPainterError
from tests.support.outcomes import refused

OURS = re.compile(r"(sub/)?[ab]\.txt|mark\.json")


def write(folder: Path, content: str = "new", meanwhile: Callable[[], object] = lambda: None) -> None:
    with replacing_folder(folder, OURS, "mark.json") as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a.txt").write_text(content)
        (temporary / "mark.json").write_text("{}")
        meanwhile()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_the_new_takes_the_place_of_the_old(tmp_path: Path) -> None:
    write(tmp_path / "data", "old")
    (tmp_path / "data" / "b.txt").write_text("old")
    write(tmp_path / "data")
    assert names(tmp_path) == ["data", "data/mark.json", "data/sub", "data/sub/a.txt"]
    assert (tmp_path / "data" / "sub" / "a.txt").read_text() == "new"


def test_through_a_link_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "disk" / "large").mkdir(parents=True)
    (tmp_path / "link").symlink_to("disk/large")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    for link in ("link", "chain"):
        write(tmp_path / link, link)
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / "disk" / "large" / "sub" / "a.txt").read_text() == link
    assert names(tmp_path / "disk") == ["large", "large/mark.json", "large/sub", "large/sub/a.txt"]


def test_a_link_that_leads_nowhere_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("link", "loop"):
        with pytest.raises(ChatPainterError, match=f"{name}: is a link .*name another folder with --raw"):
            write(tmp_path / name)
    assert names(tmp_path) == ["link", "loop"]


@pytest.mark.parametrize("folder", [".", "..", "../here", "./", "../../", "/"])
def test_the_folder_that_the_command_runs_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ChatPainterError, match="replaces its folder whole, and runs in that one; name another folder"):
        write(Path(folder))
    assert names(tmp_path) == ["here"]


def test_a_disk_of_its_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    for name in ("disk", "link"):
        with pytest.raises(ChatPainterError, match="is a disk of its own; name another folder with --raw"):
            write(tmp_path / name)
    assert names(tmp_path) == ["disk", "link"]


def test_links_inside_are_not_ours(tmp_path: Path) -> None:
    write(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ChatPainterError, match="data/more: not made by this command"):
        write(tmp_path / "data")


def test_what_comes_while_the_work_is_done_is_not_removed(tmp_path: Path) -> None:
    write(tmp_path / "data")
    with pytest.raises(ChatPainterError, match=r"thesis\.txt: not made by this command"):
        write(tmp_path / "data", meanwhile=lambda: (tmp_path / "data" / "thesis.txt").write_text("mine"))
    assert names(tmp_path) == ["data", "data/mark.json", "data/sub", "data/sub/a.txt", "data/thesis.txt"]


def test_a_failure_leaves_the_old_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "data", "old")
    before = names(tmp_path)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "data", meanwhile=lambda: 1 // 0)
    assert names(tmp_path) == before


def test_two_at_once_the_second_is_refused_before_the_work(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with replacing_folder(tmp_path / "data", OURS, "mark.json") as temporary:
            (temporary / "mark.json").write_text("first")
            inside.set()
            leave.wait(300)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(300)
    with pytest.raises(ChatPainterError, match="another run is writing here"):
        write(tmp_path / "data")
    leave.set()
    thread.join()
    assert (tmp_path / "data" / "mark.json").read_text() == "first"
    write(tmp_path / "data")
    assert names(tmp_path) == ["data", "data/mark.json", "data/sub", "data/sub/a.txt"]


def _killed(folder: Path) -> None:
    with replacing_folder(folder, OURS, "mark.json") as temporary:
        (temporary / "half.txt").write_text("half")
        os._exit(9)


def test_the_next_run_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path / "data",))
    process.start()
    process.join(300)
    assert process.exitcode == 9
    assert not (tmp_path / "data").exists()
    write(tmp_path / "data")
    assert names(tmp_path) == ["data", "data/mark.json", "data/sub", "data/sub/a.txt"]


def test_the_world_is_made_where_a_link_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("world: {train: 2, val: 1, image_size: 32}\n")
    Path("large").mkdir()
    Path("link").symlink_to("large")
    result = CliRunner().invoke(main, ["world", "--raw", "link"])
    assert result.exit_code == 0, result.output
    assert len(list(Path("large/images/train").iterdir())) == 2
    monkeypatch.setattr(sample_files, "_write_split", lambda *_: pytest.fail("worked before it refused"))
    assert "runs in that one" in refused(CliRunner().invoke(main, ["world", "--raw", "."]))
