"""A small sample world with pictures as the pipeline makes them, and made-up text vectors."""

from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from tests.support.stores import write_corpus_vectors

WORLD: dict[str, Any] = {
    "dataset": "sample",
    "raw": "data/raw/sample",
    "visdial_version": "1.0",
    "splits": ["train", "val"],
    "world": {"seed": 3, "train": 48, "val": 24, "image_size": 128},
    "images": {"sizes": [76]},
}


def small_world(root: Path, **changes: Any) -> dict[str, Any]:
    """Make params.yaml and data/ of 48 + 24 scenes below `root`, with changed sections; returns the sections."""
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
    return values
