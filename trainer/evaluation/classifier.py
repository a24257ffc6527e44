"""A small classifier of the world's facts, trained on real pictures only, and itself the small worlds' feature network.

Shapes and sizes, and the sprites of CoDraw, cannot be read off single pixels. One convolutional trunk answers every
question (`Head`) about a picture at once; its penultimate layer is the stated feature network of FID, KID, precision
and recall on the small worlds, its answers the class posteriors of the domain Inception Score. It never sees a
painted picture while it learns, and its own accuracy on held-out real pictures is kept in its file and printed beside
every score.

Where the truth knows where sprites stand, the classifier learns that as well, as GeNeVA's detector does: from what the
trunk sees, which that does not change, so that it answers and judges as it would without.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from store.errors import ChatPainterError
from store.files import replacing
from trainer.evaluation.settings import ClassifierSettings
from trainer.evaluation.split import middle
from trainer.evaluation.truth import Head, Truth

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 64  # pictures are judged at this size, whatever theirs is
RESIZE = "area to 64; smaller ones by repetition"


class Pictures(Protocol):
    """Rows of (s, s, 3) uint8 pictures: an image store."""

    def __len__(self) -> int: ...
    def take(self, rows: np.ndarray) -> np.ndarray: ...


class Seen(NamedTuple):
    """What the classifier makes of n pictures."""

    features: np.ndarray  # (n, d) float32
    log_posteriors: np.ndarray  # (n, sum of classes) float32
    middles: np.ndarray | None  # (n, heads, 2) float32: x, y in fractions of the picture, where it learned them


class Classifier(nn.Module):
    """Pictures (B, 3, 64, 64) in [-1, 1] -> features (B, `features`) and one softmax per head.

    Args:
        locates: it says where the middle of each head's object is, too.
    """

    def __init__(self, heads: Sequence[Head], settings: ClassifierSettings, locates: bool = False) -> None:
        super().__init__()
        self.heads = tuple(heads)
        w = settings.width
        self.trunk = nn.Sequential(
            *_block(3, w, 4, 2),
            *_block(w, 2 * w, 4, 2),
            *_block(2 * w, 4 * w, 3, 1),
            nn.MaxPool2d(2),
            *_block(4 * w, 4 * w, 3, 1),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.embed = nn.Sequential(nn.Linear(4 * w * 16, settings.features), nn.ReLU())
        self.answer = nn.Linear(settings.features, sum(len(head.classes) for head in self.heads))
        self.locate = None
        if locates:
            self.locate = nn.Sequential(
                nn.Linear(4 * w * 16, 2 * settings.features),
                nn.ReLU(),
                nn.Linear(2 * settings.features, 2 * len(self.heads)),
                nn.Sigmoid(),
                nn.Unflatten(1, (len(self.heads), 2)),
            )

    def forward(self, pictures: "Tensor") -> "tuple[Tensor, Tensor, Tensor | None]":
        """(B, 3, 64, 64) -> features (B, d), logits (B, sum of classes), middles (B, heads, 2) or None."""
        seen = self.trunk(pictures)
        features = self.embed(seen)
        return features, self.answer(features), None if self.locate is None else self.locate(seen.detach())

    def split(self, logits: "Tensor") -> "list[Tensor]":
        """Logits (B, sum of classes) -> one (B, classes) per head."""
        return list(logits.split([len(head.classes) for head in self.heads], dim=1))

    @torch.inference_mode()
    def predict(self, pictures: np.ndarray) -> Seen:
        """Look at pictures (n, s, s, 3) uint8; larger ones are averaged down to 64."""
        device = self.answer.weight.device
        features, logits, middles = self(to_input(torch.from_numpy(pictures).to(device)))
        log_posteriors = torch.cat([part.log_softmax(dim=1) for part in self.split(logits)], dim=1)
        return Seen(
            features.float().cpu().numpy(),
            log_posteriors.float().cpu().numpy(),
            None if middles is None else middles.float().cpu().numpy(),
        )


def _block(before: int, after: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, kernel, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)


def to_input(pictures: "Tensor") -> "Tensor":
    """(n, s, s, 3) uint8, s a multiple of 64 or a part of it -> (n, 3, 64, 64) in [-1, 1]."""
    value = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    side = value.shape[-1]
    if side == SIDE:
        return value
    return F.avg_pool2d(value, side // SIDE) if side > SIDE else F.interpolate(value, SIDE)


def train(
    pictures: Pictures,
    targets: np.ndarray,
    heads: Sequence[Head],
    settings: ClassifierSettings,
    device: "torch.device | str",
    seed: int,
    middles: np.ndarray | None = None,
) -> Classifier:
    """Train on real pictures (n, s, s, 3), cropped at random to 64/76 and never mirrored, and targets (n, heads).

    Args:
        middles: (n, heads, 2) of what is there, in fractions of the whole picture, NaN elsewhere: learned, too.
    """
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(heads, settings, middles is not None)
    model.to(device).train()
    steps = settings.epochs * max(1, len(pictures) // settings.batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=steps)
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < settings.batch:
            order = random.permutation(len(pictures))
        rows, order = np.sort(order[: settings.batch]), order[settings.batch :]
        whole = pictures.take(rows)
        side = _cropped(whole)
        corners = random.integers(0, whole.shape[1] - side + 1, size=(len(rows), 2))
        crops = [one[top : top + side, left : left + side] for one, (top, left) in zip(whole, corners)]
        batch = torch.from_numpy(np.stack(crops)).to(device)
        wanted = torch.from_numpy(targets[rows]).to(device)
        _, logits, found = model(to_input(batch))
        answers = model.split(logits)
        loss = torch.stack([F.cross_entropy(answer, wanted[:, i]) for i, answer in enumerate(answers)]).sum()
        if middles is not None:
            in_crops = (middles[rows] * whole.shape[1] - corners[:, None, ::-1]) / side
            loss = loss + _distance(found, torch.from_numpy(in_crops.astype(np.float32)).to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def _distance(found: "Tensor", wanted: "Tensor") -> "Tensor":
    """The mean square of what lies between middles (B, heads, 2), of those that are there."""
    there = ~wanted.isnan()
    return ((found - wanted)[there] ** 2).sum() / there.sum().clamp(min=1)


def _cropped(pictures: np.ndarray) -> int:
    """The side that the crop leaves of stored pictures: 64 of 76."""
    return int(pictures.shape[1]) * 64 // 76


def read(model: Classifier, pictures: Pictures, batch: int) -> tuple[np.ndarray, np.ndarray | None]:
    """What the classifier sees in the middle of every picture: answers (n, heads) int64, middles (n, heads, 2)."""
    found: list[np.ndarray] = []
    middles: list[np.ndarray] = []
    for start in range(0, len(pictures), batch):
        whole = pictures.take(np.arange(start, min(start + batch, len(pictures))))
        seen = model.predict(middle(whole, _cropped(whole)))
        found.append(answers(seen.log_posteriors, model.heads))
        if seen.middles is not None:
            middles.append(seen.middles)
    return np.concatenate(found), np.concatenate(middles) if middles else None


def kept(path: Path, truth: Truth, key: dict[str, Any] | None) -> tuple[Classifier, dict[str, float]] | None:
    """The classifier in `path` with its scores on held-out real pictures; None where there is none made from `key`.

    Where `key` is None, whatever it was made from.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ChatPainterError(f"{path}: not a classifier of ours ({error}); delete it") from None
    if key is not None and about["key"] != key:
        return None
    locates = any(name.startswith("locate.") for name in state)
    model = Classifier(truth.heads(), ClassifierSettings(**about["settings"]), locates)
    model.load_state_dict(state)
    return model.eval(), about["held_out"]


