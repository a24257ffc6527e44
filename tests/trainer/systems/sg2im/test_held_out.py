"""Held-out graphs as the evaluation tells them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError
from tests.support.stores import write_graphs, write_training_stores
from trainer.evaluation.split import Condition, HeldOutSplit
from trainer.feed.inputs import CAPTIONS, FIRST_PICTURES, GRAPH, TURNS, conditioning


def test_another_images_graph_is_told_whole(tmp_path: Path) -> None:
    embeddings, images = write_training_stores(tmp_path, images=6, sizes=(38,))
    write_graphs(images, [1000 + 7 * image for image in range(6)])
    held_out = HeldOutSplit(embeddings, images, GRAPH, (32,), seed=3)
    rows = np.arange(6)
    own, other = (held_out.texts(rows, Condition(name)) for name in ("own", "shuffled"))
    donors = torch.from_numpy(held_out.donors(rows))
    for name in ("objects", "objects.length", "triples", "triples.length"):
        assert torch.equal(other[name], own[name][donors])
    assert held_out.chosen(rows).tolist() == [0] * 6
    with pytest.raises(ChatPainterError, match="own-2-rounds"):
        held_out.texts(rows, Condition("own", 2))


def test_what_is_told_is_no_picture() -> None:
    assert conditioning((CAPTIONS, TURNS, FIRST_PICTURES)) == ["turns"]
    assert conditioning(GRAPH) == ["objects", "triples"]
    assert conditioning((CAPTIONS,)) == []
