"""Whose published generators can be taken in and given back, and the table of the modules that do it.

Each module has `read_generator(path, **options)`, which gives a generator of ours in eval mode, and
`write_generator(generator, path)`, which writes the file that came in with the same keys and bits. Options are texts;
what a module asks for stands in its signature.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from store.errors import ChatPainterError

if TYPE_CHECKING:
    from trainer.systems import Generator


class PublishedFormat(NamedTuple):
    """One project's files."""

    module: str  # reads and writes them
    systems: tuple[str, ...]  # ours whose generators they become
    about: str  # one line for --help


PUBLISHED = {
    "stackgan": PublishedFormat(
        "trainer.systems.chatpainter.published",
        ("stage1", "stage2"),
        "StackGAN-Pytorch: netG_epoch_N.pth, either stage",
    ),
    "sg2im": PublishedFormat(
        "trainer.systems.sg2im.published",
        ("sg2im",),
        "google/sg2im: coco64.pt, vg64.pt and the like, stripped or full",
    ),
    "geneva": PublishedFormat(
        "trainer.systems.geneva.published",
        ("geneva",),
        "GeNeVA: snapshot_N.pth; options background=FILE, statistics=batch",
    ),
    "stackgan-v2": PublishedFormat(
        "trainer.systems.stackgan_v2.published", ("stackgan-v2",), "StackGAN-v2: netG_N.pth, with or without text"
    ),
    "attngan": PublishedFormat(
        "trainer.systems.attngan.published",
        ("attngan",),
        "AttnGAN: netG_epoch_N.pth, bird_AttnGAN2.pth, coco_AttnGAN2.pth, bird_AttnDCGAN2.pth",
    ),
}
"""Name for `import --system` → what reads such files; a system of ours that one of them becomes names it as well."""


def names() -> list[str]:
    """All that `--system` takes."""
    return list(dict.fromkeys([*PUBLISHED, *(system for one in PUBLISHED.values() for system in one.systems)]))


def read_generator(name: str, path: Path, options: Mapping[str, str] | None = None) -> "Generator":
    """The generator in the published file at `path`, in eval mode.

    Raises:
        ChatPainterError: the file is missing, damaged or another system's; an option that is not known, or one that
            is missing; a weight that is no number.
    """
    from trainer.networks.average import finite

    reader = _module(_find(name)).read_generator
    _refuse_options(name, reader, options or {})
    generator: Generator = reader(path, **options or {})
    if not finite(generator):  # type: ignore[arg-type]
        raise ChatPainterError(f"{path}: holds weights that are not numbers; fetch the file again")
    return generator


def write_generator(generator: "Generator", path: Path) -> None:
    """Write `generator` as its project's file.

    Raises:
        ChatPainterError: no project has a file for it; says why.
        StoreError: the folder cannot be written.
    """
    from trainer.systems import named_in

    name = named_in(generator.settings)
    if not any(name in one.systems for one in PUBLISHED.values()):
        raise ChatPainterError(f"a generator of the system {name} has no published form")
    _module(_find(name)).write_generator(generator, path)


def _find(name: str) -> PublishedFormat:
    if name in PUBLISHED:
        return PUBLISHED[name]
    return next(one for one in PUBLISHED.values() if name in one.systems)


def _module(one: PublishedFormat) -> Any:
    return import_module(one.module)


def _refuse_options(name: str, reader: Any, options: Mapping[str, str]) -> None:
    """Raise ChatPainterError unless `reader` takes just these options."""
    takes = dict(list(inspect.signature(reader).parameters.items())[1:])
    if unknown := [each for each in options if each not in takes]:
        known = ", ".join(takes) or "none"
        raise ChatPainterError(f"{name}: no option {unknown[0]!r}; its files take: {known}")
    if missing := [each for each, one in takes.items() if one.default is one.empty and each not in options]:
        raise ChatPainterError(f"{name}: its files need --option {missing[0]}=VALUE")
