"""What a linear reader knows of CoDraw's scenes at every step from vectors to condition.

A ridge regression learns from the training scenes which sprites there are, and names them for held-out ones: from the
vectors of captions, of collapsed dialogues and of turns (their mean), and from the mean condition μ of every finished
generator. Beside it stands a reader that sees nothing and names the frequent sprites, and the condition of a recurrent
generator whose BiLSTM and Conditioning Augmentation were taught the sprites themselves, with as many dialogues as the
others saw: what the same text encoder can do if it is told what to keep.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from evidence import trained
from evidence.profile import Job
from evidence.trained import ChatPainterGenerator, Trained, Truth
from store.errors import ChatPainterError

# Of the training scenes, to choose penalty and threshold on.
KEPT_BACK = 0.2
PENALTIES = (10.0, 100.0, 1000.0, 10000.0)
THRESHOLDS = np.linspace(0.05, 0.6, 56)
VECTORS = {"none": "caption", "collapsed": "collapsed dialogue", "recurrent": "turns, mean"}


def scores(work: Path, values: dict[str, Any], jobs: list[Job]) -> Iterator[tuple[str, float]]:
    """What was read, and its presence F1 on held-out scenes, as they are known.

    Raises:
        ChatPainterError: the work folder's scenes have no sprites.
    """
    splits = values["splits"][0], values["evaluate"]["split"]
    truths = [Truth.load(work / values["raw"] / f"truth_{split}.json") for split in splits]
    if not truths[0].sprites:
        raise ChatPainterError(f"{work}: not a CoDraw experiment; its scenes have no sprites")
    networks = {job: Trained(work, job) for job in jobs}
    side = next(iter(networks.values())).side

    def score(dialogue: str, network: ChatPainterGenerator | None = None) -> float:
        sides = []
        for split, truth in zip(splits, truths):
            image_ids, seen = vectors(work, split, dialogue, side, network)
            sides += [seen, truth.targets(image_ids) > 0]
        return linear_f1(*sides)

    there = [truth.targets(np.array(list(truth.scenes))) > 0 for truth in truths]
    nothing = [np.zeros((len(each), 1)) for each in there]
    yield "nothing", linear_f1(nothing[0], there[0], nothing[1], there[1])
    for dialogue, name in VECTORS.items():
        yield name, score(dialogue)
    for job, one in networks.items():
        yield f"condition of {job.name}", score(one.dialogue, one.chatpainter)
    image_ids = trained.vectors(work, splits[0], "recurrent", side).image_ids
    for arm, job in {job.arm: job for job, one in networks.items() if one.dialogue == "recurrent"}.items():
        network = networks[job].chatpainter
        taught(network, work, splits[0], side, truths[0].targets(image_ids) > 0, job.points[-1])
        yield f"{arm}, taught directly", score("recurrent", network)


def presence_f1(present: np.ndarray, named: np.ndarray) -> float:
    """F1 over all scenes and sprites together (micro); both (n, sprites) of bool."""
    return float(2 * (present & named).sum() / max(present.sum() + named.sum(), 1))


def linear_f1(seen: np.ndarray, there: np.ndarray, held_out: np.ndarray, held_out_there: np.ndarray) -> float:
    """Presence F1 on held-out scenes of a ridge regression and one threshold, both chosen within the seen scenes.

    Args:
        seen, held_out: (n, d), (m, d) what the reader sees of each scene.
        there, held_out_there: (n, sprites), (m, sprites) of bool.
    """
    mean, scale = seen.mean(0), seen.std(0) + 1e-6
    seen, held_out = (seen - mean) / scale, (held_out - mean) / scale
    cut = round(len(seen) * (1 - KEPT_BACK))
    tried = [
        (presence_f1(there[cut:], answers > threshold), penalty, threshold)
        for penalty in PENALTIES
        for answers in [_ridge(seen[:cut], there[:cut], penalty)(seen[cut:])]
        for threshold in THRESHOLDS
    ]
    _, penalty, threshold = max(tried)
    return presence_f1(held_out_there, _ridge(seen, there, penalty)(held_out) > threshold)


def _ridge(seen: np.ndarray, there: np.ndarray, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
    seen, wanted = seen.astype(np.float64), there.astype(np.float64)
    weights = np.linalg.solve(seen.T @ seen + penalty * np.eye(seen.shape[1]), seen.T @ (wanted - wanted.mean(0)))
    return lambda asked: asked @ weights + wanted.mean(0)


def vectors(
    work: Path, split: str, dialogue: str, side: int, network: ChatPainterGenerator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """image_ids (n,), and (n, d): the text's vectors, or the mean condition that a generator makes of them.

    Of the turns' vectors their mean; where `dialogue` is "none" the captions'.
    """
    data = trained.vectors(work, split, dialogue, side)
    found = []
    with torch.inference_mode():
        for images in np.array_split(np.arange(len(data)), max(1, len(data) // 250)):
            told = trained.texts(data, images)
            if network:
                values = network.condition(told)
            elif "turns" in told:
                values = told["turns"].float().sum(1) / told["turns.length"][:, None]
            else:
                values = told["dialogues" if "dialogues" in told else "captions"].float()
            found.append(values.numpy())
    return data.image_ids, np.concatenate(found)


def taught(
    network: ChatPainterGenerator, work: Path, split: str, side: int, there: np.ndarray, images: int, batch: int = 32
) -> None:
    """Teach a recurrent generator's text encoder, from new weights, which sprites there are, by a layer over μ.

    Args:
        there: (n, sprites) of bool, in the order of the split's images.
        images: how many dialogues to see.
    """
    torch.manual_seed(0)
    data = trained.vectors(work, split, "recurrent", side)
    layers = trained.until_condition(network)
    for layer in layers:
        layer.reset_parameters()  # type: ignore[operator]  # torch's layers have it, its types do not say so
    head = torch.nn.Linear(network.condition_dim, there.shape[1])
    adam = torch.optim.Adam(chain.from_iterable(layer.parameters() for layer in [*layers, head]), 1e-3)
    order = np.random.default_rng(0)
    for _ in range(images // batch):
        chosen = order.choice(len(data), batch, replace=False)
        mu = network.condition(trained.texts(data, chosen))
        loss = F.binary_cross_entropy_with_logits(head(mu), torch.from_numpy(there[chosen]).float())
        adam.zero_grad()
        loss.backward()
        adam.step()
