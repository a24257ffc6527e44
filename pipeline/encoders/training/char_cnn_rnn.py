"""Training char-CNN-RNN: captions and pictures' features in, a .t7 as its author's out.

A batch is of classes that are all different, with a caption and a picture (of the same image) of each; every text must
score highest with its own picture and every picture with its own text. Without features a second caption of the image
stands for the picture: so reedscot/icml2016 trained the encoder of COCO (main_txt_coco.lua).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.corpora import corpus as corpora
from pipeline.encoders import EncoderSettings
from pipeline.encoders.char_cnn_rnn import LENGTH, NOTHING, channels
from pipeline.encoders.training import picture_features, retrieval
from pipeline.encoders.training.folder import TrainingFolder
from store.errors import ChatPainterError
from store.files import sha256_file

if TYPE_CHECKING:
    import torch

    from pipeline.encoders.training.character_network import CharacterNetwork
    from store.interrupts import Interrupts

ALPHA = 0.99  # of RMSprop: torch's default, which the original had


@dataclass(frozen=True)
class CharCnnRnnTraining:
    """Section `train_char_cnn_rnn` of params.yaml. Defaults learn on two cores; PRESETS has the published numbers."""

    widths: tuple[int, int, int] = (64, 128, 128)  # of the convolutions
    dim: int = 256  # of a text's vector
    projected: bool = True  # a linear layer between features and vectors; without it both must be as wide
    batch: int = 40  # classes
    pairs: int = 60_000  # of a caption and a picture, seen in all
    rate: float = 7e-4
    decay: float = 0.98  # of the rate, after as many pairs as there are captions
    held_out: int = 5  # every so many classes one is kept for measuring
    seed: int = 0
    checkpoint_every: int = 10_000  # pairs

    def __post_init__(self) -> None:
        if min(*self.widths, self.dim, self.pairs, self.checkpoint_every) < 1 or min(self.batch, self.held_out) < 2:
            raise ValueError(
                "widths, dim, pairs and checkpoint_every must be at least 1, batch and held_out at least 2"
            )
        if not (0 < self.rate < math.inf and 0 < self.decay <= 1):
            raise ValueError("rate must be above 0, decay above 0 and at most 1")


PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    # cvpr2016/train_sje_hybrid.lua's options, the released file names' rate, icml2016's widths; 300 passes over CUB.
    "published": {
        "widths": [384, 512, 512], "dim": 1024, "projected": False, "pairs": 26_500_000, "checkpoint_every": 400_000,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the network, the layer over features (None: there is none), and what was measured."""

    network: "CharacterNetwork"
    layer: "torch.nn.Linear | None"
    about: dict[str, Any]
    measured: dict[str, Any]


