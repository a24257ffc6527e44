"""One folder with everything that painting needs, to be carried anywhere and used offline.

generator.safetensors  settings.json  interviewer.json  README.md (the model card)
encoders/              the encoders' weight files, or only the list of which published ones to put there
stage1.onnx  generator.onnx
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painter import card, interviewer
from painter.dialogue import Dialogue
from painter.painter import Painter, generator_file
from store.errors import ChatPainterError
from store.files import in_words, replacing, sha256_file, sync_folder
from store.lock import LOCK, FolderLock
from trainer.systems import PaintsFilms

if TYPE_CHECKING:
    import torch

GENERATOR, SETTINGS, CARD, ENCODERS = "generator.safetensors", "settings.json", "README.md", "encoders"
NEW = ".new"
"""Within the folder: what is written, until all of it is."""
SMALL = 100 * 1024**2
"""Weight files that together are smaller are copied without being asked for."""
COMPARED = (Dialogue("a large red circle"), Dialogue("two objects", (("what is the ground like", "sand"),)))
TOLERANCE = 1e-3
"""Largest difference allowed between torch and ONNX Runtime, of values in [-1, 1]: a tenth of an 8-bit step."""


def export(
    painter: Painter,
    run: Path,
    folder: Path,
    *,
    with_weights: bool = False,
    metrics: Path | None = None,
    corpus: Path | None = None,
    onnx: bool = True,
    half: bool = False,
) -> Iterator[str]:
    """Write the folder; yields one line about each thing written.

    Args:
        half: the generator's weights as float16 (`generator_file.save`); how far pixels move is said and on the card.

    Raises:
        ChatPainterError: metrics or corpus cannot be read, the folder holds something else, cannot be written, another
            export writes there, or ONNX Runtime paints something else.
    """
    source = generator_file(run)
    found, figures = interviewer.find(run, corpus), card.figures(metrics, sha256_file(source))
    with FolderLock(folder):
        _refuse_other(folder, source)
        new = folder / NEW
        with in_words(folder):
            try:
                shutil.rmtree(new, ignore_errors=True)  # of an export that was killed
                new.mkdir()
                yield from _write_all(painter, source, folder, new, run, found, with_weights, figures, onnx, half)
                _move(new, folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    yield f'{folder}: complete; paint with  chatpainter-paint --run {folder} "…"'


def _refuse_other(folder: Path, source: Path) -> None:
    """Only an export, whole or broken off, is written again."""
    generator, there = folder / GENERATOR, {path.name for path in folder.iterdir()} - {LOCK, NEW}
    # A run's folder holds a generator too, and is not to be written over.
    if there and SETTINGS not in there:
        raise ChatPainterError(f"{folder}: holds other things; name a new folder, or one exported before")
    if generator.is_file() and generator.samefile(source):
        raise ChatPainterError(f"{folder}: is what was to be exported; name another folder")


def _move(new: Path, folder: Path) -> None:
    """Move what was written into its place, over an earlier export: a full disk can end nothing of this half-way."""
    names = sorted((path.relative_to(new) for path in new.rglob("*") if path.is_file()), key=_rank)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / name, folder / name)
    sync_folder(folder)


def _rank(name: Path) -> int:
    # The settings mark the folder as an export, should this one be broken off; without a generator it is no model.
    return {SETTINGS: 0, GENERATOR: 2}.get(str(name), 1)


def _write_all(
    painter: Painter,
    source: Path,
    folder: Path,
    new: Path,
    run: Path,
    found: interviewer.Interviewer | None,
    with_weights: bool,
    figures: list[card.FigureRecord] | None,
    onnx: bool,
    half: bool,
) -> Iterator[str]:
    from trainer import generator_file

    _write(new / SETTINGS, json.dumps(painter.generator.settings, indent=1, sort_keys=True))
    yield f"{folder / ENCODERS}: {_weights(painter, new / ENCODERS, with_weights)}"
    if found is not None:
        _write(new / interviewer.BANK, json.dumps(found.to_json(), ensure_ascii=False))
        yield f"{folder / interviewer.BANK}: {len(found.questions)} questions"
    checked = {}
    if onnx and isinstance(painter.generator, PaintsFilms):
        yield f"{folder}: no ONNX files: as many pictures are painted as there are turns, one from the other"
    elif onnx:
        for name, difference in write_onnx(painter, new):
            checked[name] = difference
            yield f"{folder / name}: differs from torch by at most {difference:.1e}"
    moved = None
    if half:
        generator_file.save(painter.generator, new / GENERATOR, half=True)
        mean, most = moved = _moved(painter, new / GENERATOR)
        yield f"{folder / GENERATOR}: as float16; pixels move by {most} of 255 at most, {mean:.2g} in the mean"
    else:
        with replacing(new / GENERATOR) as temporary:
            shutil.copyfile(source, temporary)
    _write(new / CARD, card.write(painter, run, figures, found, checked, moved))


def _weights(painter: Painter, folder: Path, with_weights: bool) -> str:
    """Copy the weight files where they are small or asked for, else list which belong into `folder`; says which."""
    from pipeline.weights import published

    files = painter.text.files()
    size = sum(path.stat().st_size for path in files.values())
    folder.mkdir(exist_ok=True)
    if with_weights or size <= SMALL:
        for name, path in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as temporary:
                shutil.copyfile(path, temporary)
        marker = next(iter(files.values())).parent / published.MARKER
        if marker.is_file():
            _write(folder / published.MARKER, marker.read_text(encoding="utf-8"))
        return f"{len(files)} weight files, {size / 1024**2:,.1f} MiB"
    names = "\n".join(f"{digest}  {name}" for name, digest in sorted(painter.text.hashes().items()))
    _write(folder / "SHA256SUMS", names + "\n")
    return (
        f"the weight files ({size / 1024**3:,.1f} GiB) are not copied; put those of SHA256SUMS there, "
        "or export --with-weights"
    )


def _moved(painter: Painter, file: Path) -> tuple[float, int]:
    """How far pixels of another file's generator lie from this painter's: the mean and the most, of 255 levels."""
    import numpy as np

    from trainer import generator_file

    other = Painter(generator_file.load(file), painter.text)
    mine, theirs = (one.paint_batch(COMPARED, n=8).astype(np.int64) for one in (painter, other))
    return float(np.abs(mine - theirs).mean()), int(np.abs(mine - theirs).max())


def write_onnx(painter: Painter, folder: Path) -> Iterator[tuple[str, float]]:
    """stage1.onnx and, of a generator with stage 2, generator.onnx; yields the name and the largest difference.

    Inputs: `noise` (B, z) and what `Painter.texts` gives, by name: `captions` (B, dc), `turns` (B, T, dd) with
    `turns.length` (B,), or `dialogues` (B, dd); outputs: `picture_64` and so on by side, (B, 3, s, s) in [-1, 1].

    Raises:
        ChatPainterError: ONNX Runtime does not paint what torch paints.
    """
    every = tuple(painter.generator.names)
    names = [f"{name}.onnx" for name in painter.generator.names.values()]
    for name, sizes in zip([names[0], "generator.onnx"], [every[:1], every][: len(every)]):
        path = folder / name
        with replacing(path) as temporary:
            _export_onnx(painter, temporary, sizes)
            difference = _difference(painter, temporary, sizes)
            if difference > TOLERANCE:
                raise ChatPainterError(f"{path}: differs from torch by {difference:.2g}; export with --no-onnx")
        yield name, difference


def _export_onnx(painter: Painter, path: Path, sizes: tuple[int, ...]) -> None:
    import logging
    import warnings

    import torch

    from trainer.feed.inputs import LENGTH

    names, inputs = _example(painter, 2, 3)
    ragged = {name.removesuffix(LENGTH) for name in names if name.endswith(LENGTH)}
    dynamic = tuple({0: "batch", 1: name} if name in ragged else {0: "batch"} for name in names)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _network(painter, names, sizes),
                args=inputs,
                f=path,
                input_names=names,
                output_names=[f"picture_{size}" for size in sizes],
                dynamic_shapes=(dynamic,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(level)


def _network(painter: Painter, names: Sequence[str], sizes: tuple[int, ...]) -> "torch.nn.Module":
    """The generator as a function of tensors in the order of `names`, the noise first."""
    import torch

    generator = painter.generator

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = generator

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            noise, *texts = inputs
            painted = self.generator.paint(dict(zip(names[1:], texts)), noise, sides=sizes)
            return tuple(painted[size] for size in sizes)

    return Network().eval()


def _example(painter: Painter, batch: int, turns: int) -> tuple[list[str], tuple["torch.Tensor", ...]]:
    """Names of the inputs, and random ones as large as those of dialogues of which some end early."""
    import torch

    stream = torch.Generator().manual_seed(batch * 100 + turns)
    rounds = (("is it large", "yes"),) * turns
    texts = painter.texts([Dialogue("a shape", rounds[: turns - row % (turns + 1)]) for row in range(batch)])
    inputs = {"noise": painter.noise(batch), **texts}
    drawn = (
        torch.randn(rows.shape, generator=stream) if rows.is_floating_point() else rows.cpu()
        for rows in inputs.values()
    )
    return list(inputs), tuple(drawn)


def _difference(painter: Painter, path: Path, sizes: tuple[int, ...]) -> float:
    """The largest difference between torch and ONNX Runtime, over batches and lengths other than the exported ones."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch, turns in ((1, 1), (5, 7)):
        names, inputs = _example(painter, batch, turns)
        with torch.inference_mode():
            expected: Any = _network(painter, names, sizes)(*inputs)
        found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs)})
        for mine, theirs in zip(expected, found):
            worst = max(worst, float((mine - torch.from_numpy(theirs)).abs().max()))
    return worst


def _write(path: Path, content: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
