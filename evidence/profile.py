"""What an experiment runs: a YAML profile over the numbers of params.yaml, read strictly."""

import copy
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from store import params
from store.errors import ParamsError

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Ablations:
    """Changes of the recipe, one at a time, on one arm."""

    arm: str = "recurrent"
    seeds: tuple[int, ...] = (0,)
    points: tuple[int, ...] = ()  # pictures seen; empty: the profile's
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """One experiment. `overrides`, each arm and each change are laid over params.yaml, later ones over earlier.

    Where `overrides` name a preset for `model` or `stage1`, that section of params.yaml does not count.
    """

    title: str
    arms: dict[str, Any]
    seeds: tuple[int, ...]
    points: tuple[int, ...]  # pictures seen at which every run is evaluated; training ends at the last
    prepare: tuple[str, ...]  # command lines ($NAMES are the environment's), run in the work folder
    compare: tuple[tuple[str, str], ...]  # pairs of arms to test against each other
    score: str  # the figure that the curves and tests are about
    overrides: dict[str, Any] = field(default_factory=dict)
    evaluate_between: dict[str, Any] = field(default_factory=dict)  # over `evaluate`, at all points but the last
    ablations: Ablations = field(default_factory=Ablations)

    def __post_init__(self) -> None:
        if list(self.points) != sorted(set(self.points)) or not self.points or self.points[0] < 1:
            raise ValueError("points must rise")
        if not self.arms or not self.seeds:
            raise ValueError("arms and seeds must not be empty")
        for name in [arm for pair in self.compare for arm in pair]:
            if name not in self.arms:
                raise ValueError(f"compare names {name!r}, which is no arm")
        if self.ablations.changes and self.ablations.arm not in self.arms:
            raise ValueError(f"ablations.arm {self.ablations.arm!r} is no arm")


@dataclass(frozen=True)
class Job:
    """One training with its evaluations."""

    name: str
    arm: str
    change: str | None
    seed: int
    points: tuple[int, ...]
    params: dict[str, Any]

    @property
    def key(self) -> str:
        """What the job's results depend on."""
        return hashlib.sha256(json.dumps([self.params, self.points], sort_keys=True).encode()).hexdigest()


def load(path: Path, base: Path) -> tuple[Profile, dict[str, Any]]:
    """The profile, and params.yaml with the profile's overrides; paths to weights made absolute.

    Raises:
        ParamsError: unknown keys, wrong types, arms that are not there.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML ({error})".replace("\n", " ")) from None
    profile = params.build(Profile, values, str(path))
    below = params.load(base)
    for section in ("model", "stage1"):
        # A recipe named by the profile is the whole recipe, whatever params.yaml was last used for.
        if "preset" in (profile.overrides.get(section) or {}):
            below.pop(section, None)
    merged = merge(below, profile.overrides)
    # Everything else is relative to the work folder; the user's weights lie beside params.yaml.
    root = base.resolve().parent
    for section, key in (("encoders", "weights"), ("evaluate", "published")):
        part = merged.setdefault(section, {})
        if section == "encoders":
            part[key] = str(root / part.get(key, "data/weights"))
        else:
            part[key] = {**part.get(key, {}), "weights": str(root / part.get(key, {}).get("weights", "data/weights"))}
    return profile, merged


def jobs(profile: Profile, base: dict[str, Any]) -> list[Job]:
    """Every training of the profile: arms times seeds, then ablations. The longest wait first: seeds outermost."""

    def job(arm: str, change: str | None, seed: int, points: tuple[int, ...], *overrides: Overrides) -> Job:
        values = base
        for override in (*overrides, {"stage1": {"seed": seed, "images": points[-1]}}):
            values = merge(values, override)
        name = f"{arm}-{seed}" if change is None else f"{arm}-without-{change}-{seed}"
        return Job(name, arm, change, seed, points, values)

    result = [
        job(arm, None, seed, profile.points, override)
        for seed in profile.seeds
        for arm, override in profile.arms.items()
    ]
    it = profile.ablations
    for seed in it.seeds:
        for change, override in it.changes.items():
            result.append(job(it.arm, change, seed, it.points or profile.points, profile.arms[it.arm], override))
    return result


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section; neither is changed."""
    result = copy.deepcopy(below)
    for name, value in (above or {}).items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merge(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result
