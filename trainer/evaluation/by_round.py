"""Figures of a picture that is painted anew after every round: told, kept and settled (`trainer.evaluation.rounds`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluation import classifier as domain
from trainer.evaluation.evaluated import Evaluated, KnownWorld, reading
from trainer.evaluation.figures import Figures, write_table
from trainer.evaluation.parts import Arrays
from trainer.evaluation.rounds import Rounds, facts_told, over_rounds
from trainer.evaluation.split import Condition
from trainer.evaluation.truth import Truth

NAMES = ("told", "kept", "settled")


def by_round(
    figures: Figures,
    folder: Path,
    world: KnownWorld,
    it: Evaluated,
    probes: Mapping[Condition, Arrays],
    captions: np.ndarray,
) -> None:
    """Add told, kept and settled after every round, and over all, and write `told_by_round.csv` into `folder`.

    Of worlds with places they are counted from pixels, and by the classifier beside; of sprites by it alone.

    Args:
        probes: what was seen in pictures of the first n images painted after the first so many rounds.
        captions: (n,) which of its captions each of them is painted from; -1: of none.
    """
    painted = {one.rounds: arrays for one, arrays in probes.items() if one.dialogue == "own" and one.rounds is not None}
    name, ids = it.names[min(it.sizes)], it.ids[: len(captions)]
    if not painted:
        return
    if sorted(painted) != list(range(len(painted))):
        figures.skip(f"{name}_told, kept, settled", "evaluate.rounds_curve must name every number of rounds from 0 on")
        return
    if any(int(image_id) not in world.truth.words for image_id in ids):
        figures.skip(
            f"{name}_told, kept, settled", "the truth file does not say what each round tells; make the world again"
        )
        return
    judged = [
        domain.answers(painted[r][f"{min(it.sizes)}/domain/log_posteriors"], world.heads) for r in sorted(painted)
    ]
    by_classifier = "every fact as the classifier answers", counted(world.truth, ids, captions, judged, None)
    ways = {"": by_classifier}
    if world.truth.places:
        seen = [_exact(painted[r], min(it.sizes)) for r in sorted(painted)]
        by_pixels = "colours and ground read from pixels", counted(world.truth, ids, captions, seen, EXACT)
        ways = {"": by_pixels, "classifier_": by_classifier}
    rows = []
    for which, (protocol, found) in ways.items():
        shown = not which
        about: dict[str, Any] = {"truth": world.truth.sha256, "seed": it.seed}
        for what in NAMES:
            each = getattr(found, what)
            if np.isnan(each).all():
                figures.skip(f"{name}_{which}{what}", "no picture has a fact to count")
                continue
            overall = getattr(found, f"{what}_over_all")
            figures.add(f"{name}_{which}{what}", overall, f"{protocol}, over all rounds", len(ids), shown, **about)
            least = float(np.nanmin(each))
            figures.add(f"{name}_{which}{what}_least", least, f"{protocol}, the worst round", len(ids), shown, **about)
            for number, value in enumerate(each.tolist(), len(found.told) - len(each)):
                after = f"{name}_own_{number}_rounds_{which}{what}"
                if not np.isnan(value):
                    figures.add(after, value, f"{protocol}, after that round", len(ids), False, **about)
    _, best = ways[""]
    for number in range(len(best.told)):
        later = (np.nan, np.nan) if number == 0 else (best.kept[number - 1], best.settled[number - 1])
        rows.append(
            (number, *("" if np.isnan(value) else round(float(value), 6) for value in (best.told[number], *later)))
        )
    write_table(folder / "told_by_round.csv", ("rounds", *NAMES), rows)


EXACT = ("ground", "colour")


def counted(
    truth: Truth, ids: np.ndarray, captions: np.ndarray, readings: list[np.ndarray], kinds: tuple[str, ...] | None
) -> Rounds:
    """Told, kept and settled over facts of some kinds (all if None).

    Args:
        readings: after 0, 1, … rounds, each (n, facts) classes in the order of `truth.heads()` of these kinds.
    """
    heads = truth.heads()
    mine = [i for i, head in enumerate(heads) if kinds is None or head.kind in kinds]
    words = facts_told([truth.words[int(i)] for i in ids], captions.tolist(), [heads[i].name for i in mine])
    rounds = min(len(readings) - 1, words.spoken_of.shape[1])
    seen = np.stack(readings[: rounds + 1], axis=1)
    wanted = truth.targets_by_round(ids, rounds)[:, :, mine]
    told, spoken_of = words.told[:, : rounds + 1], words.spoken_of[:, :rounds]
    return over_rounds(seen, wanted, told, spoken_of, np.minimum(words.rounds, rounds))


def _exact(arrays: Arrays, size: int) -> np.ndarray:
    """(n, 1 + places): ground and colours as classes of the truth's heads."""
    seen = reading(arrays, size)
    assert seen is not None
    return np.concatenate([seen.grounds[:, None], seen.colours + 1], axis=1)
