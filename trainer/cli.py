"""chatpainter-train: one command a system, and StackGAN-Pytorch's files in and out."""

from pathlib import Path
from typing import Any

import click

from store import options, params
from trainer import systems

OPTIONS = [
    options.params_option,
    options.embeddings_option,
    options.images_option,
    click.option("--split", help="Split to train on.  [default: the first of splits in the params file]"),
    click.option("--held-out", help="Split whose texts the picture grids show.  [default: the second of splits]"),
    click.option("--images-seen", type=click.IntRange(min=1), help="Stop when so many pictures were seen in all."),
    click.option("--steps", type=click.IntRange(min=1), help="Stop after so many iterations in all."),
    click.option("--fork", is_flag=True, help="Continue an existing run's weights under a changed configuration."),
    click.option("--restart", is_flag=True,
                 help="Set an existing run of another configuration aside (FOLDER.old-N) and begin again."),
    options.device_option,
    click.option("--log", "sinks", multiple=True, type=click.Choice(["tensorboard", "dvclive"]),
                 default=["tensorboard", "dvclive"], show_default=True, help="Logs beside log.jsonl; repeatable."),
    click.option("--dry-run", is_flag=True, help="Print the resolved configuration and the sizes, and leave."),
]  # fmt: skip


@click.group(context_settings=options.CONTEXT)
@options.version_option
def main() -> None:
    """Train text-to-image systems on stores made by chatpainter-embed and chatpainter-prepare images.

    The same command again continues the run.
    """


def _command(name: str) -> click.Command:
    """The command that trains the system `name`."""
    system = systems.find(name)

    def train(**given: Any) -> None:
        _train(system, **given)

    command = click.Command(name, callback=train, help=f"{system.about} The same command again continues the run.")
    before = system.starts_from
    own = [
        click.option("--run", "folder", type=click.Path(path_type=Path), default=Path("runs") / name, show_default=True,
                     help="Folder of the run; one that exists is continued."),
    ]  # fmt: skip
    if before is not None:
        own.append(
            click.option(f"--{before}", "start", type=click.Path(path_type=Path), default=Path("runs") / before,
                         show_default=True, help=f"The run of {before}, or its generator file.")
        )  # fmt: skip
    for option in reversed([*own, *OPTIONS]):
        option(command)
    return command


for _name in systems.SYSTEMS:
    main.add_command(_command(_name))


def _train(
    system: systems.System,
    params_file: Path,
    folder: Path,
    split: str | None,
    held_out: str | None,
    images_seen: int | None,
    steps: int | None,
    dry_run: bool,
    **rest: Any,
) -> None:
    values = params.load(params_file)
    config = system.configure(values, str(params_file))
    if steps and images_seen:
        raise click.UsageError("give --steps or --images-seen, not both")
    if rest["fork"] and rest["restart"]:
        raise click.UsageError("give --fork or --restart, not both")
    splits = [str(name) for name in values.get("splits") or ["train"]]
    split = split or splits[0]
    if held_out is None:
        held_out = next((name for name in splits[1:] if name != split and (rest["embeddings"] / name).is_dir()), None)

    from trainer import loop, run
    from trainer.interrupts import PREEMPTED

    asked = run.Run(
        system=system,
        config=config,
        folder=folder,
        split=split,
        held_out=held_out,
        stop_at=steps * config.training.batch if steps else images_seen,
        dataset=values.get("dataset"),
        **rest,
    )
    if dry_run:
        click.echo(run.dry_run(asked))
    elif not loop.train(asked):
        raise SystemExit(PREEMPTED)


@main.command("import-stackgan")
@click.argument("netg", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="generator.safetensors to write.")
def import_stackgan(netg: Path, out: Path) -> None:
    """Turn StackGAN-Pytorch's netG_epoch_N.pth (either stage) into a caption-only generator."""
    from trainer import generator_file
    from trainer.systems.chatpainter import published

    generator = published.read_generator(netg)
    generator_file.save(generator, out)
    click.echo(f"{out}: stage {generator.stage}, caption vectors of {generator.settings['caption_dim']} dimensions")


@main.command("export-stackgan")
@click.argument("generator", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="netG_epoch_N.pth to write.")
def export_stackgan(generator: Path, out: Path) -> None:
    """Turn a caption-only generator.safetensors into StackGAN-Pytorch's netG format."""
    from trainer import generator_file
    from trainer.systems.chatpainter import published

    published.write_generator(generator_file.load(generator), out)
    click.echo(f"{out}: written")


if __name__ == "__main__":
    main()
