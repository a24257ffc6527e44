"""From what the judges saw to figures, tables and plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluation import classifier as domain
from trainer.evaluation import clip, damsm, detected, distances, inception_score, retrieval, scenes
from trainer.evaluation.evaluated import Evaluated, KnownWorld, reading
from trainer.evaluation.figures import Figures, write_table
from trainer.evaluation.judges import Judges
from trainer.evaluation.parts import Arrays
from trainer.evaluation.split import Condition, HeldOutSplit
from trainer.evaluation.truth import NOTHING, Head, Truth
from trainer.logs.log import read_log

SHOWN = ("colour_accuracy", "ground_accuracy", "presence_f1", "object_f1", "rsim", "scene_accuracy", "slots")
HEADLINE = ("colour_accuracy", "object_f1", "ground_accuracy", "slots", "rsim")
JUDGED = ("presence_f1", "rsim")  # of what the classifier alone can see
CHANGING = ("scene_accuracy",)  # beside those, where rounds change the scene
# Of painters who do not listen, where rounds change the scene.
FLOORS = ("slots", "object_f1", "rsim", *CHANGING)
READ = "pixels voting for the nearest palette colour in CIELAB, within the place's cell"


def scene_figures(figures: Figures, world: KnownWorld, it: Evaluated) -> None:
    """Exact scores of painted and real pictures, and what can be scored without the dialogue."""
    n = len(it.ids)
    for size in it.sizes:
        for who, arrays in ((it.names[size], it.painted), (f"real{size}", it.real)):
            seen = reading(arrays, size)
            if seen is not None:
                values = scenes.scores(seen, world.truth, it.ids)
                shown = SHOWN if arrays is it.painted else ("colour_accuracy",)
                figures.add_all(who, values, READ, n, shown, truth=world.truth.sha256, seed=it.seed)
    if world.truth.places:
        for who, values in scenes.floors(world.truth, it.ids).items():
            for score in FLOORS:
                figures.add(f"{who}_{score}", values[score], "by the truth, whatever is said", n, score == "slots")
        for score, best in scenes.ceilings(world.truth).items():
            for told, value in best.items():
                stated = world.truth.ceilings.get(score, {}).get(told)
                name, protocol = f"{told}_ceiling_{score}", "computed from the scenes of this split"
                figures.add(name, value, protocol, n, score == "colour_accuracy", world_states=stated)


def classifier_figures(figures: Figures, world: KnownWorld, it: Evaluated) -> None:
    """What the classifier says of painted pictures, its own scores on held-out real ones beside."""
    protocol = "classifier trained on real pictures only"
    shown = {"shape_accuracy", "size_accuracy"} if world.truth.places else set(JUDGED)
    figures.add_all("real_classifier", world.held_out, f"{protocol}, held-out real pictures", len(it.ids), shown)
    for size in it.sizes:
        values = judged(world.truth, it.painted, it.ids, size)
        about: dict[str, Any] = {"classifier": world.sha256, "resize": domain.RESIZE, "seed": it.seed}
        figures.add_all(f"{it.names[size]}_classifier", values, protocol, len(it.ids), shown, **about)


def judged(truth: Truth, arrays: Arrays, ids: np.ndarray, size: int) -> dict[str, float]:
    """The classifier's scores of pictures, and rsim where it says where clip-arts stand."""
    found = domain.answers(arrays[f"{size}/domain/log_posteriors"], truth.heads())
    values = domain.scores(found, truth.targets(ids), truth.heads())
    similar = detected.similarity_to_truth(truth, found, arrays.get(f"{size}/domain/middles"), ids)
    return values if similar is None else {**values, "rsim": similar}


