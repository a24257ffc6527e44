"""chatpainter-paint: pictures from words. Options and messages only."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from painter.dialogue import Dialogue, ask_and_answer, check, read
from painter.options import (
    Size,
    dialogue_options,
    generator_options,
    model_options,
    noise_options,
    out_option,
    several_generators_options,
)
from painter.request import PaintRequest
from store import devices
from store.company import considerate
from store.options import CONTEXT, device_option, version_option

if TYPE_CHECKING:
    from painter.interviewer import Interviewer
    from painter.painter import Painter


class PaintByDefault(click.Group):
    """A group whose first word, if it names no command, begins the arguments of `paint`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h", "--version"):
            args = ["paint", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, '"CAPTION" [OPTIONS]   or   COMMAND [ARGS]...')

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands["paint"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=PaintByDefault, context_settings=CONTEXT)
@version_option
def main() -> None:
    """Paint pictures from a caption and the talk about it.

    \b
      chatpainter-paint "a small red circle at the top left and one other object" \\
          --ask "what is the ground like" --answer "sand" -n 4 --seed 7 -o mine.png
      chatpainter-paint --split val --image-id 1000001 --every-round -o film.gif
      chatpainter-paint serve
    """


@main.command()
@click.argument("caption", required=False)
@dialogue_options
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="FILE",
              help="Paint every dialogue of a file: VisDial's JSON, our JSON, or a caption a line.")  # fmt: skip
