"""What an experiment runs: a YAML profile over the numbers of params.yaml, read strictly."""

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store import params
from store.errors import ParamsError

Overrides = dict[str, Any]

# Where the user's files lie, from params.yaml's folder. What is found there is known by its content (the stores'
# manifests, metrics.json), so a job is the same wherever it is.
LOCATIONS = (("encoders", "weights"), ("evaluate", "published", "weights"))
WEIGHTS = "data/weights"


@dataclass(frozen=True)
class Ablations:
    """Changes of the recipe, each alone, on each of some arms."""

    arms: tuple[str, ...]
    changes: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    points: tuple[int, ...] = ()  # pictures seen; empty: the profile's


@dataclass(frozen=True)
class Profile:
    """One experiment. `overrides`, each arm and each change are laid over params.yaml, later ones over earlier.

    Beside sections, an arm may name its own `system`, and `pictures_each`: how many pictures such a system is shown
    where it counts one (dialogues of so many turns), so that every arm is trained on as many pictures.
    """

    title: str
    arms: dict[str, Any]  # numbers of each
    seeds: tuple[int, ...]
    points: tuple[int, ...]  # pictures seen at which every run is evaluated; training ends at the last
    prepare: tuple[str, ...]  # command lines ($NAMES are the environment's), run in the work folder
    compare: tuple[tuple[str, str], ...]  # pairs of arms to test against each other
    score: str  # the figure that the curves and tests are about
    reach: dict[str, tuple[float, ...]] = field(default_factory=dict)  # figure -> values: how long until it is so high?
    by_round: tuple[str, ...] = ()  # scores to show after every round, besides `score`
    system: str = "stage1"  # what is trained where an arm names no `system`: its command, its section of params.yaml
    overrides: dict[str, Any] = field(default_factory=dict)
    evaluate_between: dict[str, Any] = field(default_factory=dict)  # over `evaluate`, at all points but the last
    changes: dict[str, Any] = field(default_factory=dict)
    ablations: tuple[Ablations, ...] = ()

    def __post_init__(self) -> None:
        if not self.arms or not self.seeds:
            raise ValueError("arms and seeds must not be empty")
        for points in (self.points, *(group.points for group in self.ablations if group.points)):
            if list(points) != sorted(set(points)) or not points or points[0] < 1:
                raise ValueError("points must rise")
        for arm, values in self.arms.items():
            each = (values or {}).get("pictures_each", 1)
            if type(each) is not int or each < 1 or any(point % each for point in self.points):
                raise ValueError(f"{arm}: pictures_each must be a whole number that divides all points")
        for name in [arm for pair in self.compare for arm in pair]:
            if name not in self.arms:
                raise ValueError(f"compare names {name!r}, which is no arm")
        alone = []
        for group in self.ablations:
            if not group.seeds:
                raise ValueError("ablations: seeds must not be empty")
            for arm in group.arms:
                if arm not in self.arms:
                    raise ValueError(f"ablations name {arm!r}, which is no arm")
            for change in group.changes:
                if change not in self.changes:
                    raise ValueError(f"ablations name {change!r}, which is no change")
            alone += [(arm, change) for arm in group.arms for change in group.changes]
        for arm, change in alone:
            if alone.count((arm, change)) > 1:
                raise ValueError(f"ablations name {change!r} of {arm!r} twice")

    @property
    def trains_encoders(self) -> bool:
        """Whether its own lines do, into the work folder: `encoders.weights` is named from there."""
        return any(line.startswith("chatpainter-encoders ") for line in self.prepare)


@dataclass(frozen=True)
class Job:
    """One training with its evaluations."""

    name: str
    arm: str
    system: str
    change: str | None
    seed: int
    points: tuple[int, ...]
    params: dict[str, Any] = field(hash=False)
    pictures_each: int = 1

    @property
    def key(self) -> str:
        """What the job's results depend on."""
        return params.digest([nowhere(self.params), self.points, self.system])