def keep(
    model: Classifier, settings: ClassifierSettings, path: Path, key: dict[str, Any], held_out: dict[str, float]
) -> None:
    """Write the classifier beside what it was made from, atomically."""
    from safetensors.torch import save

    about = {"key": key, "settings": asdict(settings), "held_out": held_out}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(save(state, metadata={"about": json.dumps(about, sort_keys=True)}))


def answers(log_posteriors: np.ndarray, heads: Sequence[Head]) -> np.ndarray:
    """(n, sum of classes) -> (n, heads) int64: the likeliest class of each head."""
    return np.stack([part.argmax(axis=1) for part in per_head(log_posteriors, heads)], axis=1)


def per_head(values: np.ndarray, heads: Sequence[Head]) -> list[np.ndarray]:
    """(n, sum of classes) -> one (n, classes) per head."""
    return np.split(values, np.cumsum([len(head.classes) for head in heads])[:-1], axis=1)


def scores(found: np.ndarray, wanted: np.ndarray, heads: Sequence[Head]) -> dict[str, float]:
    """What the classifier says of n pictures against the truth.

    Worlds with places: colour, shape and size accuracy over occupied places, ground accuracy, presence P/R/F1 (by the
    colour question). CoDraw: sprite presence P/R/F1, micro (over all sprites) and sample-averaged as in GeNeVA.

    Args:
        found, wanted: (n, heads) int64 classes; class 0 of every head but the ground's is "nothing there".
    """
    from trainer.evaluation.scenes import precision_recall_f1

    kinds = np.array([head.kind for head in heads])
    result: dict[str, float] = {}
    for kind in ("colour", "shape", "size"):
        columns = kinds == kind
        if columns.any():
            there = wanted[:, columns] > 0
            result[f"{kind}_accuracy"] = float((found[:, columns] == wanted[:, columns])[there].mean())
    if (kinds == "ground").any():
        result["ground_accuracy"] = float((found[:, kinds == "ground"] == wanted[:, kinds == "ground"]).mean())
    columns = (kinds == "sprite") if (kinds == "sprite").any() else (kinds == "colour")
    there, seen = wanted[:, columns] > 0, found[:, columns] > 0
    result |= precision_recall_f1("presence", (there & seen).sum(), seen.sum(), there.sum())
    if (kinds == "sprite").any():
        hits, painted, named = (there & seen).sum(1), seen.sum(1), there.sum(1)
        precision = np.divide(hits, painted, out=np.zeros(len(hits)), where=painted > 0)
        recall = np.divide(hits, named, out=np.zeros(len(hits)), where=named > 0)
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros(len(hits)), where=total > 0)
        result |= {
            "presence_sample_precision": float(precision.mean()),
            "presence_sample_recall": float(recall.mean()),
            "presence_sample_f1": float(f1.mean()),
        }
    return result