@click.option("--split", help="With --image-id: words and real picture of this split, from the stores in data/.")
@click.option("--image-id", "image_ids", type=int, multiple=True, help="An image of --split; may be given again.")
@click.option("--data", default="data", show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Where the stores of --split lie.")  # fmt: skip
@click.option(
    "-n", "count", default=1, show_default=True, type=click.IntRange(1, 64), help="Pictures of each dialogue."
)
@noise_options
@click.option("--every-round", "--film", is_flag=True,
              help="From the caption alone to all rounds; -o film.gif makes it move.")  # fmt: skip
@click.option("--attention", is_flag=True, help="Show which round each place of the picture listened to.")
@click.option("--size", type=Size(), metavar="PIXELS|all", help="Pictures of this size. [default: the largest]")
@click.option("--plain", is_flag=True, help="The picture alone, without the words beneath; needs one picture.")
@out_option
@generator_options
def paint(**options: Any) -> None:
    """Paint a caption, a file of dialogues, or images of a split (the command when none is named)."""
    _paint(PaintRequest(**options))


def _paint(asked: PaintRequest) -> None:
    _refuse_suffix(asked.out, moving=asked.every_round)
    dialogues = asked.dialogues()
    painter = _painter(asked.run, asked.weights, asked.device)
    _warn(painter, dialogues)
    from painter import figures, splits

    side = asked.size if isinstance(asked.size, int) else None
    noise: dict[str, Any] = {"seed": asked.seed, "truncation": asked.truncation}
    if asked.attention:
        for quarter in figures.attended(painter, dialogues[0], asked.out, **noise):
            click.echo(quarter)
    elif asked.plain:
        figures.plain(painter, dialogues[0], asked.out, side=side, **noise)
    else:
        real = splits.pictures(asked.data, asked.split, asked.image_ids) if asked.split else None
        noise |= {"count": asked.count, "real": real}
        if asked.every_round:
            figures.filmstrip(painter, dialogues[0], asked.out, **noise)
        else:
            figures.grid(painter, dialogues, asked.out, side=side, every_side=asked.size == "all", **noise)
    click.echo(f"painted {asked.out}")


@main.command()
@click.argument("first")
@click.argument("last", required=False)
@dialogue_options
@click.option(
    "--steps", default=8, show_default=True, type=click.IntRange(2, 120), help="Pictures, both ends included."
)
@noise_options
@click.option("--to-seed", type=click.IntRange(0, 2**32 - 1), help="The noise of the last picture. [default: --seed]")
@out_option
@generator_options
def interpolate(
    first: str,
    last: str | None,
    ask: tuple[str, ...],
    answer: tuple[str, ...],
    steps: int,
    seed: int,
    truncation: float,
    to_seed: int | None,
    out: Path,
    run: Path | None,
    weights: str | None,
    device: str,
) -> None:
    """Interpolate from one text to another, or from one noise to another.

    FIRST and LAST are captions (leave LAST out to change the noise alone), or files of which the first dialogue
    is read. The rounds of --ask and --answer are added to both.
    """
    _refuse_suffix(out, moving=True)
    if last is None and to_seed is None:
        raise click.UsageError("name a second text, or another noise with --to-seed")
    rounds = ask_and_answer(ask, answer)

    def end(text: str) -> Dialogue:
        if text.endswith((".json", ".txt")) and os.path.isfile(text):
            said = read(text)[0]
            return check(Dialogue(said.caption, said.rounds + rounds, said.image_id))
        return check(Dialogue(text, rounds))

    ends = end(first), end(first if last is None else last)
    painter = _painter(run, weights, device)
    _warn(painter, list(ends))
    from painter import figures

    seeds = seed, seed if to_seed is None else to_seed
    figures.interpolation(painter, *ends, out, steps=steps, seeds=seeds, truncation=truncation)
    click.echo(f"painted {out}")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines in.")
@click.option("--port", default=7860, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--name", "names", multiple=True, metavar="NAME",
              help="A name, besides the machine's own, by which people reach the page, as behind a proxy.")  # fmt: skip
@click.option("--public", is_flag=True, help="For strangers, as behind a proxy or tunnel; implied by such a --host.")
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@click.option("--corpus", type=click.Path(path_type=Path, dir_okay=False),
              help="Corpus the interviewer learns from. [default: data/corpus/train.parquet]")  # fmt: skip
@several_generators_options
def serve(
    host: str,
    port: int,
    names: tuple[str, ...],
    public: bool,
    show: bool,
    corpus: Path | None,
    runs: tuple[Path, ...],
    weights: str | None,
    device: str,
) -> None:
    """Open the chat page: a caption, then questions and answers, and the picture repainted after each.

    With several --run the page lets visitors choose among these models.
    """
    from painter import models, page
    from painter.gate import is_loopback
    from painter.studio import Studio

    offered = models.choice(runs)
    if offered[0].about:
        click.echo(offered[0].about, err=True)

    def load(model: models.Model) -> tuple["Painter", "Interviewer | None"]:
        from painter import interviewer
        from painter.painter import Painter

        return Painter.from_run(model.path, device=device, weights=weights), interviewer.find(model.path, corpus)

    studio = Studio({model.name: partial(load, model) for model in offered})
    _considerate(device)
    if studio.easel("").interviewer is None:
        click.echo(
            "no interviewer: neither interviewer.json beside the generator nor data/corpus/train.parquet", err=True
        )
    if not is_loopback(host):
        click.echo(f"served on {host}: everybody who can reach this machine can paint; there is no password", err=True)
    app = page.build(studio, public=public or not is_loopback(host))
    address, _ = page.launch(app, host, port, names=names, wait=False)
    click.echo(f"ChatPainter is at {address}   (Ctrl-C ends it)")
    if show:
        click.launch(address)
    app.block_thread()


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--with-weights", is_flag=True, help="Copy the encoders' weight files even where they are published ones."
)
@click.option("--metrics", type=click.Path(path_type=Path, dir_okay=False),
              help="Metrics for the model card. [default: runs/evaluate/metrics.json]")  # fmt: skip
@click.option("--corpus", type=click.Path(path_type=Path, dir_okay=False),
              help="Corpus the interviewer learns from. [default: data/corpus/train.parquet]")  # fmt: skip
@click.option("--onnx/--no-onnx", default=True, show_default=True, help="Write ONNX files too, and check them.")
@click.option("--half", is_flag=True, help="Write the generator's weights as float16.")
@model_options
def export(
    folder: Path,
    with_weights: bool,
    metrics: Path | None,
    corpus: Path | None,
    onnx: bool,
    half: bool,
    run: Path | None,
    weights: str | None,
) -> None:
    """Put everything that painting needs into FOLDER, with a model card."""
    from painter import export as exporting
    from painter import models

    painter, source = _painter(run, weights, "cpu"), models.find(run).path

    for line in exporting.export(
        painter, source, folder, with_weights=with_weights, metrics=metrics, corpus=corpus, onnx=onnx, half=half
    ):
        click.echo(line)


