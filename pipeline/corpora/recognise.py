"""What a file is instead of what its name promises: the pages and pointers that people save in place of data."""

_STARTS = (
    (b"version https://git-lfs.github.com/", "a pointer of Git LFS, not the file itself: run git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex, not the file itself: run git annex get"),
    (b"\x1f\x8b", "compressed with gzip: unpack it with gunzip"),
    (b"BZh", "compressed with bzip2: unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard: unpack it with unzstd"),
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive: unpack it"),
    (b"%PDF-", "a PDF document"),
    (b"PAR1", "a Parquet file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body", b"<!--")


def recognise(head: bytes) -> str | None:
    """What a file that begins with `head` (a few hundred bytes) is, with what to do about it; None: nothing known.

    >>> recognise(b"version https://git-lfs.github.com/spec/v1")
    'a pointer of Git LFS, not the file itself: run git lfs pull'
    """
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES):
        return "an HTML page, as a server sends for an error or a log-in"
    if text.startswith(b"<"):
        return "XML or HTML, as a server sends for an error"
    return None
