"""A small sample world with pictures as the pipeline makes them, made-up text vectors, and generators for them."""

from pathlib import Path
from typing import Any

import torch
import yaml
from click.testing import CliRunner

from tests.support.models import small_model
from tests.support.stores import write_corpus_vectors
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings

WORLD: dict[str, Any] = {
    "dataset": "sample",
    "raw": "data/raw/sample",
    "visdial_version": "1.0",
    "splits": ["train", "val"],
    "world": {"seed": 3, "train": 48, "val": 24, "image_size": 128},
    "images": {"sizes": [76]},
}


def small_world(root: Path, **changes: Any) -> None:
    """Make params.yaml and data/ of 48 + 24 scenes below `root`, with changed sections."""
    from pipeline.prepare_cli import main

    values = WORLD | changes
    values["raw"] = str(root / values["raw"])
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    params, corpus = ["--params", str(root / "params.yaml")], str(root / "data/corpus")
    for command in (
        ["world"],
        ["corpus", "--out", corpus],
        ["images", "--corpus", corpus, "--out", str(root / "data/images")],
    ):
        result = CliRunner().invoke(main, [*params, *command], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    for split in values["splits"]:
        write_corpus_vectors(root / "data/embeddings" / split, root / f"data/corpus/{split}.parquet")


def untrained_generator(stage: int = 1, dialogue: str = "recurrent", encoder: str = "made up") -> ChatPainterGenerator:
    """A generator for the world's vectors whose weights are noise: it paints, and something else for other texts."""
    torch.manual_seed(1)
    said = {"none": None, "collapsed": "dialogues", "recurrent": "turns", "attended": "turns"}[dialogue]
    stores = {kind: {"encoder": {"name": encoder}, "text": {}} for kind in ("captions", said) if kind}
    dim = 7 if said else None
    about = generator_settings(stage, small_model(dialogue=dialogue), 9, dim, system=f"stage{stage}", stores=stores)
    generator = ChatPainterGenerator(about)
    for module in generator.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, 0.3)
    return generator
