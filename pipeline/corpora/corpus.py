"""The corpus: one Parquet row an image, with its captions and what was said about it. Whoever reads one reads it here.

    table = corpus.read("data/corpus/train.parquet")       # checked, the columns of `schema`
    for row in corpus.rows(table): ...                      # one Row an image, in the order of the file
    for row in corpus.rows(table.slice(0, 1000)): ...       # the first thousand
    corpus.rows(corpus.of_images(table, [9, 25]))           # some, in the order of the file

`row.caption` and `row.rounds` are the dialogue as a painter is told it. Columns are best taken from the table itself:
`table["image_id"]`.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.corpora.parquet_footer import count_values
from pipeline.corpora.recognise import recognise
from store.errors import ChatPainterError, one_line, short
from store.files import in_words, replacing
from store.machine import available_memory

if TYPE_CHECKING:
    import pyarrow as pa

# Rows a Parquet row group: a reader of part of the corpus decodes little more than that part.
ROW_GROUP = 4096
# Rows decoded before memory is looked at: a small file can hold one long text a million times.
_STEP = 256
# What an empty text takes: its offset.
_LEAST_BYTES = 4
_NULLABLE = ("width", "height")


@dataclass(frozen=True)
class Row:
    """One image of the corpus: a row of the Parquet file, column for column.

    Attributes:
        file_name: as found in the images' folder; as stated by the captions file, or "", where there is no file.
        width, height: pixels, None where no captions file states them.
        captions: (caption_id, text) in the order of the captions file.
        rounds: (question, answer) in the order in which they were said; an absent answer is "".
        visdial_caption: under which the dialogue was held; "" where there was none.
    """

    image_id: int
    file_name: str
    width: int | None
    height: int | None
    captions: list[tuple[int, str]]
    rounds: list[tuple[str, str]]
    visdial_caption: str

    @property
    def caption(self) -> str:
        """The caption that a dialogue about the image begins with: the first of COCO's, else VisDial's."""
        return self.captions[0][1] if self.captions else self.visdial_caption


def schema() -> "pa.Schema":
    """The columns of a corpus; only `width` and `height` may be null, anywhere."""
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


def read(path: str | Path) -> "pa.Table":
    """A corpus as a table with the columns of `schema`, every value checked; other columns are left out.

    Raises:
        ChatPainterError: the file is missing, damaged, not a corpus (names the column, or the row), or larger than
            half the memory that is left.
    """
    import pyarrow as pa

    path = Path(path)
    remedy = f"make it again: chatpainter-prepare corpus --split {path.stem}"
    try:
        # A folder, a pipe and a device are not to be opened at all.
        if not path.is_file():
            if path.is_dir():
                raise ChatPainterError(f"{path}: is a folder, where one Parquet file is expected; {remedy}")
            raise ChatPainterError(f"{path}: no such corpus; {remedy.replace('make it again', 'make it with')}")
        table = _read(path, remedy)
        _check(table, path, remedy)
        return table if table.schema.equals(schema()) else table.cast(schema())
    except (OSError, ValueError, MemoryError, RecursionError, pa.ArrowException) as error:
        with contextlib.suppress(OSError), path.open("rb") as file:
            head = file.read(512)
            if (what := recognise(head)) and not head.startswith(b"PAR1"):
                raise ChatPainterError(f"{path}: not a corpus, but {what}; {remedy}") from None
        why = one_line(error) or type(error).__name__
        raise ChatPainterError(f"{path}: not a corpus (it cannot be read: {why}); {remedy}") from None


def rows(table: "pa.Table") -> Iterator[Row]:
    """The rows of a corpus one after another, a few hundred at a time turned into Python objects."""
    for batch in table.to_batches(max_chunksize=_STEP):
        for row in batch.to_pylist():
            yield Row(
                row["image_id"],
                row["file_name"],
                row["width"],
                row["height"],
                [(caption["caption_id"], caption["text"]) for caption in row["captions"]],
                [(turn["question"], turn["answer"]) for turn in row["rounds"]],
                row["visdial_caption"],
            )


def of_images(table: "pa.Table", image_ids: Collection[int]) -> "pa.Table":
    """The rows of these images, in the order of the corpus; ids that it does not have are passed over."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.is_in(table["image_id"], pa.array(image_ids, pa.int64())))


