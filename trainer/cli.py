"""chatpainter-train: stage 1, stage 2, and StackGAN-Pytorch's files in and out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from store import params


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Train ChatPainter's two stages on stores made by chatpainter-embed and chatpainter-prepare images."""


def _options(stage: int) -> Callable[[Callable], Callable]:
    options = [
        click.option("--params", "params_file", type=click.Path(), default="params.yaml", show_default=True,
                     help=f"File with the sections model and stage{stage}."),
        click.option("--embeddings", type=click.Path(path_type=Path), default=Path("data/embeddings"),
                     show_default=True, help="Folder with SPLIT/captions, SPLIT/turns or SPLIT/dialogues."),
        click.option("--images", type=click.Path(path_type=Path), default=Path("data/images"), show_default=True,
                     help="Folder with SPLIT/76 and SPLIT/304."),
        click.option("--split", help="Split to train on.  [default: the first of splits in the params file]"),
        click.option("--held-out", help="Split whose texts the picture grids show.  [default: the second of splits]"),
        click.option("--run", "folder", type=click.Path(path_type=Path), default=Path(f"runs/stage{stage}"),
                     show_default=True, help="Folder of the run; one that exists is continued."),
        click.option("--images-seen", type=click.IntRange(min=1), help="Stop when so many pictures were seen in all."),
        click.option("--steps", type=click.IntRange(min=1), help="Stop after so many iterations in all."),
        click.option("--fork", is_flag=True, help="Continue an existing run's weights under a changed configuration."),
        click.option("--restart", is_flag=True,
                     help="Set an existing run of another configuration aside (FOLDER.old-N) and begin again."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        click.option("--log", "sinks", multiple=True, type=click.Choice(["tensorboard", "dvclive"]),
                     default=["tensorboard", "dvclive"], show_default=True, help="Logs beside log.jsonl; repeatable."),
        click.option("--dry-run", is_flag=True, help="Print the resolved configuration and the sizes, and leave."),
    ]  # fmt: skip

    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@main.command()
@_options(1)
def stage1(**options: Any) -> None:
    """Train stage 1: text to 64 x 64. The same command again continues the run."""
    _train(1, None, **options)


@main.command()
@click.option("--stage1", "first", type=click.Path(path_type=Path), default=Path("runs/stage1"), show_default=True,
              help="Stage 1's run, or its generator file.")  # fmt: skip
@_options(2)
def stage2(first: Path, **options: Any) -> None:
    """Train stage 2: stage 1's picture and the text again, to 256 x 256. The same command again continues the run."""
    _train(2, first, **options)


def _train(
    stage: Literal[1, 2],
    first: Path | None,
    params_file: str,
    embeddings: Path,
    images: Path,
    split: str | None,
    held_out: str | None,
    folder: Path,
    images_seen: int | None,
    steps: int | None,
    fork: bool,
    restart: bool,
    device: str,
    sinks: tuple[str, ...],
    dry_run: bool,
) -> None:
    from trainer import config

    splits = [str(name) for name in params.load(params_file).get("splits") or ["train"]]
    model, training = config.load(params_file, stage)
    if steps and images_seen:
        raise click.UsageError("give --steps or --images-seen, not both")
    if fork and restart:
        raise click.UsageError("give --fork or --restart, not both")
    split = split or splits[0]
    if held_out is None:
        held_out = next((name for name in splits[1:] if name != split and (embeddings / name).is_dir()), None)

    from trainer import loop
    from trainer.interrupts import PREEMPTED

    run = loop.Run(
        stage=stage,
        model=model,
        training=training,
        folder=folder,
        embeddings=embeddings,
        images=images,
        split=split,
        held_out=held_out,
        stage1=first,
        stop_at=steps * training.batch if steps else images_seen,
        fork=fork,
        restart=restart,
        device=device,
        sinks=sinks,
    )
    if dry_run:
        click.echo(loop.dry_run(run))
        return
    if not loop.train(run):
        raise SystemExit(PREEMPTED)


@main.command("import-stackgan")
@click.argument("netg", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="generator.safetensors to write.")
def import_stackgan(netg: Path, out: Path) -> None:
    """Turn StackGAN-Pytorch's netG_epoch_N.pth (either stage) into a caption-only generator."""
    from trainer import stackgan

    generator = stackgan.read_generator(netg)
    generator.save(out)
    click.echo(f"{out}: stage {generator.stage}, caption vectors of {generator.settings['caption_dim']} dimensions")


@main.command("export-stackgan")
@click.argument("generator", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="netG_epoch_N.pth to write.")
def export_stackgan(generator: Path, out: Path) -> None:
    """Turn a caption-only generator.safetensors into StackGAN-Pytorch's netG format."""
    from trainer import stackgan
    from trainer.generator import Generator

    stackgan.write_generator(Generator.load(generator), out)
    click.echo(f"{out}: written")


if __name__ == "__main__":
    main()
