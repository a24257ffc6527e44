"""Corpora of made-up words, written with the real columns."""

from pathlib import Path
from typing import Any

import numpy as np

WORDS = [
    "red",
    "blue",
    "small",
    "large",
    "circle",
    "square",
    "at the top",
    "left",
    "is there",
    "any",
    "how many",
    "yes",
]


def corpus_rows(images: int, seed: int = 0, captions: int = 5, rounds: int = 10) -> list[dict[str, Any]]:
    """Images with mostly 5 captions and 10 rounds, some with fewer, none or more; texts repeat now and then."""
    rng = np.random.default_rng(seed)

    def words(count: int) -> str:
        return " ".join(rng.choice(WORDS, count))

    rows = []
    for image in range(images):
        few = image % 7 == 3
        rows.append(
            {
                "image_id": 1000 + 3 * image,
                "file_name": f"{image}.jpg",
                "width": 8,
                "height": 8,
                "captions": [
                    {"caption_id": image * 10 + k, "text": words(6)}
                    for k in range(int(rng.integers(0, captions + 3)) if few else captions)
                ],
                "rounds": [
                    {
                        "question": words(4) if k % 4 else "any people",
                        "answer": "" if few and k == 3 else words(int(rng.integers(1, 3))),
                    }
                    for k in range(int(rng.integers(0, rounds + 1)) if few else rounds)
                ],
                "visdial_caption": words(5),
            }
        )
    return rows


def write_corpus(path: Path, rows: list[dict[str, Any]]) -> None:
    """As `chatpainter-prepare corpus` writes it, without its report."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.corpora.corpus import schema

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema()), path)
