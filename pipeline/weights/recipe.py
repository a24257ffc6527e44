"""Untrained weights need not be carried: size, seed and dictionary make the same megabytes on every processor."""

import functools
import tempfile
from pathlib import Path

from pipeline.weights import WeightsError, marked, published, theano, untrained
from store import params
from store.files import in_words


def keep(folder: Path) -> None:
    """Take away what `whole` makes again: of untrained weights, their marker and dictionary stay."""
    if marked.read(folder, untrained.COMMAND):
        for name in {*published.SKIP_THOUGHT, untrained.T7_NAME, untrained.README} - {untrained.DICTIONARY}:
            (folder / name).unlink(missing_ok=True)


def whole(folder: Path) -> Path:
    """The folder of weights; where that holds only a recipe, one that has all files as long as this process lives.

    Raises:
        WeightsError: the recipe is damaged, or this version draws other weights than the one that wrote it.
        StoreError: the disk for temporary files has no room.
    """
    lacking = not (folder / untrained.T7_NAME).exists() and (folder / untrained.DICTIONARY).is_file()
    if not lacking or not marked.read(folder, untrained.COMMAND):
        return folder
    with in_words(Path(tempfile.gettempdir())):
        return Path(_made(folder.resolve()).name)


@functools.cache
def _made(folder: Path) -> tempfile.TemporaryDirectory[str]:
    marker = marked.read(folder, untrained.COMMAND)
    drawn = {name: marker[name] for name in ("size", "seed") if name in marker}
    settings = params.build(untrained.UntrainedSettings, drawn, str(folder / published.MARKER))
    if settings.size == "none":
        raise WeightsError(f"{folder / published.MARKER}: size none makes no weights")
    made = tempfile.TemporaryDirectory(prefix="chatpainter-")
    out = Path(made.name)
    untrained.write(out, list(theano.dictionary(folder / untrained.DICTIONARY)[0]), settings)
    marked.write(out, {name: value for name, value in marker.items() if name != "files"})
    for name, digest in marked.read(out, untrained.COMMAND)["files"].items():
        if marker["files"].get(name) != digest:
            raise WeightsError(
                f"{folder / published.MARKER}: {name} comes out otherwise here, from another version or a damaged "
                "recipe; take the folder's weight files from where it was made (--weights)"
            )
    return made
