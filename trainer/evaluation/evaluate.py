"""Paint a held-out split and say what the pictures are worth: figures with protocols, tables, plots and a gallery.

Pictures are painted, judged and forgotten, a batch at a time; what the judges saw (labels, features, posteriors) is
kept in parts, so that an interrupted evaluation continues and several processes (torchrun) share the work.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from store import params
from store.company import considerate
from store.errors import ChatPainterError
from store.files import sha256_file
from store.lock import FolderLock
from trainer import distributed, generator_file, systems
from trainer.distributed import Ranks
from trainer.evaluation import classifier as domain
from trainer.evaluation import detected, gallery, report, split
from trainer.evaluation.by_round import by_round
from trainer.evaluation.classifier import Classifier
from trainer.evaluation.evaluated import KnownWorld
from trainer.evaluation.figures import Figures
from trainer.evaluation.judges import Judges
from trainer.evaluation.parts import Arrays, Parts
from trainer.evaluation.real_pictures import Smaller, open_real
from trainer.evaluation.settings import EvaluateSettings
from trainer.evaluation.split import Condition, HeldOutSplit, InOrder
from trainer.evaluation.truth import Truth
from trainer.feed.inputs import TURNS, conditioning, stored_side
from trainer.systems import Generator

__all__ = ["EvaluateSettings", "Paths", "evaluate"]


CLASSIFIER = Path("classifier.safetensors")


@dataclass(frozen=True)
class Paths:
    """Where an evaluation reads and writes; splits are folders below `embeddings` and `images`."""

    generator: Path
    embeddings: Path
    images: Path
    raw: Path  # with truth_{split}.json, where the truth is known
    out: Path
    classifier: Path  # made when missing
    logs: tuple[Path, ...] = ()  # folders of training runs, for their last losses


def evaluate(paths: Paths, settings: EvaluateSettings, ranks: Ranks) -> dict[str, float]:
    """Evaluate one generator; every process of a torchrun calls it. Writes into `paths.out`, metrics.json last.

    Returns:
        The figures by name; empty on other processes than the first.

    Raises:
        ChatPainterError: a file is missing or does not fit the others; says which and what to do.
        StoreError: another evaluation is writing into `paths.out`.
    """
    locked = FolderLock(paths.out) if ranks.main else contextlib.nullcontext()
    with locked, considerate(ranks.device.type):
        return _evaluate(paths, settings, ranks)


def _evaluate(paths: Paths, settings: EvaluateSettings, ranks: Ranks) -> dict[str, float]:
    generator = generator_file.load(paths.generator, ranks.device)
    held_out = _held_out(paths, settings, generator)
    images = np.arange(len(held_out))[: settings.pictures]
    figures = Figures()
    truth = _truth(paths.raw, settings.split)
    classifier, world = None, None
    if truth is not None:
        stored = stored_side(min(held_out.sides))
        classifier, world = _classifier(paths, settings, truth, stored, ranks)
    else:
        figures.skip("scene, classifier and domain figures", f"{paths.raw}/truth_{settings.split}.json is not there")
    judges = Judges(truth, classifier, settings.published, str(ranks.device), figures)

    condition = Condition(settings.dialogue, settings.rounds)
    probes = _probes(settings, condition, generator) if truth is not None else []
    made_from = {
        "generator": sha256_file(paths.generator),
        "data": held_out.checksums(),
        "truth": None if world is None else [world.truth.sha256, world.sha256],
        "judges": judges.identity,
        "settings": {name: value for name, value in asdict(settings).items() if name not in ("gallery", "noises")},
        "processor": ranks.device.type,
    }
    parts = Parts(paths.out / "parts", made_from, ranks)
    it, probed = _seen(parts, Looks(generator, held_out, judges, settings), images, condition, probes, ranks)
    if it is None:
        return {}

    if world is not None:
        report.scene_figures(figures, world, it)
        report.classifier_figures(figures, world, it)
        detected.figures_of(figures, world, it)
        report.domain_figures(figures, world, it)
        shown = images[: settings.probe_pictures]
        report.probe_figures(figures, world, it, probed, len(shown))
        report.plots(paths.out / "plots", world, it, probed, len(shown))
        by_round(figures, paths.out / "plots", world, it, probed, _captions(held_out, shown, generator))
    report.published_figures(figures, judges, it, held_out, images)
    report.losses(figures, paths.logs)
    report.table(paths.out / f"pictures_{settings.split}.csv", world, it)
    gallery.write(paths.out, generator, held_out, images, condition, report.picture_scores(world, it), settings)
    about = {
        "generator": str(paths.generator),
        "sha256": made_from["generator"],
        "split": settings.split,
        "images": len(images),
        "reads": [one.name for one in generator.inputs],
        "pictures": {generator.names[side]: side for side in held_out.sides},
        "told": condition.name,
        "images_seen": generator.settings.get("images_seen"),
        "settings": asdict(settings),
    }
    figures.write(paths.out / "metrics.json", about)
    parts.clear()
    return figures.shown()


def _held_out(paths: Paths, settings: EvaluateSettings, generator: Generator) -> HeldOutSplit:
    """The split as this generator reads it; refused where it cannot."""
    systems.require_pictures(generator, paths.generator)
    embeddings, images = paths.embeddings / settings.split, paths.images / settings.split
    inputs = split.told_of(generator, images)
    held_out = HeldOutSplit(embeddings, images, inputs, _judged(generator, settings), settings.seed)
    if "stores" in generator.settings:  # not in one that came from a published file
        held_out.data.refuse_other_encoders(generator.settings["stores"], str(paths.generator))
    return held_out


def _judged(generator: Generator, settings: EvaluateSettings) -> tuple[int, ...]:
    """Sides of the pictures that are judged, smallest first."""
    for side in settings.sides:
        if side not in generator.names:
            painted = ", ".join(map(str, generator.names))
            raise ChatPainterError(f"evaluate.sides: no pictures of {side} are painted, but of {painted}")
    return tuple(side for side in generator.names if not settings.sides or side in settings.sides)


@dataclass(frozen=True)
class Looks:
    """Pictures of some rows of the split, a batch at a time, as arrays of what the judges saw."""

    generator: Generator
    held_out: HeldOutSplit
    judges: Judges
    settings: EvaluateSettings

    def painted(self, rows: np.ndarray, told: Condition, sides: tuple[int, ...] | None = None) -> Arrays:
        """Painted from what `told` says; `sides`: which are looked at, of those that are judged; all by default."""
        sample, wanted = self.settings.condition == "sample", sides or self.held_out.sides

        def pictures(some: np.ndarray) -> dict[int, np.ndarray]:
            painted = split.paint(self.generator, self.held_out, some, told, sample, sides=wanted)
            return {side: painted[side] for side in wanted}

        return self._at(rows, pictures)

    def film(self, rows: np.ndarray, probes: list[Condition]) -> Arrays:
        """What each of these probes shows, as `painted` by its name: dialogues told in part, from one film."""
        sample, (side, *_) = self.settings.condition == "sample", self.held_out.sides
        rounds = [probe.rounds for probe in probes if probe.rounds is not None]
        pictures = split.paint_rounds(self.generator, self.held_out, rows, rounds, sample)
        seen = {probe.name: self.judges.look({side: pictures[n]}) for probe, n in zip(probes, rounds, strict=True)}
        return {f"{name}/{what}": values for name, arrays in seen.items() for what, values in arrays.items()}

    def real(self, rows: np.ndarray) -> Arrays:
        """As they lie in the store."""
        return self._at(rows, lambda some: {side: self.held_out.real(some, side) for side in self.held_out.sides})

    def _at(self, rows: np.ndarray, pictures: Callable[[np.ndarray], dict[int, np.ndarray]]) -> Arrays:
        starts = range(0, len(rows), self.settings.batch)
        batches = [self.judges.look(pictures(rows[start : start + self.settings.batch])) for start in starts]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _seen(
    parts: Parts, looks: Looks, images: np.ndarray, condition: Condition, probes: list[Condition], ranks: Ranks
) -> tuple[report.Evaluated | None, dict[Condition, Arrays]]:
    """What the judges saw of all pictures, and of those of each probe; None on other processes than the first."""
    settings, sides = looks.settings, looks.held_out.sides
    names = {side: looks.generator.names[side] for side in sides}
    shares, smallest = np.array_split(images, -(-len(images) // settings.part)), sides[:1]
    probed = images[: settings.probe_pictures]
    batches = np.split(probed, range(settings.batch, len(probed), settings.batch))
    films = [one for one in probes if _of_a_film(one, looks.generator)]
    apart = [one for one in probes if one not in films]
    with _progress(2 * len(shares) + len(apart) + len(batches) * bool(films), ranks) as did:
        parts.make("painted", len(shares), lambda number: looks.painted(shares[number], condition), did)
        parts.make("real", len(shares), lambda number: looks.real(shares[number]), did)
        parts.make("probe", len(apart), lambda number: looks.painted(probed, apart[number], smallest), did)
        if films:
            parts.make("film", len(batches), lambda number: looks.film(batches[number], films), did)
    if not ranks.main:
        return None, {}
    painted, real = (parts.gather(name, len(shares)) for name in ("painted", "real"))
    found = {condition: {name: values[: len(probed)] for name, values in painted.items()}}
    found |= {probe: parts.load("probe", number) for number, probe in enumerate(apart)}
    if films:
        rows = parts.gather("film", len(batches))
        found |= {probe: _below(probe.name, rows) for probe in films}
    return report.Evaluated(looks.held_out.image_ids[images], painted, real, names, settings.seed), found


def _of_a_film(probe: Condition, generator: Generator) -> bool:
    """Whether the pictures of a probe are among those of the film of each dialogue: its own rounds, but not all."""
    return isinstance(generator, systems.PaintsFilms) and probe.dialogue == "own" and probe.rounds is not None


def _below(name: str, arrays: Arrays) -> Arrays:
    """Those arrays that stand below a name, without it."""
    return {key.removeprefix(f"{name}/"): values for key, values in arrays.items() if key.startswith(f"{name}/")}


def make_classifier(params_file: str, device: str, split: str | None = None, out: Path = CLASSIFIER) -> None:
    """Train the classifier of the world that a params file names, into `out` beside it, if missing.

    Args:
        split: whose pictures it is tested on; None: evaluate.split.
    """
    values = params.load(params_file)
    settings = params.section(values, "evaluate", EvaluateSettings, params_file)
    settings = replace(settings, split=split or settings.split)
    truth = _truth(Path(values["raw"]), settings.split)
    if truth is not None:
        here = Path("data")
        paths = Paths(Path(), here / "embeddings", here / "images", Path(values["raw"]), Path(), out)
        system = systems.find(systems.lineage(systems.LAST)[0])
        inputs = system.inputs(system.configure(values, str(params_file)))
        stored = next(int(one.store) for one in inputs if one.where == "images")
        _classifier(paths, settings, truth, stored, distributed.start(device))


def _truth(raw: Path, split: str) -> Truth | None:
    path = raw / f"truth_{split}.json"
    return Truth.load(path) if path.exists() else None


def _classifier(
    paths: Paths, settings: EvaluateSettings, truth: Truth, stored: int, ranks: Ranks
) -> tuple[Classifier, KnownWorld]:
    """The world's classifier: the one kept in `paths.classifier` if it was made from the same data, else a new one.

    stored: side of the pictures that it learns from, those that the smallest painted ones are cropped as.
    """
    split = settings.classifier.split
    learnt = _truth(paths.raw, split)
    if learnt is None:
        raise ChatPainterError(
            f"{paths.raw}/truth_{split}.json: missing, while {settings.split}'s is there; make the world again"
        )
    seen, unseen = (open_real(paths.images / one, stored) for one in (split, settings.split))
    key = {
        "settings": asdict(settings.classifier),
        "learnt": [learnt.sha256, seen.manifest.index.sha256, [shard.sha256 for shard in seen.manifest.shards]],
        "held_out": [truth.sha256, unseen.manifest.index.sha256],
        "seed": settings.seed,
    }
    key |= {"made_smaller": stored} if isinstance(seen, Smaller) else {}
    key |= {"locates": True} if learnt.located else {}
    if ranks.main and domain.kept(paths.classifier, truth, key) is None:
        ids, tested = seen.column("image_id"), unseen.column("image_id")
        model = domain.train(
            InOrder(seen),
            learnt.targets(ids),
            truth.heads(),
            settings.classifier,
            ranks.device,
            settings.seed,
            learnt.middles(ids) if learnt.located else None,
        )
        found, middles = domain.read(model, InOrder(unseen), settings.batch)
        scores = domain.scores(found, truth.targets(tested), truth.heads())
        similar = detected.similarity_to_truth(truth, found, middles, tested)
        scores |= {} if similar is None else {"rsim": similar}
        domain.keep(model, settings.classifier, paths.classifier, key, scores)
    distributed.wait_for_all()
    both = domain.kept(paths.classifier, truth, key)
    assert both is not None
    return both[0].to(ranks.device), KnownWorld(truth, sha256_file(paths.classifier), both[1])


def _captions(held_out: HeldOutSplit, images: np.ndarray, generator: Generator) -> np.ndarray:
    """(n,) which of its captions each image is painted from; -1 where a caption changes no picture."""
    chosen = held_out.chosen(images)
    return np.full_like(chosen, -1) if isinstance(generator, systems.PaintsFilms) else chosen


def _probes(settings: EvaluateSettings, condition: Condition, generator: Generator) -> list[Condition]:
    """What else to tell the generator, to see whether it listens; only what it can be told."""
    if not conditioning(generator.inputs):
        return []
    rounds_apart = systems.reads(generator, TURNS.name)
    probes = [Condition("own")]
    probes += [Condition(name) for name in settings.probes if rounds_apart or name == "shuffled"]
    if rounds_apart:
        probes += [Condition("own", rounds) for rounds in settings.rounds_curve]
    return [probe for probe in probes if probe != condition]


@contextlib.contextmanager
def _progress(parts: int, ranks: Ranks) -> Iterator[Callable[[], None]]:
    with tqdm(
        total=-(-parts // ranks.world), desc="painting and judging", unit="part", disable=None if ranks.main else True
    ) as bar:

        def did() -> None:
            bar.update()

        yield did
