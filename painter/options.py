"""Options that several of chatpainter-paint's commands share, and the values that they take."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from store.options import device_option

_MODEL = (
    "Folder of a run or an exported model, or a generator file. [default: runs/stage2 or runs/stage1, or the sample "
    "model that ships with the package]"
)
_run_option = click.option("--run", type=click.Path(path_type=Path), help=_MODEL)
_weights_option = click.option(
    "--weights",
    type=click.Path(exists=True, file_okay=False),
    help="Folder with the encoders' weights. [default: as exported with the model, or as params.yaml says]",
)


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name a generator and its encoders."""
    return _run_option(_weights_option(function))


def generator_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that paints with one generator."""
    return model_options(device_option(function))


def several_generators_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a command that loads several."""
    runs = click.option(
        "--run", "runs", multiple=True, type=click.Path(path_type=Path), help=f"{_MODEL} May be given again."
    )
    return runs(_weights_option(device_option(function)))


def dialogue_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say one dialogue."""
    function = click.option("--answer", multiple=True, metavar="TEXT", help="Its answer.")(function)
    return click.option("--ask", multiple=True, metavar="TEXT", help="A question about the picture; once a round.")(
        function
    )


class Finite(click.FloatRange):
    """A range of numbers; `nan` lies in none, although click lets it pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


class Size(click.ParamType):
    """A width in pixels as a whole number, or `all`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "all" or isinstance(value, int):
            return value
        if not str(value).isascii() or not str(value).isdigit() or len(str(value)) > 6:
            self.fail(f"{str(value)[:60]!r} is neither a width in pixels nor `all`", param, ctx)
        return int(value)


def noise_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option(
        "--truncation",
        default=1.0,
        show_default=True,
        type=Finite(0, 3),
        help="Multiplies the noise: 1 as in training, 0 none.",
    )(function)
    return click.option(
        "--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of the noise."
    )(function)


out_option = click.option(
    "-o",
    "--out",
    default="painting.png",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the pictures go: .png, or .gif for a film.",
)