def load(path: Path, base: Path) -> tuple[Profile, dict[str, Any]]:
    """The profile, and params.yaml with the profile's overrides.

    Raises:
        ParamsError: unknown keys, wrong types, arms that are not there.
    """
    profile = params.build(Profile, _read(path), str(path))
    return profile, params.merge(params.load(base), profile.overrides)


def _read(path: Path) -> dict[str, Any]:
    """A profile's values; those of the one that it names as `base` below: `overrides` merged, all others replaced.

    `arms` may be a list of arms that a profile below it describes: a name, or a name with what it changes there.

    Raises:
        ParamsError: unreadable, a circle of bases, or a name that none of them describes.
    """
    values, described = _over_base(path, ())
    if isinstance(listed := values.get("arms"), list):
        values["arms"] = {}
        for each in listed:
            name, changes = next(iter(each.items())) if isinstance(each, dict) and len(each) == 1 else (each, {})
            if not isinstance(name, str) or name not in described:
                raise ParamsError(
                    f"{path}: arms: {name!r} is no arm of its base; there: {', '.join(described) or 'none'}"
                )
            if not isinstance(changes, dict):
                raise ParamsError(f"{path}: arms: {name}: expected a mapping of what it changes, found {changes!r}")
            values["arms"][name] = params.merge(described[name] or {}, changes)
    return values


def _over_base(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values, and all arms that are described there or further down."""
    if path in above:
        raise ParamsError(f"{path}: base leads back to {above[0]}")
    values = params.read(path)
    base = values.pop("base", None)
    arms = values.get("arms")
    own = arms if isinstance(arms, dict) else {}
    if base is None:
        return values, own
    if not isinstance(base, str):
        raise ParamsError(f"{path}: base: expected the name of a profile beside this one, found {base!r}")
    below, described = _over_base(path.parent / base, (*above, path))
    for part in (below, values):
        if not isinstance(part.get("overrides") or {}, dict):
            raise ParamsError(f"{path}: overrides: expected a mapping, found {part['overrides']!r}")
    overrides = params.merge(below.get("overrides") or {}, values.get("overrides") or {})
    return below | values | {"overrides": overrides}, described | own


def jobs(profile: Profile, base: dict[str, Any]) -> list[Job]:
    """Every training of the profile: arms times seeds, then ablations. The longest wait first: seeds outermost."""

    def job(arm: str, change: str | None, seed: int, points: tuple[int, ...]) -> Job:
        own = dict(profile.arms[arm] or {})
        system, each = own.pop("system", profile.system), own.pop("pictures_each", 1)
        values = params.merge(base, own)
        if change is not None:
            values = params.merge(values, profile.changes[change])
        values = params.merge(values, {system: {"seed": seed, "images": points[-1] // each}})
        name = f"{arm}-{seed}" if change is None else f"{arm}-without-{change}-{seed}"
        return Job(name, arm, system, change, seed, points, values, each)

    result = [job(arm, None, seed, profile.points) for seed in profile.seeds for arm in profile.arms]
    for group in profile.ablations:
        points = group.points or profile.points
        result += [
            job(arm, change, seed, points) for seed in group.seeds for change in group.changes for arm in group.arms
        ]
    return result


def located(profile: Profile, values: Overrides, here: Path, work: Path) -> Overrides:
    """The same params with the user's files, named from the folder `here`, as the folder `work` sees them."""
    for *sections, name in LOCATIONS:
        if sections == ["encoders"] and profile.trains_encoders:
            continue
        at = values
        for section in sections:
            at = at.get(section) or {}
        place: Overrides = {name: os.path.relpath(here / at.get(name, WEIGHTS), work)}
        for section in reversed(sections):
            place = {section: place}
        values = params.merge(values, place)
    return values


def nowhere(values: Overrides) -> Overrides:
    """The same params without the places of the user's files."""
    values = copy.deepcopy(values)
    for *sections, name in LOCATIONS:
        at = values
        for section in sections:
            at = at.get(section) or {}
        at.pop(name, None)
    return values
