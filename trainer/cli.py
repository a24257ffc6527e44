"""chatpainter-train: one command a system, and published projects' files in and out."""

from pathlib import Path
from typing import Any

import click

from store import options, params
from trainer import systems
from trainer.systems import published

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

    from store.interrupts import PREEMPTED
    from trainer import loop, run

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


def _import(system: str, file: Path, out: Path, options: tuple[str, ...] = ()) -> None:
    from trainer import generator_file

    given = dict(_option(text) for text in options)
    generator = published.read_generator(system, file, given)
    generator_file.save(generator, out)
    widths = ", ".join(f"{name} of {dim} dimensions" for name, dim in generator.dims.items()) or "no texts"
    sides = ", ".join(f"{side} x {side}" for side in generator.names)
    click.echo(f"{out}: {generator.settings['system']}, reads {widths}, paints {sides}")


def _export(generator: Path, out: Path) -> None:
    from trainer import generator_file

    published.write_generator(generator_file.load(generator), out)
    click.echo(f"{out}: written")


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--option {text}: expected NAME=VALUE")
    return name, value


_FILE = click.argument("file", type=click.Path(path_type=Path))
_GENERATOR = click.argument("generator", type=click.Path(path_type=Path))
_OUT = click.option("--out", type=click.Path(path_type=Path), required=True, help="generator.safetensors to write.")
_PUBLISHED_OUT = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Published project's file to write."
)


@main.command("import")
@_FILE
@click.option(
    "--system",
    type=click.Choice(published.names()),
    required=True,
    help="Whose file it is.  " + "; ".join(f"{name}: {one.about}" for name, one in published.PUBLISHED.items()),
)
@_OUT
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
              help="What the file does not say itself, by system; repeatable.")  # fmt: skip
def import_(file: Path, system: str, out: Path, options: tuple[str, ...]) -> None:
    """Turn a published generator into one of ours, to be painted with or trained on."""
    _import(system, file, out, options)


@main.command("export")
@_GENERATOR
@_PUBLISHED_OUT
def export(generator: Path, out: Path) -> None:
    """Turn a generator into its published project's file; what was imported comes out as it was."""
    _export(generator, out)


@main.command("import-stackgan", hidden=True)
@_FILE
@_OUT
def import_stackgan(file: Path, out: Path) -> None:
    """The same as `import --system stackgan`."""
    _import("stackgan", file, out)


@main.command("export-stackgan", hidden=True)
@_GENERATOR
@_PUBLISHED_OUT
def export_stackgan(generator: Path, out: Path) -> None:
    """The same as `export`."""
    _export(generator, out)


if __name__ == "__main__":
    main()
