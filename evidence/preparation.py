"""The data of an experiment, made in its work folder by the commands that `dvc repro` calls, and its classifier."""

import contextlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

import click
import yaml

from evidence import worker
from evidence.profile import Profile, located, nowhere
from pipeline import embed_cli, encoders_cli, prepare_cli
from store import params
from store.errors import ChatPainterError, ParamsError
from store.files import replacing
from trainer import cli as train_cli
from trainer import systems

COMMANDS: dict[str, click.Command] = {
    "chatpainter-prepare": prepare_cli.main,
    "chatpainter-embed": embed_cli.main,
    "chatpainter-encoders": encoders_cli.main,
    "chatpainter-train": train_cli.main,
}


def prepare(work: Path, plan: Profile, values: dict[str, Any], here: Path) -> None:
    """Make the data in `work`, once for the same commands and numbers; `here`: the folder of params.yaml.

    Raises:
        ChatPainterError: a command failed, or names a variable that is not in the environment.
    """
    work.mkdir(parents=True, exist_ok=True)
    write_params(work / "params.yaml", located(plan, values, here, work))
    key = data_key(plan, values)
    done = work / "prepared.json"
    if done.exists() and json.loads(done.read_text(encoding="utf-8"))["key"] == key:
        return
    for line in plan.prepare:
        command, arguments = parsed(line, plan.title)
        click.echo(line)
        with contextlib.chdir(work):
            command.main(arguments, prog_name=line.split()[0], standalone_mode=False)
    with replacing(done) as temporary:
        temporary.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")


def data_key(plan: Profile, values: dict[str, Any]) -> str:
    """What the data depend on: of the trainer's sections only those of what is trained to make them."""
    known = params.sections()
    of_data = {name: value for name, value in nowhere(values).items() if not known[name].module.startswith("trainer.")}
    for name in forerunners(plan):
        of_data |= systems.find(name).configure(values, plan.title).plain()
    return params.digest([plan.prepare, of_data])


def forerunners(plan: Profile) -> list[str]:
    """The systems that are trained before the arms, once for all seeds, each into runs/NAME of the work folder."""
    commands = [shlex.split(line)[:2] for line in plan.prepare]
    return [name for name in systems.SYSTEMS if ["chatpainter-train", name] in commands]


def parsed(line: str, title: str) -> tuple[click.Command, list[str]]:
    """A command line of a profile: the command, and its arguments with $NAMES as the environment has them.

    Raises:
        ParamsError: no such command, or a name that the environment lacks.
    """
    name, *arguments = shlex.split(line) or [""]
    if name not in COMMANDS:
        raise ParamsError(f"{title}: prepare: {line!r} should begin with {' or '.join(COMMANDS)}")
    expanded = [os.path.expandvars(argument) for argument in arguments]
    for argument in expanded:
        if "$" in argument:
            raise ChatPainterError(f"{title}: set {argument} in the environment (docs/metrics.md says to what)")
    return COMMANDS[name], expanded


def make_classifiers(work: Path, plan: Profile, values: dict[str, Any], device: str) -> None:
    """Train the world's classifier before the jobs, which all judge by it, for each split that they are judged on."""
    from trainer.evaluation import evaluate

    final, between = worker.judged_by(values, plan.evaluate_between, str(work / "params.yaml"))
    with contextlib.chdir(work):
        for split in dict.fromkeys((final.split, between.split)):
            evaluate.make_classifier("params.yaml", device, split, worker.classifier_of(split, final.split))


def write_params(path: Path, values: dict[str, Any]) -> None:
    """A params.yaml, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
