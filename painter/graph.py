"""Pictures of scene graphs, with the boxes and masks that a generator gives their objects.

A graph is JSON as google/sg2im has it: {"objects": ["sheep", "grass"], "relationships": [[0, "standing on", 1]]}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.corpora import json_files
from store.errors import ChatPainterError, short

if TYPE_CHECKING:
    import torch

    from trainer.systems.sg2im.networks import Sg2imGenerator

MOST = 64  # objects of a graph
SHEET = 192  # side of the picture of boxes and masks
LINE = 14  # height of a name in it
REMEDY = "write graphs as docs/painting.md shows them"
PALETTE = ("#e41a1c", "#377eb8", "#4daf4a", "#984ea3", "#ff7f00", "#a65628", "#f781bf", "#17becf")


@dataclass(frozen=True)
class SceneGraph:
    """Objects by name, and (row of the subject, predicate, row of the object)."""

    objects: tuple[str, ...]
    relationships: tuple[tuple[int, str, int], ...]

    def words(self) -> list[str]:
        """For people: a line a relationship, and the objects that are in none."""
        said = [f"{self.objects[s]} {predicate} {self.objects[o]}" for s, predicate, o in self.relationships]
        related = {row for s, _, o in self.relationships for row in (s, o)}
        return [*said, *(name for row, name in enumerate(self.objects) if row not in related)]


@dataclass(frozen=True)
class Painted:
    """Pictures of d graphs, n of each, and where their o objects lie, `__image__` left out."""

    pictures: np.ndarray  # (d, n, s, s, 3) uint8
    boxes: list[np.ndarray]  # d of (o, 4): x0, y0, x1, y1 in shares of the side
    masks: list[np.ndarray | None]  # d of (o, m, m) from 0 to 1


def load(path: str | Path, device: str = "cpu") -> "Sg2imGenerator":
    """The generator of a run's folder or of a generator file, if it paints scene graphs.

    Raises:
        ChatPainterError: there is none, or it reads something else.
    """
    from painter.painter import generator_file
    from store import devices
    from trainer import generator_file as files
    from trainer import systems
    from trainer.systems.sg2im.networks import Sg2imGenerator

    file = generator_file(path)
    generator = files.load(file, devices.choose(device))
    if not isinstance(generator, Sg2imGenerator):
        made = systems.named_in(generator.settings)
        raise ChatPainterError(f"{file}: made by {made}, which reads no scene graphs; name a run of sg2im with --run")
    return generator


def read(path: Path) -> list[SceneGraph]:
    """The graphs of a JSON file, which holds one or a list of them.

    Raises:
        ChatPainterError: names the file, the graph and what was expected there.
    """
    value = json_files.read_value(path, REMEDY)
    every = value if isinstance(value, list) else [value]
    if not every:
        raise ChatPainterError(f"{path}: holds no graph; {REMEDY}")
    alone = not isinstance(value, list)
    return [_graph(one, str(path) if alone else f"{path}: [{number}]") for number, one in enumerate(every)]


def _graph(value: Any, where: str) -> SceneGraph:
    names = json_files.field(value, "objects", list, where)
    if not 1 <= len(names) <= MOST or not all(isinstance(name, str) for name in names):
        raise ChatPainterError(f"{where}: objects should be from 1 to {MOST} names, found {short(names)}; {REMEDY}")
    related = []
    for number, one in enumerate(json_files.field(value, "relationships", list, where)):
        fits = isinstance(one, list) and len(one) == 3 and type(one[0]) is int and type(one[2]) is int
        if not fits or not isinstance(one[1], str):
            raise ChatPainterError(
                f"{where}: relationships[{number}] should be [row, predicate, row], found {short(one)}; {REMEDY}"
            )
        if not (0 <= one[0] < len(names) and 0 <= one[2] < len(names)):
            raise ChatPainterError(
                f"{where}: relationships[{number}] names object {max(one[0], one[2], key=abs)}, but rows go from 0 to "
                f"{len(names) - 1}"
            )
        related.append((one[0], one[1], one[2]))
    return SceneGraph(tuple(names), tuple(related))


def told(generator: "Sg2imGenerator", caption: str, rounds: Sequence[tuple[str, str]]) -> SceneGraph:
    """What a caption and a dialogue of the sample world say, by that world's rules (pipeline.graphs.sample_graphs).

    Raises:
        ChatPainterError: the generator's graphs are not the sample world's, or nothing is told in full.
    """
    from pipeline.graphs import sample_graphs

    world = sample_graphs.SAMPLE_WORLD
    if generator.settings["vocabulary"]["objects"] != list(world.kinds):
        raise ChatPainterError(
            "words are made a graph by the rules of the sample world, whose objects this generator does not know; "
            "write the graph as a file"
        )
    ground, things = sample_graphs.told(world, caption, rounds)
    if ground is None and not things:
        raise ChatPainterError(
            "these words tell neither the ground nor colour, shape and size of an object at a place of the sample world"
        )
    made = sample_graphs.graph(world, ground, things)
    names = [world.kinds[kind] for kind in made.objects[:-1]]
    said = [(int(s), world.predicates[p], int(o)) for s, p, o in made.triples if o < len(names)]
    return SceneGraph(tuple(names), tuple(said))


def tensors(generator: "Sg2imGenerator", graphs: Sequence[SceneGraph]) -> "dict[str, torch.Tensor]":
    """Graphs as the generator reads them, `__image__` and `__in_image__` added.

    Raises:
        ChatPainterError: a name that it does not know, with those most alike.
    """
    import torch

    from trainer.feed.inputs import LENGTH, OBJECTS, TRIPLES
    from trainer.systems.sg2im.graph import IMAGE, IN_IMAGE

    words = generator.settings["vocabulary"]
    rows, related = [], []
    for one in graphs:
        rows.append([*(_number(words["objects"], name, "object") for name in one.objects), IMAGE])
        said = [[s, _number(words["predicates"], name, "predicate"), o] for s, name, o in one.relationships]
        related.append(said + [[row, IN_IMAGE, len(one.objects)] for row in range(len(one.objects))])
    objects, triples = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(one) for one in every], batch_first=True)
        for every in (rows, related)
    )
    lengths = {OBJECTS.name: [len(one) for one in rows], TRIPLES.name: [len(one) for one in related]}
    found = {OBJECTS.name: objects, TRIPLES.name: triples}
    return found | {name + LENGTH: torch.tensor(each) for name, each in lengths.items()}


def _number(names: list[str], name: str, what: str) -> int:
    import difflib

    if name in names and not (name.startswith("__") or name == "NONE"):
        return names.index(name)
    known = [one for one in names if not one.startswith("__") and one != "NONE"]
    like = difflib.get_close_matches(name, known, 3, 0.4) or known[:3]
    raise ChatPainterError(
        f"no {what} {name[:60]!r} is known to this generator; {', '.join(map(repr, like))} are, of {len(known)}"
    )


def paint(
    generator: "Sg2imGenerator", graphs: Sequence[SceneGraph], count: int = 1, seed: int = 0, truncation: float = 1.0
) -> Painted:
    """`count` pictures of each graph, with the same noises for all, and where the objects lie."""
    import torch

    from painter.painter import normal
    from trainer.feed.augment import to_uint8
    from trainer.systems import device_of

    device = device_of(generator)
    texts = {name: rows.to(device) for name, rows in tensors(generator, graphs).items()}
    noise = normal(generator.noise_dim, count, seed, truncation).to(device)
    with torch.inference_mode():
        encoded = generator.encode(texts)
        side = max(generator.names)
        pictures = [to_uint8(generator.draw(encoded, one.expand(len(graphs), -1))[side]).cpu().numpy() for one in noise]
    own = [len(one.objects) for one in graphs]
    boxes, masks = (encoded[name].cpu().numpy() for name in ("boxes", "masks"))
    return Painted(
        np.stack(pictures, 1),
        [boxes[row, :n] for row, n in enumerate(own)],
        [masks[row, :n] if masks.shape[2] else None for row, n in enumerate(own)],
    )


def placed(graph: SceneGraph, boxes: np.ndarray, masks: np.ndarray | None) -> np.ndarray:
    """(SHEET, SHEET, 3) uint8: every object's box and mask in a colour of its own, with its name."""
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("RGB", (SHEET, SHEET), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    # The largest first, so that small ones are seen.
    order = sorted(range(len(boxes)), key=lambda row: -abs(np.prod(boxes[row, 2:] - boxes[row, :2])))
    corners = [_pixels(box) for box in boxes]
    for row in order:
        x0, y0, x1, y1 = corners[row]
        colour = PALETTE[row % len(PALETTE)]
        if masks is not None:
            shape = Image.fromarray((masks[row] * 160).astype(np.uint8))
            sheet.paste(colour, (x0, y0), shape.resize((x1 - x0 + 1, y1 - y0 + 1), Image.Resampling.BILINEAR))
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=2)
    names = [graph.objects[row] for row in order]
    beside = label_places([corners[row][:2] for row in order], [pen.textlength(name, font=font) for name in names])
    for place, name in zip(beside, names):
        pen.text(place, name, fill="black", font=font)
    return np.asarray(sheet)


