"""Templates that lie beside the module that fills them in."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


def environment(folder: Path, finalize: Callable[[Any], Any] | None = None) -> "jinja2.Environment":
    """Templates of `folder`: values are escaped, an unknown name is an error, blocks leave no empty lines.

    Args:
        finalize: what every value becomes before it is written.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        finalize=finalize,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