@main.command()
@click.argument("source", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--caption", metavar="TEXT",
              help="In place of FILE: words of the sample world, made a graph by that world's rules.")  # fmt: skip
@dialogue_options
@click.option("-n", "count", default=1, show_default=True, type=click.IntRange(1, 64), help="Pictures of each graph.")
@noise_options
@out_option
@click.option("--run", "--generator", "run", default=Path("runs/sg2im"), show_default=True,
              type=click.Path(path_type=Path), help="Folder of a run of sg2im, or a generator file.")  # fmt: skip
@device_option
def graph(
    source: Path | None,
    caption: str | None,
    ask: tuple[str, ...],
    answer: tuple[str, ...],
    count: int,
    seed: int,
    truncation: float,
    out: Path,
    run: Path,
    device: str,
) -> None:
    """Paint scene graphs: a JSON file of {"objects": [names], "relationships": [[row, predicate, row]]}, or a list.

    Boxes and masks, as the generator gives them to the objects, stand above the pictures.
    """
    from painter import graph as graphs

    _refuse_suffix(out, moving=False)
    if (source is None) == (caption is None):
        raise click.UsageError("say one of: FILE, or --caption with --ask and --answer")
    if caption is None and (ask or answer):
        raise click.UsageError("--ask and --answer go with --caption")
    generator = graphs.load(run, device)
    _considerate(device)
    if source is not None:
        every = graphs.read(source)
    else:
        every = [graphs.told(generator, caption or "", ask_and_answer(ask, answer))]
    graphs.sheet(every, graphs.paint(generator, every, count, seed, truncation), out)
    click.echo(f"painted {out}")


@main.command()
@click.option("-n", "count", default=8, show_default=True, type=click.IntRange(1, 64), help="Pictures.")
@noise_options
@out_option
@click.option("--run", "--generator", "run", default=Path("runs/stackgan-v2"), show_default=True,
              type=click.Path(path_type=Path), help="Folder of a run, or a generator file.")  # fmt: skip
@device_option
def noise(count: int, seed: int, truncation: float, out: Path, run: Path, device: str) -> None:
    """Paint with a generator that reads no words, such as a StackGAN++ with `conditional: false`."""
    from painter import noise as alone

    _refuse_suffix(out, moving=False)
    generator = alone.load(run, device)
    _considerate(device)
    alone.sheet(alone.paint(generator, count, seed, truncation), out)
    click.echo(f"painted {out}")


def _painter(run: Path | None, weights: str | None, device: str) -> "Painter":
    from painter import models
    from painter.painter import Painter

    found = models.find(run)
    if found.about:
        click.echo(found.about, err=True)
    painter = Painter.from_run(found.path, device=device, weights=weights)
    _considerate(device)
    return painter


def _considerate(device: str) -> None:
    """To others on the same cores, until the command ends."""
    click.get_current_context().with_resource(considerate(devices.choose(device).type))


def _warn(painter: "Painter", dialogues: list[Dialogue]) -> None:
    """Tell what the generator will not hear, once."""
    if not painter.hears_dialogue and any(dialogue.rounds for dialogue in dialogues):
        click.echo("this generator was trained on captions alone: questions and answers change nothing", err=True)
    notes = [painter.read(dialogue) for dialogue in dialogues]
    unknown = list(dict.fromkeys(word for note in notes for word in note.unknown))
    if unknown:
        more = f" and {len(unknown) - 12} more" if len(unknown) > 12 else ""
        click.echo(f"words the encoders do not know: {', '.join(map(repr, unknown[:12]))}{more}", err=True)
    if any(note.truncated for note in notes):
        click.echo("a caption is longer than its encoder reads; only its beginning counts", err=True)


def _refuse_suffix(out: Path, moving: bool) -> None:
    allowed = (".png", ".gif") if moving else (".png",)
    if out.suffix.lower() not in allowed:
        raise click.UsageError(f"-o {out}: expected a name that ends in {' or '.join(allowed)}")
