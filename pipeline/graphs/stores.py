"""Scene graphs as four stores beside the images: `objects`, `boxes`, `masks`, `triples`, a run of rows an image."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import ragged
from pipeline.corpora import corpus as corpora
from pipeline.graphs import sample_graphs
from pipeline.graphs.annotations import GraphSettings, read, vocabulary
from store.errors import ChatPainterError
from store.files import sha256_file
from store.writer import remove_store

NAMES = ("objects", "boxes", "masks", "triples")  # fields of `Pictured`


@dataclass(frozen=True)
class GraphCounts:
    """What became of a split: pictures with a graph, and pictures of the corpus without."""

    images: int
    objects: int
    without: int


def prepare(corpus: Path, raw: Path, split: str, out: Path, settings: GraphSettings) -> GraphCounts:
    """Write the stores `out`/{objects,boxes,masks,triples} of a split in the corpus' order, from its annotations.

    Of the sample world they are made from its truth, or from what is said (`sample_graphs`).

    n objects of a picture and, as row n, the image itself (category 0, the whole box, a full mask): `objects` () int16,
    `boxes` (4,) float32, `masks` (16, 16) uint8; `triples` (3,) int16 as `relations.triples` gives them. The names of
    categories and predicates stand in each manifest as `made_from.vocabulary`.

    Raises:
        ChatPainterError: a file is missing or damaged, or no picture has a graph.
    """
    ids = corpora.read(corpus)["image_id"].to_pylist()
    truth = sample_graphs.truth_of(raw, split)
    if truth is not None:
        found = sample_graphs.read(corpus, truth, split, settings)
    else:
        found = read(raw, split, set(ids), settings)
    kept = [image_id for image_id in ids if image_id in found.pictured]
    if not kept:
        raise ChatPainterError(
            f"{raw}, split {split}: no picture of {corpus} has from {settings.least} to {settings.most} "
            "objects that are large enough; see images.graphs in params.yaml"
        )
    pictured = [found.pictured[image_id] for image_id in kept]
    made_from = {
        "corpus": sha256_file(corpus),
        "graphs": asdict(settings),
        "vocabulary": vocabulary(found.names, found.predicates),
    }
    for name in NAMES:
        lengths = "triples" if name == "triples" else "objects"
        values = [getattr(one, name) for one in pictured]
        ragged.write(out / name, name, split, kept, values, made_from, lengths=lengths)
    return GraphCounts(len(kept), sum(len(one.objects) - 1 for one in pictured), len(ids) - len(kept))


def remove(out: Path) -> None:
    """Delete the stores that `prepare` writes."""
    for name in NAMES:
        remove_store(out / name)