def domain_figures(figures: Figures, world: KnownWorld, it: Evaluated) -> None:
    """Distances, Inception Score and R-precision in the classifier's feature space."""
    n = len(it.ids)
    for size in it.sizes:
        name = it.names[size]
        about: dict[str, Any] = {
            "network": "domain classifier",
            "sha256": world.sha256,
            "resize": domain.RESIZE,
            "seed": it.seed,
        }
        features = it.painted[f"{size}/domain/features"], it.real[f"{size}/domain/features"]
        distribution_figures(figures, f"{name}_domain", *features, it.seed, about)
        for who, arrays in ((name, it.painted), (f"real{size}", it.real)):
            posteriors = domain.per_head(arrays[f"{size}/domain/log_posteriors"], world.heads)
            value = inception_score.domain(posteriors)
            protocol = "geometric mean of the questions' Inception Scores"
            figures.add(f"{who}_domain_is", value, protocol, n, **about)
        facts = one_hot(world.truth.targets(it.ids), world.heads)
        answers = it.painted[f"{size}/domain/log_posteriors"]
        retrieval.r_precision_figure(figures, f"{name}_domain_r_precision", answers, facts, it.seed, about)


def published_figures(
    figures: Figures, judges: Judges, it: Evaluated, held_out: HeldOutSplit, images: np.ndarray
) -> None:
    """Scores by the published networks that were there, of the largest pictures."""
    size, n = max(it.sizes), len(it.ids)
    name = it.names[size]
    about: dict[str, dict[str, Any]] = {
        key: {"network": judge.name, "sha256": judge.sha256, "resize": judge.resize, "seed": it.seed, "size": size}
        for key, judge in judges.published.items()
    }
    if "inception-torchvision" in about:
        posteriors = it.painted[f"{size}/inception-torchvision/log_posteriors"]
        # 30,000 of 40,000 in the paper; the same share of fewer pictures.
        subset = 30_000 if n >= 40_000 else n * 3 // 4
        value, spread = inception_score.subsets(posteriors, 10, subset, it.seed)
        protocol = f"paper: 10 random, overlapping subsets of {subset} of {n}"
        figures.add(f"{name}_is_paper", value, protocol, n, spread=spread, splits=10, **about["inception-torchvision"])
    if "inception-2015" in about:
        mine = about["inception-2015"]
        posteriors = it.painted[f"{size}/inception-2015/log_posteriors"]
        splits = min(10, n)
        value, spread = inception_score.disjoint(posteriors, splits)
        protocol = f"reference: {splits} disjoint splits after a shuffle with seed 2020 (torch-fidelity)"
        figures.add(f"{name}_is_reference", value, protocol, n, spread=spread, splits=splits, **mine)
        features = it.painted[f"{size}/inception-2015/features"], it.real[f"{size}/inception-2015/features"]
        distance_figures(figures, name, *features, mine)
    if "vgg16" in about:
        features = it.painted[f"{size}/vgg16/features"], it.real[f"{size}/vgg16/features"]
        coverage_figures(figures, name, *features, about["vgg16"])
    if "clip" in about:
        seen, read = it.painted[f"{size}/clip/features"], judges.published["clip"].read
        assert read is not None
        clip.figures_of(figures, name, seen, read, held_out, images, it.seed, about["clip"])
    if damsm.NAME in about:
        codes, figure = it.painted[f"{size}/{damsm.NAME}/codes"], f"{name}_damsm_r_precision"
        damsm.figures_of(figures, figure, codes, held_out, images, it.seed, about[damsm.NAME])


def distribution_figures(
    figures: Figures, name: str, painted: np.ndarray, real: np.ndarray, seed: int, about: dict[str, Any]
) -> None:
    """FID, KID, precision and recall in one feature space."""
    distance_figures(figures, name, painted, real, about)
    coverage_figures(figures, name, painted, real, about)


