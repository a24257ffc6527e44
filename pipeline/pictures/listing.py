"""The images of a corpus with their files: what lies there, and what about it may be wrong."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpora import corpus as corpora
from pipeline.pictures.decode import has_size
from pipeline.pictures.files import PictureFiles
from pipeline.pictures.pool import quietly
from store.errors import ChatPainterError, short
from store.files import inside, sha256_file


@dataclass(frozen=True)
class Listed:
    """An image of the corpus and its file; `size` is (width, height) where the captions file states them."""

    image_id: int
    path: Path
    file_name: str
    size: tuple[int, int] | None


def list_images(corpus: Path, raw: Path, split: str, without_image: str) -> tuple[list[Listed], list[int]]:
    """The images of a corpus that have a file, in its order, and the ids of those that have none.

    Raises:
        ChatPainterError: an image has no file and `without_image` says `drop`, or not one has; a name leads out of
            its folder.
    """
    table = corpora.read(corpus)
    pictures = PictureFiles(raw, split)
    listed, lacking = [], []
    columns = (table[name].to_pylist() for name in ("image_id", "file_name", "width", "height"))
    for image_id, name, width, height in zip(*columns):
        # No name: the corpus was made where there was no file.
        path = pictures.find(_checked(name, corpus, image_id)) if name else None
        if path:
            listed.append(Listed(image_id, path, pictures.name(path), (width, height) if width and height else None))
        else:
            lacking.append(image_id)
            if without_image == "drop":
                what, where = short(name) if name else "no file name", ", ".join(map(str, pictures.folders))
                raise ChatPainterError(
                    f"{what}: of image {image_id} in {corpus}, but no such file in {where}; put it there, name another "
                    f"--raw, or make the corpus again: chatpainter-prepare corpus --split {split}"
                )
    if not listed:
        raise ChatPainterError(f"{raw}: holds not one picture of {corpus}; name the dataset's folder with --raw")
    return listed, lacking


def _checked(name: str, corpus: Path, image_id: int) -> str:
    inside(corpus.parent, name, stated_in=f"{corpus}: image {image_id}")
    return name


def read_files(listed: list[Listed], workers: int) -> tuple[dict[int, str], list[int]]:
    """(sha256 of every file by image id, ids of images whose file is not of the size that is stated of them).

    The checksum is "" where a file cannot be opened, which decoding will say.
    """

    def read(each: Listed) -> tuple[str, bool]:
        try:
            return sha256_file(each.path), each.size is not None and not has_size(each.path, each.size)
        except OSError:
            return "", False

    with quietly(), ThreadPoolExecutor(max(4, workers)) as threads:  # hashing lets go of the GIL
        found = list(threads.map(read, listed))
    checksums = {each.image_id: checksum for each, (checksum, _) in zip(listed, found)}
    return checksums, [each.image_id for each, (_, other) in zip(listed, found) if other]


def same_bytes(listed: list[Listed], checksums: dict[int, str]) -> list[list[str]]:
    """Names of files that have the same bytes, group by group: somebody's copies, or a picture of another image."""
    names: dict[str, dict[str, None]] = {}
    for each in listed:
        names.setdefault(checksums[each.image_id], {})[each.file_name] = None
    return [list(group) for group in names.values() if len(group) > 1]
