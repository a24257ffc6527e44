"""A corpus as rows: every text once, in order, and groups never cut."""

from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import texts, texts_of_rows
from pipeline.corpora.corpus import schema
from pipeline.texts import TextSettings

# Sigma is written in two ways in lower case, depending on what follows it.
TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("ΣA. ?"), max_size=6)
ROUND = st.fixed_dictionaries({"question": TEXT, "answer": TEXT})
IMAGE = st.fixed_dictionaries(
    {
        "captions": st.lists(TEXT, max_size=7),
        "rounds": st.lists(ROUND, max_size=12),
        "visdial_caption": TEXT,
    }
)
SETTINGS = st.builds(
    TextSettings,
    turn=st.sampled_from(["question+answer", "question", "answer"]),
    punctuation=st.booleans(),
    lowercase=st.booleans(),
    caption_in_dialogue=st.booleans(),
)


def table(images, schema):
    rows = [
        {
            **image,
            "image_id": 5 * place + 2,
            "file_name": "",
            "width": 1,
            "height": 1,
            "captions": [{"caption_id": 100 * place + k, "text": text} for k, text in enumerate(image["captions"])],
        }
        for place, image in enumerate(images)
    ]
    return pa.Table.from_pylist(rows, schema)


@pytest.mark.parametrize("part", [5, 1 << 17])
@given(images=st.lists(IMAGE, max_size=12), text=SETTINGS, limit=st.integers(1, 25))
def test_every_text_has_its_row_and_groups_stay_whole(part, images, text, limit):
    corpus = table(images, schema())
    ids = [5 * place + 2 for place in range(len(images))]
    turns = [[texts.turn(r["question"], r["answer"], text) for r in image["rounds"]] for image in images]
    expected = {
        "captions": [image["captions"] for image in images],
        "turns": turns,
        "dialogues": [
            [texts.collapse([(r["question"], r["answer"]) for r in i["rounds"]], i["visdial_caption"], text)]
            if i["rounds"] else [] for i in images
        ],
    }  # fmt: skip
    for kind in texts.KINDS:
        with mock.patch.object(texts_of_rows, "_PART", part):
            rows = texts_of_rows.read(kind, corpus, text)
        flat = [line for group in expected[kind] for line in group]
        assert rows.of(0, len(rows)) == flat
        index = rows.index.to_pydict()
        if kind == "captions":
            assert list(index) == ["row", "image_id", "caption_id", "text"]
            assert index["row"] == list(range(len(flat)))
            assert index["image_id"] == [i for i, group in zip(ids, expected[kind]) for _ in group]
            assert index["caption_id"] == [
                100 * place + k for place, group in enumerate(expected[kind]) for k in range(len(group))
            ]
            assert index["text"] == flat
        elif kind == "turns":
            assert list(index) == ["row", "image_id", "rounds", "texts"]
            assert index["texts"] == [group for group in turns if group]
            assert index["rounds"] == [len(group) for group in turns if group]
            assert index["row"] == np.cumsum([0, *index["rounds"]])[:-1].tolist()
            assert index["image_id"] == [i for i, group in zip(ids, turns) if group]
        else:
            assert list(index) == ["row", "image_id", "text"]
            assert (index["row"], index["text"]) == (list(range(len(flat))), flat)
            assert index["image_id"] == [i for i, group in zip(ids, turns) if group]
        parts = rows.cut(limit)
        assert [first for first, _ in parts] == np.cumsum([0, *[count for _, count in parts]])[:-1].tolist()
        assert sum(count for _, count in parts) == len(rows)
        bounds = {first for first, _ in parts}
        assert bounds <= set(rows.groups.tolist())
        for first, count in parts:
            longest = np.diff(rows.groups)[np.searchsorted(rows.groups, first, "right") - 1]
            assert count <= limit or count == longest


def test_captions_do_not_depend_on_how_turns_are_written():
    assert texts_of_rows.switches("captions", TextSettings()) == {}
    assert "caption_in_dialogue" not in texts_of_rows.switches("turns", TextSettings())
    assert texts_of_rows.switches("dialogues", TextSettings())["caption_in_dialogue"] is False