def distance_figures(figures: Figures, name: str, painted: np.ndarray, real: np.ndarray, about: dict[str, Any]) -> None:
    """FID and KID."""
    n = len(painted)
    moments = []
    for features in (painted, real):
        moments.append(distances.Moments(features.shape[1]))
        moments[-1].add(features)
    figures.add(f"{name}_fid", distances.frechet_distance(*moments), f"against {len(real)} real pictures", n, **about)
    # Subsets of 1,000 unless that would leave nothing to choose from.
    size = 1000 if min(n, len(real)) >= 2000 else min(n, len(real)) // 2
    value, spread = distances.kernel_distance(painted, real, subsets=100, size=size)
    protocol = f"100 subsets of {size}, kernel (x.y/d + 1)^3, unbiased, seed 2020"
    figures.add(f"{name}_kid", value, protocol, n, spread=spread, **about)


def coverage_figures(figures: Figures, name: str, painted: np.ndarray, real: np.ndarray, about: dict[str, Any]) -> None:
    """Precision and recall."""
    precision, recall = distances.precision_recall(painted, real)
    protocol = f"3 nearest neighbours, {len(real)} real pictures"
    figures.add(f"{name}_precision", precision, protocol, len(painted), **about)
    figures.add(f"{name}_recall", recall, protocol, len(painted), **about)


def probe_figures(
    figures: Figures, world: KnownWorld, it: Evaluated, probes: dict[Condition, Arrays], count: int
) -> None:
    """The exact scores (or the classifier's, where pixels cannot be read) when the dialogue is tampered with.

    Where rounds change the scene, a picture of the first rounds is compared with the scene after them.
    """
    size = min(it.sizes)
    for condition, arrays in probes.items():
        name = f"{it.names[size]}_{condition.name.replace('-', '_')}"
        values = headline(world, arrays, it.ids[:count], size, condition.rounds)
        shown = () if condition.rounds is not None else ("colour_accuracy", "presence_f1", "slots")
        figures.add_all(name, values, f"dialogue {condition.name}, first {count} images", count, shown, seed=it.seed)


def headline(
    world: KnownWorld, arrays: Arrays, ids: np.ndarray, size: int, rounds: int | None = None
) -> dict[str, float]:
    """The few scores that stand for how much of the text was painted; rounds: after how many (None: all)."""
    truth = world.truth if rounds is None else world.truth.after(rounds)
    seen = reading(arrays, size)
    values = judged(truth, arrays, ids, size) if seen is None else scenes.scores(seen, truth, ids)
    names = JUDGED if seen is None else HEADLINE + (CHANGING if truth.films else ())
    return {name: values[name] for name in names if name in values}


def losses(figures: Figures, logs: Sequence[Path]) -> None:
    """The last record of each training log: losses, the spread of mu, pictures seen."""
    for folder in logs:
        records = read_log(folder)
        if not records:
            figures.skip(f"{folder.name}_losses", f"{folder}/log.jsonl holds no record")
            continue
        last = records[-1]
        for name in ("images", "d_loss", "g_loss", "kl", "mu_spread"):
            if isinstance(last.get(name), int | float):
                figures.add(f"{folder.name}_{name}", last[name], f"last tick of {folder}/log.jsonl", last["images"])


