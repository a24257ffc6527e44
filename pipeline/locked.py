"""Did the stages give the bytes that they gave before? `dvc.lock` as it is beside the one last committed.

python -m pipeline.locked              # says which stages differ
python -m pipeline.locked world corpus # and ends with 1 if one of these does
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from store import options
from store.errors import ChatPainterError, one_line
from store.files import in_words

LOCK = Path("dvc.lock")


def other_bytes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Paths of a stage's outputs whose content is another; `before` and `now`: the stage in two locks."""
    then = {out["path"]: out["md5"] for out in before["outs"]}
    return [out["path"] for out in now["outs"] if out["md5"] != then.get(out["path"])]


def same_recipe(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether both were made by the same command with the same parameters."""
    return (before["cmd"], before.get("params")) == (now["cmd"], now.get("params"))


@click.command(context_settings=options.CONTEXT)
@click.argument("stages", nargs=-1)
def main(stages: tuple[str, ...]) -> None:
    """Compare dvc.lock with the one of the last commit; fail where one of STAGES gave other bytes than that one names.

    A stage over several splits goes by the name before its @. One that has other parameters now is not compared.
    """
    with in_words(LOCK):
        now = read(LOCK.read_text(encoding="utf-8"), str(LOCK))
    committed = committed_lock()
    if committed is None:
        click.echo(f"{LOCK} is not compared: no commit here has one")
        return
    before = read(committed, f"{LOCK} of the last commit")
    if unknown := set(stages) - {own for name in before for own in (name, name.split("@")[0])}:
        raise ChatPainterError(
            f"{LOCK} of the last commit has no stage {', '.join(sorted(unknown))}; make repro, commit"
        )
    compared = {name for name in before.keys() & now.keys() if same_recipe(before[name], now[name])}
    differing = {name: paths for name in sorted(compared) if (paths := other_bytes(before[name], now[name]))}
    if strict := {name: paths for name, paths in differing.items() if {name, name.split("@")[0]} & set(stages)}:
        raise ChatPainterError(
            f"{LOCK}: other bytes than the last commit's: "
            + "; ".join(f"{name} ({', '.join(paths)})" for name, paths in strict.items())
            + f"; if that is meant, commit the new {LOCK}"
        )
    if missing := [name for name in before if name.split("@")[0] in stages and name not in now]:
        raise ChatPainterError(f"{LOCK}: nothing was made of {', '.join(missing)}; run: dvc repro {' '.join(missing)}")
    told = f"{len(compared) - len(differing)} of {len(before)} stages gave the bytes of the committed {LOCK}"
    click.echo(told + (f"; other bytes on this machine: {', '.join(differing)} (docs/dvc.md)" if differing else ""))


def committed_lock() -> str | None:
    """The text of dvc.lock in the last commit; None where there is no commit, or no git."""
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return shown.stdout if shown.returncode == 0 else None


def read(text: str, where: str) -> dict[str, Any]:
    """The stages of a lock, by name.

    Raises:
        ChatPainterError: it is none.
    """
    try:
        stages = yaml.safe_load(text)["stages"]
        for stage in stages.values():
            _ = stage["cmd"], [(out["path"], out["md5"]) for out in stage["outs"]]
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ChatPainterError(f"{where}: no lock of DVC ({one_line(error)}); restore it from git") from None
    return dict(stages)


if __name__ == "__main__":
    main()
