"""Where the text gets lost: what a linear reader knows of CoDraw's scenes at every step from vectors to condition.

    python -m evidence.probe runs/evidence/codraw-cpu

A ridge regression learns from the training scenes which sprites there are, and names them for held-out ones: from the
vectors of captions, of collapsed dialogues and of turns (their mean), and from the mean condition μ of every finished
generator. Beside it stands a reader that sees nothing and names the frequent sprites, and the condition of a recurrent
generator whose BiLSTM and Conditioning Augmentation were taught the sprites themselves, with as many dialogues as the
others saw: what the same text encoder can do if it is told what to keep.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from store import params
from store.errors import ChatPainterError

if TYPE_CHECKING:
    from trainer.generator import Generator
    from trainer.metrics.held_out import HeldOut

# Of the training scenes, to choose penalty and threshold on.
KEPT_BACK = 0.2
PENALTIES = (10.0, 100.0, 1000.0, 10000.0)
THRESHOLDS = np.linspace(0.05, 0.6, 56)


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


def vectors(work: Path, split: str, dialogue: str, network: "Generator | None" = None) -> tuple[np.ndarray, np.ndarray]:
    """image_ids (n,), and (n, d): the text's vectors, or the mean condition that a generator makes of them.

    Of the turns' vectors their mean; where `dialogue` is "none" the captions'.
    """
    import torch

    from trainer.metrics.held_out import Condition

    data = _held_out(work, split, dialogue)
    found = []
    with torch.inference_mode():
        for images in np.array_split(np.arange(len(data)), max(1, len(data) // 250)):
            captions, dialogues, rounds = data.texts(images, Condition())
            if network:
                values = network.stage1.ca_net(network.encode_text(captions, dialogues, rounds))[0]
            elif dialogues is None:
                values = captions.float()
            else:
                values = dialogues.float() if rounds is None else dialogues.float().sum(1) / rounds[:, None]
            found.append(values.numpy())
    return data.image_ids, np.concatenate(found)


def taught(network: "Generator", work: Path, split: str, there: np.ndarray, images: int, batch: int = 32) -> None:
    """Teach a recurrent generator's text encoder, from new weights, which sprites there are, by a layer over μ.

    Args:
        there: (n, sprites) of bool, in the order of the split's images.
        images: how many dialogues to see.
    """
    import torch
    from torch.nn import functional as F

    from trainer.metrics.held_out import Condition

    torch.manual_seed(0)
    data = _held_out(work, split, "recurrent")
    encoder, conditioning = network.dialogue_encoder, network.stage1.ca_net
    assert encoder is not None
    for module in (encoder.ahead, encoder.back, conditioning.fc):
        module.reset_parameters()
    head = torch.nn.Linear(conditioning.fc.out_features // 2, there.shape[1])
    learning = [*encoder.parameters(), *conditioning.parameters(), *head.parameters()]
    adam = torch.optim.Adam(learning, 1e-3)
    order = np.random.default_rng(0)
    for _ in range(images // batch):
        chosen = order.choice(len(data), batch, replace=False)
        mu, _ = conditioning(network.encode_text(*data.texts(chosen, Condition())))
        loss = F.binary_cross_entropy_with_logits(head(mu), torch.from_numpy(there[chosen]).float())
        adam.zero_grad()
        loss.backward()
        adam.step()


def _held_out(work: Path, split: str, dialogue: str) -> "HeldOut":
    from trainer.metrics.held_out import HeldOut

    return HeldOut(work / "data/embeddings" / split, work / "data/images" / split, dialogue, (64,), seed=0)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("work", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(work: Path) -> None:
    """Print the presence F1 of a linear reader for the work folder of a CoDraw experiment."""
    from evidence.worker import DONE
    from trainer.generator import Generator
    from trainer.metrics.truth import Truth

    values = params.load(work / "params.yaml")
    splits = values["splits"][0], values["evaluate"]["split"]
    truths = [Truth.load(work / values["raw"] / f"truth_{split}.json") for split in splits]
    if not truths[0].sprites:
        raise ChatPainterError(f"{work}: not a CoDraw experiment; its scenes have no sprites")

    def score(dialogue: str, network: Generator | None = None) -> float:
        sides = []
        for split, truth in zip(splits, truths):
            image_ids, read = vectors(work, split, dialogue, network)
            sides += [read, truth.targets(image_ids) > 0]
        return linear_f1(*sides)

    names = {"none": "caption", "collapsed": "collapsed dialogue", "recurrent": "turns, mean"}
    there = [truth.targets(np.array(list(truth.scenes))) > 0 for truth in truths]
    nothing = [np.zeros((len(each), 1)) for each in there]
    click.echo(f"{'nothing':32} {linear_f1(nothing[0], there[0], nothing[1], there[1]):.3f}")
    for dialogue, name in names.items():
        click.echo(f"{name:32} {score(dialogue):.3f}")
    recurrent: dict[str, tuple[Path, Generator]] = {}
    for done in sorted((work / "trainings").glob(f"*/{DONE}")):
        training = done.parent
        dialogue = params.load(training / "params.yaml")["model"]["dialogue"]
        network = Generator.load(training / "run" / "generator.safetensors")
        click.echo(f"{f'condition of {training.name}':32} {score(dialogue, network):.3f}")
        if dialogue == "recurrent":
            recurrent[training.name.rpartition("-")[0]] = training, network
    present = truths[0].targets(_held_out(work, splits[0], "recurrent").image_ids) > 0
    for arm, (training, network) in recurrent.items():
        points = json.loads((training / "job.json").read_text(encoding="utf-8"))["points"]
        taught(network, work, splits[0], present, points[-1])
        click.echo(f"{f'{arm}, taught directly':32} {score('recurrent', network):.3f}")


if __name__ == "__main__":
    main()
