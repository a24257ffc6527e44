"""The corpus: one Parquet row per image, with its captions and its rounds, and a report of what was lacking."""

import collections
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpora import coco, visdial
from pipeline.corpora.join import CorpusSettings, Row, join
from store.errors import ChatPainterError
from store.files import in_words, replacing

if TYPE_CHECKING:
    import pyarrow

# Rows a Parquet row group: a reader of part of the corpus decodes little more than that part.
ROW_GROUP = 4096


def schema() -> "pyarrow.Schema":
    """The columns of a corpus; `width` and `height` are null where no file of captions states them."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("image_id", pa.int64(), nullable=False),
            pa.field("file_name", pa.string(), nullable=False),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("captions", pa.list_(pa.struct([("caption_id", pa.int64()), ("text", pa.string())]))),
            pa.field("rounds", pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))),
            pa.field("visdial_caption", pa.string(), nullable=False),
        ]
    )


def read(path: str | Path) -> "pyarrow.Table":
    """A corpus as a table with the columns of `schema`.

    Raises:
        ChatPainterError: the file is missing, damaged, or not a corpus.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    remedy = f"make it again: chatpainter-prepare corpus --split {Path(path).stem}"
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise ChatPainterError(f"{path}: no such corpus; {remedy}") from None
    except (OSError, pa.ArrowException) as error:
        raise ChatPainterError(f"{path}: cannot be read ({str(error).splitlines()[0]}); {remedy}") from None
    if not table.schema.equals(schema()):
        raise ChatPainterError(f"{path}: not a corpus (columns {', '.join(table.column_names)}); {remedy}")
    return table


def make(
    raw: Path, split: str, out: Path, settings: CorpusSettings, visdial_version: str | None
) -> tuple[Path, dict[str, Any]]:
    """Join the captions, dialogues and pictures of a split into `{out}/{split}.parquet`; (its path, the report).

    The report is also written, as `{out}/{split}.report.json`. The same files and settings give the same bytes.

    Raises:
        ChatPainterError: a file is missing or damaged, or not one image is left; nothing is written.
    """
    captions_path = coco.captions_file(raw, split)
    dialogues_path, alone = visdial.dialogue_file(raw, split, visdial_version)
    images = coco.read(captions_path)
    dialogues = visdial.read(dialogues_path)
    pictures = coco.Pictures(raw, split)
    rows, counts = join(images, dialogues, pictures, settings, alone)
    lacking = {name: dataclasses.asdict(getattr(counts, name)) for name in dataclasses.asdict(settings)}
    if not rows:
        why = ", ".join(f"{lack['count']:,} {name.replace('_', ' ')}" for name, lack in lacking.items())
        raise ChatPainterError(
            f"{captions_path}, {dialogues_path}: no image is left ({why}; pictures looked for in "
            f"{', '.join(map(str, pictures.folders))}); see `corpus` in params.yaml for what may stay"
        )
    report = {
        "split": split,
        "captions_file": str(captions_path),
        "dialogues_file": str(dialogues_path),
        "images": len(rows),
        "captions": sum(len(row.captions) for row in rows),
        "rounds": sum(len(row.rounds) for row in rows),
        "captions_per_image": _histogram(len(row.captions) for row in rows),
        "rounds_per_dialogue": _histogram(len(row.rounds) for row in rows),
        "lacking": lacking,
        "dialogues_of_other_splits": counts.other_splits,
    }
    with in_words(out):
        out.mkdir(parents=True, exist_ok=True)
    path = out / f"{split}.parquet"
    _write(rows, path)
    _write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", out / f"{split}.report.json")
    return path, report


def table(rows: list[Row]) -> "pyarrow.Table":
    """Rows as a table with the columns of `schema`."""
    import pyarrow as pa

    columns = {
        "image_id": [row.image_id for row in rows],
        "file_name": [row.file_name for row in rows],
        "width": [row.width for row in rows],
        "height": [row.height for row in rows],
        "captions": [[{"caption_id": i, "text": text} for i, text in row.captions] for row in rows],
        "rounds": [[{"question": q, "answer": a} for q, a in row.rounds] for row in rows],
        "visdial_caption": [row.visdial_caption for row in rows],
    }
    return pa.table(columns, schema=schema())


def _histogram(values: Any) -> dict[str, int]:
    return {str(value): count for value, count in sorted(collections.Counter(values).items())}


def _write(rows: list[Row], path: Path) -> None:
    import pyarrow.parquet as pq

    with in_words(path), replacing(path) as temporary:
        pq.write_table(table(rows), temporary, row_group_size=ROW_GROUP, compression="zstd")


def _write_text(text: str, path: Path) -> None:
    with in_words(path), replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