def table(rows: Iterable[Row]) -> "pa.Table":
    """Rows as a table with the columns of `schema`."""
    import pyarrow as pa

    rows = list(rows)
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


def write(rows: Iterable[Row], path: Path) -> None:
    """Write a corpus, whole or not at all; the same rows give the same bytes.

    Raises:
        StoreError: it cannot be written.
    """
    import pyarrow.parquet as pq

    with in_words(path), replacing(path) as temporary:
        pq.write_table(table(rows), temporary, row_group_size=ROW_GROUP, compression="zstd")


def _read(path: Path, remedy: str) -> "pa.Table":
    """The table as `schema` has it, decoded step by step so that memory can be looked at."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    limit = available_memory() // 2
    too_large = (
        f"{path}: takes more than half of the memory that is left ({limit / 2**30:.1f} GiB) once decoded, although the "
        f"file has {path.stat().st_size:,} bytes; {remedy}, or use a machine with more memory"
    )
    with pq.ParquetFile(path) as file:
        _check_columns(file.schema_arrow, path, remedy)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        if max(sum(group.total_byte_size for group in groups), _LEAST_BYTES * count_values(path)) > limit:
            raise ChatPainterError(too_large)
        batches, size = [], 0
        for batch in file.iter_batches(_STEP, columns=schema().names):
            batches.append(batch)
            size += batch.nbytes
            if size > limit:
                raise ChatPainterError(too_large)
        found = pa.Table.from_batches(batches, pa.schema([file.schema_arrow.field(name) for name in schema().names]))
    # Decoded, not yet believed: offsets inside, and text that is not UTF-8.
    found.validate(full=True)
    return found


def _check_columns(found: "pa.Schema", path: Path, remedy: str) -> None:
    for wanted in schema():
        places = found.get_all_field_indices(wanted.name)
        if len(places) != 1:
            where = "is there twice" if places else f"is not among its columns {short(found.names)}"
            raise ChatPainterError(f"{path}: not a corpus ({wanted.name!r} {where}); {remedy}")
        kind = found.field(places[0]).type
        if _plain(kind) != _plain(wanted.type):
            raise ChatPainterError(
                f"{path}: not a corpus ({wanted.name!r} should be {wanted.type}, found {one_line(kind)}); {remedy}"
            )


def _plain(kind: "pa.DataType") -> object:
    """A type without what writers of Parquet differ in: widths of offsets, names of items, what may be null."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return [_plain(kind.value_type)]
    if types.is_struct(kind):
        return {field.name: _plain(field.type) for field in kind}
    return "string" if types.is_large_string(kind) or types.is_string(kind) else str(kind)


def _check(found: "pa.Table", path: Path, remedy: str) -> None:
    import pyarrow.compute as pc

    for name in found.column_names:
        if name not in _NULLABLE and (row := _first_null(found[name])) is not None:
            raise ChatPainterError(f"{path}: row {row + 1}: {name!r} has no value, or lacks one inside; {remedy}")
    ids = found["image_id"]
    if len(pc.unique(ids)) < len(ids):
        counted = pc.value_counts(ids)
        twice = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")[0]
        raise ChatPainterError(f"{path}: image {twice} has more than one row; {remedy}")


def _first_null(column: "pa.ChunkedArray") -> int | None:
    """The first row that is null or holds a null at any depth."""
    first = 0
    for chunk in column.chunks:
        if (place := _null_in(chunk)) is not None:
            return first + place
        first += len(chunk)
    return None


def _null_in(array: "pa.Array") -> int | None:
    import pyarrow.compute as pc
    import pyarrow.types as types

    if array.null_count:
        return int(pc.index(array.is_null(), True).as_py())
    if types.is_list(array.type) or types.is_large_list(array.type):
        place = _null_in(array.flatten())
        return None if place is None else int(pc.list_parent_indices(array)[place].as_py())
    if types.is_struct(array.type):
        places = [_null_in(array.field(k)) for k in range(array.type.num_fields)]
        return min((place for place in places if place is not None), default=None)
    return None
