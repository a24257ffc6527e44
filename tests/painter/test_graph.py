"""Scene graphs to pictures: files, names, words of the sample world, and where objects are said to lie."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from painter import graph as graphs
from painter.cli import main
from painter.graph import SceneGraph
from painter.painter import Painter
from pipeline.graphs.sample_graphs import SAMPLE_WORLD
from store.errors import ChatPainterError
from tests.support.models import SMALL_SG2IM
from trainer import generator_file
from trainer.systems.sg2im.config import Networks
from trainer.systems.sg2im.networks import Sg2imGenerator, generator_settings

GRAPH: dict[str, Any] = {
    "objects": ["small red circle", "large blue square", "sand"],
    "relationships": [[0, "left of", 1], [0, "at the top left of", 2]],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained generator that knows the sample world's names."""
    torch.manual_seed(0)
    own = {name: value for name, value in SMALL_SG2IM.items() if name in Networks.__dataclass_fields__}
    sizes = Networks(**{**own, "refinement_dims": (8, 4)})
    words = {"objects": SAMPLE_WORLD.kinds, "predicates": SAMPLE_WORLD.predicates}
    generator = Sg2imGenerator(generator_settings(sizes, words))
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif name.endswith("box_net.2.bias"):
                parameter.copy_(torch.tensor([0.1, 0.2, 0.7, 0.9]))
    folder = tmp_path_factory.mktemp("sg2im")
    generator_file.save(generator, folder / "generator.safetensors")
    return folder


def painted(run: Path, folder: Path, *args: str) -> Any:
    return CliRunner().invoke(main, ["graph", *args, "--run", str(run), "-o", str(folder / "out.png")])


