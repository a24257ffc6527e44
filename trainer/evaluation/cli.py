"""chatpainter-evaluate: what a trained generator's pictures are worth."""

from pathlib import Path
from typing import Any

import click

from store import options, params
from store.errors import ChatPainterError
from trainer import systems


@click.command(context_settings=options.CONTEXT)
@options.params_option
@click.option(
    "--run",
    "--generator",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("runs") / systems.LAST,
    show_default=True,
    help="Training run, or its generator.safetensors.",
)
@click.option("--split", help="Held-out split.  [default: evaluate.split]")
@options.path_option("out", "runs/evaluate", "Folder for metrics.json, plots, tables and the gallery.")
@options.embeddings_option
@options.images_option
@click.option(
    "--raw",
    type=click.Path(path_type=Path),
    help="Folder with truth_SPLIT.json, where the truth is known.  [default: raw of the params file]",
)
@click.option(
    "--classifier",
    type=click.Path(path_type=Path),
    help="File of the world's classifier, trained when missing.  [default: OUT/classifier.safetensors]",
)
@click.option(
    "--log",
    "logs",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Training run whose last losses to report; repeatable.  [default: those that led to the run]",
)
@click.option("--pictures", type=click.IntRange(min=8), help="Only the first so many images of the split.")
@click.option(
    "--dialogue",
    type=click.Choice(["own", "shuffled", "reversed"]),
    help="Paint from the image's own dialogue, another image's, or its rounds in reverse.",
)
@click.option("--rounds", type=click.IntRange(min=0), help="Paint from the first so many rounds only.")
@click.option("--seed", type=int, help="Of captions chosen, noise and everything else drawn.")
@click.option("--batch", type=click.IntRange(min=1), help="Pictures in memory at a time.")
@click.option("--gallery", type=click.IntRange(min=0), help="Pictures in the gallery; 0: none.")
@options.device_option
@options.version_option
def main(
    params_file: Path,
    folder: Path,
    out: Path,
    embeddings: Path,
    images: Path,
    raw: Path | None,
    classifier: Path | None,
    logs: tuple[Path, ...],
    device: str,
    **given: Any,
) -> None:
    """Paint a held-out split and score the pictures; the same command again continues an interrupted evaluation.

    Under torchrun the processes share the pictures:
    torchrun --nproc-per-node 8 -m trainer.evaluation.cli --generator ...
    (Python 3.11's torchrun takes --run and --log for its own.)
    """
    from trainer import distributed
    from trainer.evaluation.evaluate import EvaluateSettings, Paths, evaluate

    values = params.load(params_file)
    section = dict(values.get("evaluate") or {})
    section |= {name: value for name, value in given.items() if value is not None}
    settings = params.build(EvaluateSettings, section, f"{params_file}: evaluate")
    if raw is None:
        if not isinstance(values.get("raw"), str):
            raise ChatPainterError(f"{params_file}: raw must name the dataset's folder (or give --raw)")
        raw = Path(values["raw"])
    generator = folder if folder.suffix == ".safetensors" else folder / "generator.safetensors"
    beside = generator.parent.parent
    paths = Paths(
        generator,
        embeddings,
        images,
        raw,
        out,
        classifier or out / "classifier.safetensors",
        logs or tuple(run for name in systems.SYSTEMS if ((run := beside / name) / "log.jsonl").exists()),
    )
    ranks = distributed.start(device)
    try:
        values = evaluate(paths, settings, ranks)
    finally:
        distributed.stop()
    if ranks.main:
        width = max(map(len, values), default=0)
        for name, value in values.items():
            click.echo(f"{name:<{width}}  {value:.4f}")
        click.echo(f"{out}/metrics.json  {out}/gallery.html")


if __name__ == "__main__":
    main()
