"""Everything that looks at pictures: the exact reader, the world's classifier, the published networks at hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluation import clip, damsm, weights
from trainer.evaluation.classifier import Classifier
from trainer.evaluation.figures import Figures
from trainer.evaluation.parts import Arrays
from trainer.evaluation.scenes import SceneReader
from trainer.evaluation.settings import PublishedSettings
from trainer.evaluation.truth import Truth
from trainer.evaluation.weights import Judge

KEPT = 64 / 76  # of a stored picture's side is left by StackGAN's crop


class Judges:
    """Looks at batches of pictures and keeps what it saw, never the pictures.

    Arrays are named SIZE/JUDGE/WHAT, one row a picture: `64/scene/colours`, `256/inception-2015/features`. The reader
    and the classifier see every size, published networks the largest only.
    """

    def __init__(
        self,
        truth: Truth | None,
        classifier: Classifier | None,
        published: PublishedSettings,
        device: str,
        figures: Figures,
    ) -> None:
        self.everywhere: dict[str, Callable[[np.ndarray], Arrays]] = {}
        if truth is not None and truth.places:
            reader = SceneReader(truth, KEPT)

            def read(pictures: np.ndarray) -> Arrays:
                reading = reader.read(pictures)
                return {"colours": reading.colours, "grounds": reading.grounds}

            self.everywhere["scene"] = read
        if classifier is not None:

            def predict(pictures: np.ndarray) -> Arrays:
                seen = classifier.predict(pictures)
                return {name: values for name, values in seen._asdict().items() if values is not None}

            self.everywhere["domain"] = predict
        self.published = published_networks(published, device, figures)

    @property
    def identity(self) -> dict[str, str]:
        """Name and sha256 of the published networks."""
        return {name: judge.sha256 for name, judge in self.published.items()}

    def look(self, pictures: dict[int, np.ndarray]) -> Arrays:
        """Pictures by size, each (B, s, s, 3) uint8 -> arrays with B rows."""
        arrays: Arrays = {}
        for size, batch in pictures.items():
            measures = dict(self.everywhere)
            if size == max(pictures):
                measures |= {name: judge.measure for name, judge in self.published.items()}
            for name, measure in measures.items():
                arrays |= {f"{size}/{name}/{what}": values for what, values in measure(batch).items()}
        return arrays


def published_networks(settings: PublishedSettings, device: str, figures: Figures) -> dict[str, Judge]:
    """The networks whose files are there; for each other one a line in `figures.skipped`."""
    folder = Path(settings.weights)
    makers: dict[str, tuple[Any, str, str]] = {
        "inception-torchvision": (weights.torchvision_inception, settings.inception_torchvision, "is_paper"),
        "inception-2015": (weights.fidelity_inception, settings.inception_2015, "is_reference, fid, kid"),
        "vgg16": (weights.fidelity_vgg16, settings.vgg16, "precision, recall"),
        "clip": (clip.load, settings.clip, "clip_score_caption, clip_score_round, clip_r_precision"),
    }
    found: dict[str, Judge] = {}
    for name, (make, file, gives) in makers.items():
        try:
            found[name] = make(folder, file, device)
        except weights.Missing as missing:
            figures.skip(gives, str(missing))
    if settings.damsm is not None:
        try:
            found[damsm.NAME] = damsm.load(Path(settings.damsm), device)
        except weights.Missing as missing:
            figures.skip("damsm_r_precision", str(missing))
    return found