@dataclass(frozen=True)
class Pairs:
    """Captions with what they are trained against.

    Attributes:
        captions: (n, 201) uint8 channels of all captions, image by image.
        starts: (images + 1,) where each image's begin.
        features: (images, d), or None where captions are trained against captions.
        seen, held_out: the images (of any number) of each class.
    """

    captions: np.ndarray
    starts: np.ndarray
    features: np.ndarray | None
    seen: list[np.ndarray]
    held_out: list[np.ndarray]

    def draw(self, number: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Batch `number`: images, a caption of each, and another caption of each (the same where it has but one)."""
        rng = np.random.default_rng([seed, number])
        classes = rng.choice(len(self.seen), size, replace=False)
        images = np.array([rng.choice(self.seen[each]) for each in classes])
        counts = self.starts[images + 1] - self.starts[images]
        first = rng.integers(counts)
        second = (first + 1 + rng.integers(np.maximum(counts - 1, 1))) % counts
        return images, self.starts[images] + first, self.starts[images] + second


def read(corpus: Path, features: Path | None, encoders: EncoderSettings, held_out: int) -> Pairs:
    """The pairs of a corpus: a class is a folder of its file names, as CUB's are, or else every image one of its own.

    Raises:
        ChatPainterError: the corpus or the features are missing or do not fit, or there are too few classes.
    """
    table = corpora.read(corpus)
    rows = list(corpora.rows(table))
    kept = [number for number, row in enumerate(rows) if len(row.captions) > (features is None)]
    values = None if features is None else picture_features.read(features, table)[kept]
    starts = np.append(0, np.cumsum([len(rows[number].captions) for number in kept], dtype=np.int64))
    captions = np.full((int(starts[-1]), LENGTH), NOTHING, np.uint8)
    texts = (text for number in kept for _, text in rows[number].captions)
    for target, text in zip(captions, texts):
        found, _, _ = channels(text, encoders.char_cnn_rnn)
        target[: len(found)] = found
    classes: dict[str, list[int]] = {}
    for image, number in enumerate(kept):
        folder = PurePosixPath(rows[number].file_name).parent.as_posix()
        classes.setdefault(str(rows[number].image_id) if folder in (".", "") else folder, []).append(image)
    ordered = [np.array(classes[name]) for name in sorted(classes)]
    seen = [each for number, each in enumerate(ordered) if number % held_out != held_out - 1]
    unseen = ordered[held_out - 1 :: held_out]
    if len(seen) < 2 or not unseen:
        said = "two captions" if features is None else "a caption"
        raise ChatPainterError(
            f"{corpus}: {len(ordered)} classes of images with {said}, too few to learn from and to measure on"
        )
    return Pairs(captions, starts, values, seen, unseen)


def train(
    folder: Path,
    corpus: Path,
    features: Path | None,
    settings: CharCnnRnnTraining,
    encoders: EncoderSettings,
    where: "torch.device",
    interrupts: "Interrupts",
    progress: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> Trained | None:
    """Train in `folder` until the configured number of pairs; None when a signal ended it earlier.

    Raises:
        ChatPainterError: inputs are missing or do not fit, the folder was begun otherwise, or gradients are not finite.
    """
    import torch

    data = read(corpus, features, encoders, settings.held_out)  # says what is wrong with a file before it is hashed
    made_from = {
        "corpus": {corpus.name: sha256_file(corpus)},
        "features": None if features is None else {features.name: picture_features.checksum(features)},
        "lowercase": encoders.char_cnn_rnn.lowercase,
        "unknown": encoders.char_cnn_rnn.unknown,
    }
    run = TrainingFolder(folder, {"train_char_cnn_rnn": asdict(settings), **made_from})
    with run.held():
        network, layer = _networks(settings, data, where)
        parameters = [*network.parameters(), *(layer.parameters() if layer else [])]
        optimiser = torch.optim.RMSprop(parameters, settings.rate, ALPHA)
        states: dict[str, Any] = {"network": network, "optimiser": optimiser, **({"layer": layer} if layer else {})}
        done = 0
        if state := run.load(where):
            done = int(state["done"])
            for name, each in states.items():
                each.load_state_dict(state[name])
        size = min(settings.batch, len(data.seen))
        total = -(-settings.pairs // size)
        every = max(1, settings.checkpoint_every // size)
        epoch = len(data.captions)
        losses: list[float] = []
        while done < total and not interrupts.requested:
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * settings.decay ** (done * size // epoch)
            loss = _loss(network, layer, data, data.draw(done, size, settings.seed), where)
            optimiser.zero_grad()
            loss.backward()
            if run.finite(float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).sum())):
                optimiser.step()
            losses.append(float(loss.detach()))
            done += 1
            if done % every == 0 or done == total:
                mean = float(np.mean(losses))
                progress(done * size, total * size, mean)
                run.save({"done": done, **{name: each.state_dict() for name, each in states.items()}})
                run.log({"done": done, "pairs": done * size, "loss": mean})
                losses = []
        if done < total:
            run.save({"done": done, **{name: each.state_dict() for name, each in states.items()}})
            return None
        measured = measure(network, layer, data, where)
        run.log({"done": done, "pairs": done * size, **measured})
        about = {**made_from, "classes": len(data.seen), "captions": epoch, "pairs_seen": done * size}
        return Trained(network, layer, about, measured)


def _networks(
    settings: CharCnnRnnTraining, data: Pairs, where: "torch.device"
) -> "tuple[CharacterNetwork, torch.nn.Linear | None]":
    import torch

    from pipeline.encoders.training.character_network import UNIFORM, CharacterNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = CharacterNetwork(settings.widths, settings.dim).to(where)
        if data.features is None:
            return network, None
        width = data.features.shape[1]
        if not settings.projected:
            if width != settings.dim:
                raise ChatPainterError(
                    f"train_char_cnn_rnn: features have {width} values and texts dim {settings.dim}; make them equal, "
                    "or set projected: true"
                )
            return network, None
        layer = torch.nn.Linear(width, settings.dim)
        for parameter in layer.parameters():
            torch.nn.init.uniform_(parameter, -UNIFORM, UNIFORM)
        return network, layer.to(where)


def _loss(
    network: "CharacterNetwork",
    layer: "torch.nn.Linear | None",
    data: Pairs,
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
    where: "torch.device",
) -> "torch.Tensor":
    from pipeline.encoders.training.character_network import joint_embedding_loss

    images, first, second = drawn
    texts = network(_channels(data.captions[first], where))
    if data.features is None:
        return joint_embedding_loss(texts, network(_channels(data.captions[second], where)))
    return joint_embedding_loss(texts, _pictures(layer, data.features[images], where))


def _channels(captions: np.ndarray, where: "torch.device") -> "torch.Tensor":
    import torch

    return torch.from_numpy(captions.astype(np.int64)).to(where)


def _pictures(layer: "torch.nn.Linear | None", features: np.ndarray, where: "torch.device") -> "torch.Tensor":
    import torch

    found = torch.from_numpy(features).to(where)
    return found if layer is None else layer(found)


def measure(
    network: "CharacterNetwork", layer: "torch.nn.Linear | None", data: Pairs, where: "torch.device"
) -> dict[str, Any]:
    """Retrieval on held-out classes: a query is the mean of a class's texts, right are the pictures of the class.

    Without features the first caption of an image is asked for, and its last stands for the picture.
    """
    import torch

    images = np.concatenate(data.held_out)
    with torch.inference_mode():

        def texts(places: np.ndarray) -> np.ndarray:
            parts = np.array_split(places, max(1, len(places) // 256))
            return np.concatenate([network(_channels(data.captions[part], where)).cpu().numpy() for part in parts])

        if data.features is None:
            pictures, queries = texts(data.starts[images + 1] - 1), texts(data.starts[images])
            right = np.eye(len(images), dtype=bool)
        else:
            pictures = _pictures(layer, data.features[images], where).cpu().numpy()
            of_class = [
                np.concatenate([np.arange(data.starts[image], data.starts[image + 1]) for image in each])
                for each in data.held_out
            ]
            queries = np.stack([texts(places).mean(0) for places in of_class])
            owner = np.repeat(np.arange(len(data.held_out)), [len(each) for each in data.held_out])
            right = owner == np.arange(len(data.held_out))[:, None]
    scores = queries @ pictures.T
    found = {
        "average_precision": retrieval.average_precision(scores, right),
        "chance": retrieval.average_precision(np.random.default_rng(0).random(scores.shape), right),
        "held_out_classes": len(queries),
        "held_out_pictures": len(pictures),
    }
    if right.sum(1).min() > 1:
        found["precision_of_50_nearest"] = retrieval.precision_of_nearest(scores, right)
    return found
