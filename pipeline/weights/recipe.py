"""Untrained weights need not be carried: size, seed and dictionary make the same megabytes on every processor."""

import functools
import tempfile
from pathlib import Path

from pipeline.weights import WeightsError, marked, published, theano, untrained
from store import params


def keep(folder: Path) -> None:
    """Take away what `whole` makes again: of untrained weights, their marker and dictionary stay."""
    for name in marked.read(folder, untrained.COMMAND).get("files", {}):
        if name != untrained.DICTIONARY:
            (folder / name).unlink(missing_ok=True)


def whole(folder: Path) -> Path:
    """The folder of weights; where that holds only a recipe, one that has all files as long as this process lives.

    Raises:
        WeightsError: the recipe is damaged, or this version draws other weights than the one that wrote it.
    """
    recipe = marked.read(folder, untrained.COMMAND).keys() and (folder / untrained.DICTIONARY).is_file()
    if not recipe or (folder / untrained.T7_NAME).exists():
        return folder
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
