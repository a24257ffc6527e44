"""chatpainter-store: what a store holds, from what it was made, whether it is whole; looked up, and taken elsewhere."""

import json
import math
from pathlib import Path
from typing import Any

import click

from store.errors import ChatPainterError, StoreError, printable
from store.options import CONTEXT, params_option, version_option

_OLD = (
    "an older store, whose manifest has no seal and whose blocks have no checksums: neither an edit nor a flipped bit "
    "would be seen by training; the command that made it, run again, adds them"
)
_PATH = click.argument("path", type=click.Path(path_type=Path))


@click.group(context_settings=CONTEXT)
@version_option
def main() -> None:
    """Look into a store: a folder such as data/embeddings/train/captions or data/images/train/76."""


@main.command()
@_PATH
def verify(path: Path) -> None:
    """Compare every bit with the manifest: shards, index, and the texts the vectors were made from.

    PATH may also be a folder of stores. Exit status 1 where anything is wrong, every fault on a line of its own.
    """
    from store.manifest import Manifest
    from store.verify import verify_store

    faults = 0
    for folder in _stores(path):
        found = 0
        for fault in verify_store(folder):
            click.echo(printable(fault), err=True)
            found += 1
        if not found:
            manifest = Manifest.read(folder)
            size = sum(shard.bytes for shard in manifest.shards)
            old = "" if manifest.sealed else f"; {_OLD}"
            click.echo(f"{folder}: whole: {manifest.rows:,} rows in {len(manifest.shards)} shards, {_bytes(size)}{old}")
        faults += found
    if faults:
        raise StoreError(f"{path}: {faults} fault{'s' if faults > 1 else ''}")


@main.command()
@_PATH
@click.option("--json", "as_json", is_flag=True, help="The manifest without its shards, for programs.")
def info(path: Path, as_json: bool) -> None:
    """What is in the store, and what it was made from."""
    from store.manifest import Manifest

    manifests = {folder: Manifest.read(folder) for folder in _stores(path)}
    if as_json:
        values = {str(folder): {**json.loads(m.text()), "shards": len(m.shards)} for folder, m in manifests.items()}
        click.echo(json.dumps(values if len(values) > 1 else next(iter(values.values())), indent=1))
        return
    for folder, manifest in manifests.items():
        shape = " × ".join(map(str, manifest.shape))
        kind, split = printable(manifest.kind), printable(manifest.split)
        click.echo(f"{folder}: {manifest.rows:,} {kind} of {shape} {manifest.dtype}, split {split}")
        size = sum(shard.bytes for shard in manifest.shards)
        click.echo(f"  shards: {len(manifest.shards)}, {_bytes(size)}; index: {manifest.index.rows:,} lines")
        counts = ", ".join(f"{printable(name)} {count:,}" for name, count in manifest.counts.items())
        click.echo(f"  counts: {counts or 'none'}")
        if not manifest.made_from.get("encoder", {}).get("trained", True):
            click.echo("  made with UNTRAINED weights")
        if not manifest.sealed:
            click.echo(f"  {_OLD}")
        for name, value in _flat(manifest.made_from):
            click.echo(f"  {name}: {value}")


@main.command()
@_PATH
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="First line of the index.")
@click.option("--lines", "-n", type=click.IntRange(1), default=5, show_default=True, help="How many.")
def head(path: Path, start: int, lines: int) -> None:
    """Some lines of the index with the norms of their vectors (for images: the mean of their pixels)."""
    import numpy as np

    from store.reader import Store

    store = Store(path)
    first, lengths = store.column("row")[start:].tolist(), store.lengths[start:].tolist()
    for line, row, length in zip(store.index.slice(start, lines).to_pylist(), first, lengths):
        rows = store.slice(row, row + length).reshape(length, -1).astype(np.float64)
        texts = line.pop("texts", None) or ([line.pop("text")] if "text" in line else [])
        click.echo("  ".join(f"{name} {printable(str(value))}" for name, value in line.items()))
        if not texts:
            click.echo(f"    mean {rows.mean():.2f}")
        for vector, text in zip(rows, texts):
            start_of = " ".join(f"{value:+.3f}" for value in vector[:4])
            click.echo(f"    norm {math.sqrt(float(vector @ vector)):7.4f}  [{start_of} …]  {text!r}")


@main.command()
@_PATH
@click.argument("text", required=False)
@click.option("--row", type=click.IntRange(0), help="Look for what is near this row of the store, instead of a text.")
@click.option("--count", "-n", type=click.IntRange(1), default=10, show_default=True, help="How many rows.")
@params_option
@click.option("--encoders", metavar="MODULE", help="Encoders of your own, as chatpainter-embed was told them.")
def search(path: Path, text: str | None, row: int | None, count: int, params_file: Path, encoders: str | None) -> None:
    """The rows nearest to TEXT, or to another row, by cosine, each with its text and ids.

    TEXT is encoded by the store's own encoder: its manifest says which weights and switches, params.yaml in which
    folders they lie.
    """
    from store import search
    from store.reader import Store

    if (text is None) == (row is None):
        raise ChatPainterError("name a text or a --row, one of them")
    store = Store(path)
    search.refuse_no_vectors(store)
    if text is not None:
        query = search.encode(text, store, params_file, encoders)
    elif row is not None and row < len(store):
        query = store.take([row])[0]
    else:
        raise StoreError(f"{path}: has no row {row}, but 0 to {len(store) - 1}")
    lines = search.Lines(store)
    for found in search.nearest(store, query, count):
        about = lines.of(found.row)
        said = about.pop("text", None)
        ids = "  ".join(f"{name} {printable(str(value))}" for name, value in about.items())
        click.echo(f"{found.cosine:+.4f}  {ids}" + (f"  {said!r}" if said is not None else ""))


@main.command()
@_PATH
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
def export(path: Path, out: Path) -> None:
    """The store as OUT/rows.npy, which numpy maps, and OUT/index.parquet: which row is which."""
    from store.export import INDEX, VECTORS, export
    from store.reader import Store

    store = Store(path)
    folder = export(store, out)
    shape = ", ".join(map(str, (len(store), *store.shape)))
    click.echo(f"{folder / VECTORS}: ({shape}) {store.dtype}; {folder / INDEX}: {store.manifest.index.rows:,} lines")


def _stores(path: Path) -> list[Path]:
    """The store at `path`, or all below it."""
    from store.manifest import MANIFEST, Manifest

    found = sorted(file.parent for file in path.rglob(MANIFEST)) if path.is_dir() else []
    if not found:
        Manifest.read(path)  # says what is wrong
    return found


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((printable(prefix + name), printable(value) if isinstance(value, str) else json.dumps(value)))
    return lines


def _bytes(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