def picture_scores(world: KnownWorld | None, it: Evaluated) -> np.ndarray | None:
    """(n,) in [0, 1]: the share of its scene's facts that each largest picture shows; None where truth is unknown."""
    if world is None:
        return None
    size = max(it.sizes)
    seen = reading(it.painted, size)
    if seen is not None:
        return scenes.right(seen, world.truth, it.ids).mean(axis=1)
    found = domain.answers(it.painted[f"{size}/domain/log_posteriors"], world.heads) > 0
    wanted = world.truth.targets(it.ids) > 0
    both, either = (found & wanted).sum(axis=1), (found | wanted).sum(axis=1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def table(path: Path, world: KnownWorld | None, it: Evaluated) -> None:
    """One row a picture: what its painted pictures of each side got right, for tests over scenes."""
    columns: dict[str, np.ndarray] = {"image_id": it.ids}
    if world is not None:
        for size in it.sizes:
            name = it.names[size]
            seen = reading(it.painted, size)
            if seen is not None:
                right = scenes.right(seen, world.truth, it.ids)
                wanted = world.truth.colour_labels(it.ids)
                columns |= {
                    "objects": (wanted != NOTHING).sum(axis=1),
                    f"{name}_colours_right": (right[:, :-1] & (wanted != NOTHING)).sum(axis=1),
                    f"{name}_objects_painted": (seen.colours != NOTHING).sum(axis=1),
                    f"{name}_places_right": ((wanted != NOTHING) == (seen.colours != NOTHING)).sum(axis=1),
                    f"{name}_ground_right": right[:, -1].astype(int),
                    "slots": np.full(len(right), len(world.truth.slots)),
                    f"{name}_slots_right": scenes.slots_right(right, world.truth).sum(axis=1),
                }
            else:
                found = domain.answers(it.painted[f"{size}/domain/log_posteriors"], world.heads) > 0
                there = world.truth.targets(it.ids) > 0
                columns |= {
                    "objects": there.sum(axis=1),
                    f"{name}_present_right": (found & there).sum(axis=1),
                    f"{name}_present_painted": found.sum(axis=1),
                }
    scores = picture_scores(world, it)
    if scores is not None:
        columns["score"] = scores.round(4)
    write_table(path, list(columns), zip(*columns.values()))


def plots(folder: Path, world: KnownWorld, it: Evaluated, probes: dict[Condition, Arrays], count: int) -> None:
    """CSV files for `dvc plots`: accuracy by place, by number of objects, by rounds given, and confusion of colours."""
    truth, ids = world.truth, it.ids
    if truth.places:
        wanted = truth.colour_labels(ids)
        there = wanted != NOTHING
        by_place, by_objects = [], []
        for size in it.sizes:
            seen = reading(it.painted, size)
            assert seen is not None
            right = (seen.colours == wanted) & there
            for column, place in enumerate(truth.places):
                by_place.append((it.names[size], place, _mean(right[there[:, column], column])))
            for objects in range(1, len(truth.places) + 1):
                rows = there.sum(axis=1) == objects
                by_objects.append((it.names[size], objects, _mean(right[rows][there[rows]])))
        write_table(folder / "colour_by_place.csv", ("stage", "place", "colour_accuracy"), by_place)
        write_table(folder / "colour_by_objects.csv", ("stage", "objects", "colour_accuracy"), by_objects)
        names = [*truth.colours, "nothing"]  # NOTHING is -1: the last
        seen = reading(it.painted, max(it.sizes))
        assert seen is not None
        pairs = [(names[a], names[b]) for a, b in zip(wanted.ravel(), seen.colours.ravel())]
        write_table(folder / "confusion.csv", ("actual", "predicted"), pairs)
    else:
        found = domain.answers(it.painted[f"{max(it.sizes)}/domain/log_posteriors"], world.heads) > 0
        wanted = truth.targets(ids) > 0
        rows = [
            (head.name, int(wanted[:, i].sum()), _mean(found[wanted[:, i], i]), _mean(wanted[found[:, i], i]))
            for i, head in enumerate(world.heads)
        ]
        write_table(folder / "presence_by_sprite.csv", ("sprite", "scenes", "recall", "precision"), rows)
    curve = {condition.rounds: arrays for condition, arrays in probes.items() if condition.rounds is not None}
    if curve:
        size = min(it.sizes)
        score = "colour_accuracy" if truth.places else "presence_f1"
        rows = [
            (given, round(headline(world, arrays, ids[:count], size, given)[score], 6))
            for given, arrays in curve.items()
        ]
        write_table(folder / "score_by_rounds.csv", ("rounds", score), rows)


def one_hot(targets: np.ndarray, heads: Sequence[Head]) -> np.ndarray:
    """(n, heads) classes -> (n, sum of classes) float32 of zeros and ones."""
    parts = [np.eye(len(head.classes), dtype=np.float32)[targets[:, i]] for i, head in enumerate(heads)]
    return np.concatenate(parts, axis=1)


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 6) if len(values) else 0.0
