"""Short seeded trainings whose figures are written down: what they give may change in a commit that says so alone.

Processors with AVX-512 and those with AVX2 alone sum in other orders, and so have figures of their own.

python -m tests.support.golden        # write this processor's down anew
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.support.models import SMALL
from tests.support.processes import Ranks
from tests.support.runs import figures, run_of
from tests.support.stores import write_training_stores
from tests.support.threads import one_thread

AVX512, AVX2 = (Path(__file__).with_name(name) for name in ("golden.json", "golden-avx2.json"))
RECORDED = AVX2 if torch.backends.cpu.get_cpu_capability() == "AVX2" else AVX512
STEPS = {
    "epochs": None,
    "images": 24,
    "batch": 6,
    "seed": 3,
    "log_every": 6,
    "grid_every": 24,
    "checkpoint_every": 24,
}
PAPER = {"halve_every_epochs": 1}
LEARNING = {
    "loss": "hinge",
    "d_norm": "spectral",
    "d_condition": "learned",
    "wrong_candidates": 4,
    "kl_weight": 0.02,
    "betas": (0.0, 0.9),
    "halve_every_epochs": None,
    "flip": False,
    "ema_half_life": 20,
    "g_lr": 1e-3,
    "d_lr": 1e-3,
}
STANDARDISED = {"condition_activation": "none", "standardise": True, "refine": True}


def write_data(folder: Path) -> None:
    """The stores that all of them read, and a COCO instances file."""
    for split, seed in (("train", 0), ("val", 1)):
        write_training_stores(folder, split, images=20, sizes=(38, 152), rounds=(3, 1, 2), seed=seed)
    notes = [{"image_id": 1000 + 7 * i, "category_id": 1 + i % 2} for i in range(20)]
    content = {"categories": [{"id": 1}, {"id": 2}], "annotations": notes}
    (folder / "instances.json").write_text(json.dumps(content))


def cases(data: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any], int]]:
    """Name → what of the model, what of the training, and how many processes."""
    found: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {}
    for arm in ("none", "collapsed", "recurrent"):
        found[f"paper, {arm}"] = {"dialogue": arm}, PAPER, 1
        found[f"learning, {arm}"] = {"dialogue": arm, **STANDARDISED}, LEARNING, 1
    from trainer.systems.chatpainter.config import Auxiliary, Penalties

    labelled = Auxiliary(1.0, str(data / "instances.json"))
    found["auxiliary"] = {}, {**PAPER, "auxiliary": labelled, "diffaugment": True, "penalties": Penalties(r1=1.0)}, 1
    found["accumulated"] = STANDARDISED, {**LEARNING, "accumulate": 3}, 1
    found["two processes"] = STANDARDISED, LEARNING, 2
    return found


def train(run: Any) -> None:
    """In this process, which may be one of several."""
    from trainer import loop

    assert loop.train(run)


def trained(data: Path, folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Train stage 1 of a case, and stage 2 from it where one process does; names, and the runs' folders."""
    from trainer.systems.chatpainter.config import ModelConfig, Stage1Config, Stage2Config

    model, switches, world = cases(data)[name]
    config = ModelConfig(**(SMALL | {"size": 32} | model))
    with one_thread():
        for stage, kind in ((1, Stage1Config), (2, Stage2Config)):
            start = folder / "stage1" if stage == 2 else None
            run = run_of(
                data, folder / f"stage{stage}", config, kind(**(STEPS | switches)), held_out="val", start=start
            )
            if world == 1:
                train(run)
            else:
                assert Ranks(train, world, run).wait() == [0] * world
            yield f"{name}, stage {stage}", run.folder
            if world > 1 or name == "auxiliary":
                return


def written(folder: Path) -> list[dict[str, float]]:
    """What is kept of a run: the log's figures, without those that follow from the number of pictures."""
    return [
        {name: value for name, value in record.items() if name not in ("kimg", "epoch")} for record in figures(folder)
    ]


def main() -> None:
    """Write the figures down."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        write_data(data)
        found = {
            name: written(folder)
            for number, case in enumerate(cases(data))
            for name, folder in trained(data, Path(place) / str(number), case)
        }
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