def label_places(corners: Sequence[tuple[int, int]], widths: Sequence[float]) -> list[tuple[float, float]]:
    """Where names of these widths begin: at their boxes' upper left corners, within the sheet, one below the other
    where they would lie on each other and there is room."""
    places: list[tuple[float, float]] = []
    for (left, top), width in zip(corners, widths):
        x, first = max(0, min(left + 4, SHEET - width)), min(top + 3, SHEET - LINE)
        beside = [y for (other, y), its in zip(places, widths) if x < other + its and other < x + width]
        free = (y for y in range(first, SHEET - LINE + 1) if all(abs(y - taken) >= LINE for taken in beside))
        places.append((x, next(free, first)))
    return places


def _pixels(box: np.ndarray) -> tuple[int, int, int, int]:
    """A box within the sheet, its corners in order (an untrained generator's need not be)."""
    x0, y0, x1, y1 = (round(float(value) * (SHEET - 1)) for value in np.clip(box, 0, 1))
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def sheet(graphs: Sequence[SceneGraph], painted: Painted, path: Path) -> None:
    """A column a graph: boxes and masks, the pictures below them, and what the graph says, as a PNG.

    Raises:
        ChatPainterError: the file cannot be written.
    """
    from trainer.logs.grid import write_grid

    above = np.stack([placed(*one) for one in zip(graphs, painted.boxes, painted.masks)])
    rows = [above, *painted.pictures.swapaxes(0, 1)]
    noises = [f"noise {number + 1}" for number in range(len(rows) - 1)]
    write_grid(rows, path, below=[one.words() for one in graphs], left=["boxes", *noises])
