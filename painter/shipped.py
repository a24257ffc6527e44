"""The model that ships with the package, in painter/demo/: made anew by `make demo-model` from what `make repro` left.

Also the golden file for upgrades: what it painted when it was made lies beside it (`golden.png`), and a test compares.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from painter.dialogue import Dialogue
from pipeline.corpora import sample_world as world
from store.errors import ChatPainterError
from store.files import replacing, sha256_file

if TYPE_CHECKING:
    import numpy as np

    from painter.painter import Painter

FOLDER = Path(__file__).parent / "demo"
GOLDEN, SUMS = "golden.png", "SHA256SUMS"
LARGEST = 4 * 1024**2
"""Bytes of all its files: everybody downloads them."""


def _listed(words: Any) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}"


ABOUT = (
    f"the shipped sample model, which knows {_listed(world.SIZES)} {_listed(f'{shape}s' for shape in world.SHAPES)} in "
    f"{_listed(world.COLOURS)}, at four places on {_listed(world.GROUNDS)}"
)

PAINTED = (
    Dialogue("a small red triangle at the top left and one other object"),
    Dialogue(
        "there is a large red circle in the top left with two other objects",
        (
            ("what is the ground like", "sand"),
            ("what is at the top right", "a small blue square"),
            ("what is at the bottom left", "a large green triangle"),
            ("what is at the bottom right", "nothing"),
        ),
    ),
    Dialogue(
        "four objects, one of them a large yellow circle at the bottom right",
        (("what is the ground like", "it is snow"), ("what is at the bottom left", "a large purple square")),
    ),
)
"""What golden.png shows, left to right, with the noise of seed 7."""
SEED = 7


def golden(painter: "Painter") -> "np.ndarray":
    """(s, s * len(PAINTED), 3) uint8: what golden.png holds if the model still paints what it painted."""
    import numpy as np

    return np.concatenate(list(painter.paint_batch(PAINTED, seed=SEED)[:, 0]), 1)


@click.command()
@click.option("--run", default="runs/stage2", show_default=True, type=click.Path(path_type=Path), help="Trained run.")
@click.option("--out", default=FOLDER, type=click.Path(path_type=Path, file_okay=False), help="[default: the package]")
@click.option("--weights", help="Folder with the encoders' weights. [default: as params.yaml says]")
@click.option("--metrics", default="runs/evaluate/metrics.json", show_default=True,
              type=click.Path(path_type=Path, dir_okay=False), help="Figures for its model card.")  # fmt: skip
@click.option("--corpus", default="data/corpus/train.parquet", show_default=True,
              type=click.Path(path_type=Path, dir_okay=False), help="Corpus of the interviewer.")  # fmt: skip
def main(run: Path, out: Path, weights: str | None, metrics: Path, corpus: Path) -> None:
    """Pack a run on the sample world as the model that ships with the package."""
    from PIL import Image

    from painter import export
    from painter.painter import Painter
    from pipeline.weights import recipe

    painter = Painter.from_run(run, weights=weights)
    if (dataset := painter.generator.settings.get("dataset")) != "sample":
        raise ChatPainterError(f"{run}: was trained on {dataset}, not on the sample world, of which everything is ours")
    for line in export.export(painter, run, out, metrics=metrics, corpus=corpus, onnx=False, half=True):
        click.echo(line)
    recipe.keep(out / export.ENCODERS)
    click.echo(f"{out / export.ENCODERS}: their recipe alone stays")
    with replacing(out / GOLDEN) as temporary:
        Image.fromarray(golden(Painter.from_run(out))).save(temporary, "PNG", optimize=True)
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name not in (SUMS, ".lock"))
    with replacing(out / SUMS) as temporary:
        temporary.write_text("".join(f"{sha256_file(path)}  {path.relative_to(out).as_posix()}\n" for path in files))
    size = sum(path.stat().st_size for path in files)
    click.echo(f"{out}: {len(files)} files, {size / 1024**2:.1f} MiB")
    if size > LARGEST:
        raise ChatPainterError(f"{out}: more than {LARGEST / 1024**2:.0f} MiB; ship a smaller model")


if __name__ == "__main__":
    main()