def test_a_file_of_graphs_becomes_a_sheet(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "graphs.json"
    path.write_text(json.dumps([GRAPH, {"objects": ["snow"], "relationships": []}]))
    result = painted(run, tmp_path, str(path), "-n", "2", "--seed", "3")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 2 * graphs.SHEET
        assert sheet.height > 3 * graphs.SHEET
    assert path.read_text() == json.dumps([GRAPH, {"objects": ["snow"], "relationships": []}])


def test_pictures_depend_on_graph_seed_and_place_alone(run: Path) -> None:
    generator = graphs.load(run)
    one, other = graphs._graph(GRAPH, "here"), SceneGraph(("snow",), ())
    both = graphs.paint(generator, [one, other], count=3, seed=5)
    assert both.pictures.shape == (2, 3, 32, 32, 3)
    alone = graphs.paint(generator, [one], count=2, seed=5)
    np.testing.assert_array_equal(alone.pictures[0], both.pictures[0, :2])
    assert [len(boxes) for boxes in both.boxes] == [3, 1]
    assert [masks.shape for masks in both.masks] == [(3, 16, 16), (1, 16, 16)]
    assert (graphs.paint(generator, [one], seed=6).pictures != alone.pictures[:, :1]).any()


def test_the_graph_is_what_the_generator_reads(run: Path) -> None:
    read = graphs.tensors(graphs.load(run), [graphs._graph(GRAPH, "here"), SceneGraph(("snow",), ())])
    kinds, predicates = SAMPLE_WORLD.kinds, SAMPLE_WORLD.predicates
    expected = [[kinds.index(name) for name in GRAPH["objects"]] + [0], [kinds.index("snow"), 0, 0, 0]]
    assert read["objects"].tolist() == expected
    assert read["objects.length"].tolist() == [4, 2]
    said = [[0, predicates.index("left of"), 1], [0, predicates.index("at the top left of"), 2]]
    assert read["triples"][0].tolist() == [*said, [0, 0, 3], [1, 0, 3], [2, 0, 3]]
    assert read["triples"][1, :1].tolist() == [[0, 0, 1]]
    assert read["triples.length"].tolist() == [5, 1]


def test_boxes_and_masks_are_drawn_where_they_are() -> None:
    graph = SceneGraph(("sand", "circle"), ())
    boxes = np.array([[0, 0, 1, 1], [0.75, 0.5, 0.5, 0.25]])  # the second has its corners in the other order
    drawn = graphs.placed(graph, boxes, np.ones((2, 16, 16)))
    first, second = ([int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in graphs.PALETTE[:2])
    edge = round(0.5 * (graphs.SHEET - 1))
    assert drawn[100, 0].tolist() == first
    assert drawn[90, edge].tolist() == second
    assert drawn[150, 100].tolist() != [255, 255, 255]
    empty = graphs.placed(graph, boxes, None)
    assert empty[150, 100].tolist() == [255, 255, 255]


def test_names_lie_within_the_picture_and_not_on_each_other() -> None:
    corners, widths = [(0, 0), (4, 2), (180, 0), (100, 190), (0, 60)], [30, 90, 60, 70, 400]
    places = graphs.label_places(corners, widths)
    assert places == [(4, 3), (8, 3 + graphs.LINE), (132, 3), (104, graphs.SHEET - graphs.LINE), (0, 63)]
    crowded = graphs.label_places([(0, graphs.SHEET)] * 3, [50] * 3)  # no room: on each other, rather than nowhere
    assert crowded == [(4, graphs.SHEET - graphs.LINE)] * 3


def test_words_of_the_sample_world_become_a_graph(run: Path, tmp_path: Path) -> None:
    talk = [("what is the ground like", "it is sand"), ("what is at the bottom right", "a large blue square")]
    graph = graphs.told(graphs.load(run), "there is a small red circle in the top left with one other object", talk)
    assert graph.objects == ("small red circle", "large blue square", "sand")
    assert (0, "at the top left of", 2) in graph.relationships
    assert (1, "at the bottom right of", 2) in graph.relationships
    assert (2, "surrounding", 0) in graph.relationships
    said = ["--ask", talk[0][0], "--answer", talk[0][1]]
    assert painted(run, tmp_path, "--caption", "a small red circle in the top left", *said).exit_code == 0
    nothing = painted(run, tmp_path, "--caption", "a dog")
    assert nothing.exit_code != 0
    assert "tell neither the ground nor colour, shape and size" in nothing.output


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "the file is empty"),
        ("[]", "holds no graph"),
        ("{}", "'objects' is missing"),
        ('[{"objects": ["sand"], "relationships": []}, 3]', r"\[1\]: expected an object with 'objects'"),
        ('{"objects": [], "relationships": []}', "objects should be from 1 to 64 names"),
        ('{"objects": ["sand"], "relationships": [[0, "left of"]]}', r"relationships\[0\] should be \[row, predicate"),
        ('{"objects": ["sand"], "relationships": [[0, "left of", 1]]}', "names object 1, but rows go from 0 to 0"),
        ('{"objects": ["sand"], "relationships": [[0, "left of", true]]}', r"should be \[row, predicate, row\]"),
        ('{"objects": ["small red circel"], "relationships": []}', "no object 'small red circel'.*'small red circle'"),
        ('{"objects": ["__image__"], "relationships": []}', "no object '__image__' is known"),
        ('{"objects": ["sand"], "relationships": [[0, "on", 0]]}', "no predicate 'on' is known"),
    ],
)
def test_files_that_are_no_graphs_are_named(run: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ChatPainterError, match=message) as refused:
        graphs.paint(graphs.load(run), graphs.read(path))
    assert "\n" not in refused.value.message


def test_the_right_command_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ChatPainterError, match="paints scene graphs, not words; use chatpainter-paint graph"):
        Painter.from_run(run)
    from tests.support.worlds import untrained_generator

    generator_file.save(untrained_generator(), tmp_path / "other.safetensors")
    with pytest.raises(ChatPainterError, match="made by stage1, which reads no scene graphs"):
        graphs.load(tmp_path / "other.safetensors")
    assert "say one of: FILE, or --caption" in painted(run, tmp_path).output
    assert painted(run, tmp_path, "x.json", "--ask", "q", "--answer", "a").exit_code == 2
