"""Names that files state stay in their folder."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import StoreError
from store.files import in_words, inside, system_errors, unwritten

FOLDER = Path("/some/folder")


@pytest.mark.parametrize("name", ["a.jpg", "train2014/a.jpg", "..a", "a..", "a b/ü.png", "a\\b.jpg", "x" * 255, "./a"])
def test_a_name_in_the_folder(name):
    assert inside(FOLDER, name) == FOLDER / name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../a", "leads out of its folder"),
        ("a/../../b", "leads out of its folder"),
        ("a/..", "leads out of its folder"),
        ("..\\a", "leads out of its folder"),
        ("/etc/passwd", "is absolute"),
        ("\\\\server\\share\\a", "is absolute"),
        ("C:\\a", "is absolute"),
        ("C:a", "is absolute"),
        ("", "is empty"),
        (".", "is empty"),
        (None, "is no text"),
        (7, "is no text"),
        (["a"], "is no text"),
        ("a\0b", "NUL"),
        ("a\nb", "control character"),
        ("a\x1b[2Jb", "control character"),
        ("a\u2028b", "control character"),
        ("x" * 256, "longer than a file's name"),
        ("ü" * 128, "longer than a file's name"),
        ("x/" * 2001, "longer than a file's name"),
        ("\ud800.jpg", "lone surrogate"),
    ],
)
def test_other_names_are_refused_in_one_line(name, words):
    with pytest.raises(StoreError) as error:
        inside(FOLDER, name, "corpus.parquet: image 7")
    assert words in error.value.message
    assert error.value.message.startswith("corpus.parquet: image 7: the file name ")
    assert "\n" not in error.value.message
    assert len(error.value.message) < 300


@given(st.text())
def test_whatever_is_accepted_lies_in_the_folder(name):
    try:
        path = inside(FOLDER, name)
    except StoreError:
        return
    assert os.path.normpath(path).startswith(f"{FOLDER}/")


@pytest.mark.parametrize("message", ["a\nb", "a\x85b", "a\u2028b", "\x1b[31mred", "\ud800", "a\0b"])
def test_a_message_is_one_line_whatever_a_file_is_called(message):
    shown = StoreError(f"/data/{message}.jpg: no such file").message
    assert len(shown.splitlines()) == 1
    assert shown.isprintable()
    assert shown.encode()
    assert shown == f"/data/{ascii(message)[1:-1]}.jpg: no such file"
    assert StoreError("größer × 2 …").message == "größer × 2 …"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same command again$"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EFBIG, r"ulimit -f.*shard_mib"),
        (errno.EROFS, "read-only file system; choose another"),
        (errno.EACCES, "no permission; change the permissions"),
        (errno.ENOENT, "no such file or folder"),
        (errno.EIO, r"Input/output error \(errno 5\)"),
    ],
)
def test_what_the_system_refuses_is_said_with_a_remedy(number, said):
    with pytest.raises(StoreError, match=f"^/data/x: .*{said}"), in_words(Path("/data/x")):
        raise OSError(number, os.strerror(number))


def test_a_full_disk_has_one_remedy_and_anything_else_the_callers():
    full, denied = (OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EACCES))
    assert unwritten(full, "choose another") == "the disk is full; free some space and run the same command again"
    assert unwritten(denied, "choose another") == "cannot be written (Permission denied); choose another"


def test_the_systems_number_is_found_in_what_a_library_says():
    with pytest.raises(OSError) as found, system_errors(RuntimeError, r"os error (\d+)"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert found.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError, match="another"), system_errors(RuntimeError, r"os error (\d+)"):
        raise RuntimeError("another")
