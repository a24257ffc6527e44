"""Pictures of one's own: three ways to say the same, the document's example to its end, and rows that are refused."""

import csv
import io
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import embed_cli, texts
from pipeline.corpora import coco, corpus, imagefolder, visdial
from pipeline.prepare_cli import main
from store import Store
from store.errors import ChatPainterError
from tests.support.documents import ROOT
from tests.support.hash_encoder import DIM, vector
from trainer import cli as train_cli

SECTION = (ROOT / "docs/data.md").read_text(encoding="utf-8").partition("## Your own pictures and dialogues")[2]
EXAMPLE = re.findall(r"```csv\n(.*?)```", SECTION, re.S)[0]
NAMES = ("rose.png", "tulip.png", "pond.png", "fern.png")

# What the example says, by hand.
SAID = {
    "train": [
        (1, "rose.png", ["a red rose", "a rose in the sun"],
         [("is it open", "yes, wide open"), ("what is behind it", "a wall")]),
        (2, "tulip.png", ["two tulips"], [("which colour are they", "yellow")]),
        (3, "pond.png", ["a pond"], [("is there a fish in it", "no")]),
    ],
    "val": [(4, "fern.png", ["a fern in the shade"], [("how high is it", "to the knee")])],
}  # fmt: skip


def paint(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (20 * number, 200 - 10 * number, 7)).save(folder / name)
    return folder


def table(*rows: str, head: str = "file_name,split,caption,question,answer,dialogue") -> str:
    return "\n".join([head, *rows]) + "\n"


def records(*values: dict[str, Any]) -> str:
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values)


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    paint(tmp_path / "garden", *NAMES)
    (tmp_path / "garden/metadata.csv").write_text(EXAMPLE, encoding="utf-8")
    return Path("garden")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def laid_out(raw: Path, split: str) -> list[tuple[int, str, list[str], list[tuple[str, str]]]]:
    """What the readers of COCO and VisDial find."""
    images = coco.read(raw / f"annotations/captions_{split}.json")
    said = visdial.read(raw / f"visdial/visdial_1.0_{split}.json").dialogues
    return [
        (number, image.file_name, [text for _, text in image.captions], said[number].rounds if number in said else [])
        for number, image in images.items()
    ]


def test_the_document_s_example_goes_to_its_end(garden: Path) -> None:
    """Every command of the example, what it prints, and the stores that come out."""
    block = re.findall(r"From there.*?```\n(.*?)```", SECTION, re.S)[0]
    steps = re.findall(r"^\$ (\S+) (.*)\n((?:[^$].*\n)*)", block, re.M)
    assert len(steps) == 7
    programs = {"chatpainter-prepare": main, "chatpainter-embed": embed_cli.main, "chatpainter-train": train_cli.main}
    for program, arguments, shown in steps:
        quick = (
            ["--scheduler", "sync"] if program == "chatpainter-embed" else ["--workers", "1"] * ("images" in arguments)
        )
        result = CliRunner().invoke(programs[program], [*arguments.split(), *quick], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        for line in shown.splitlines():
            assert line.removesuffix("...") in result.output
    for split, expected in SAID.items():
        assert laid_out(Path("data/raw/garden"), split) == expected
        rows = list(corpus.rows(corpus.read(f"data/corpus/{split}.parquet")))
        assert [
            (row.image_id, row.file_name, [text for _, text in row.captions], row.rounds) for row in rows
        ] == expected
        turns = Store(f"data/embeddings/{split}/turns")
        assert turns.column("image_id").tolist() == [number for number, *_ in expected]
        assert turns.column("rounds").tolist() == [len(rounds) for *_, rounds in expected]
        assert len(Store(f"data/embeddings/{split}/captions").column("image_id")) == sum(
            len(said) for _, _, said, _ in expected
        )
        pixels = Store(f"data/images/{split}/76").take(np.arange(len(expected)))
        for picture, (_, name, *_) in zip(pixels, expected):
            np.testing.assert_array_equal(picture[38, 38], Image.open(garden / name).getpixel((5, 5)))


def as_lines(said: dict[str, Any]) -> dict[str, str]:
    """The example's content in the other two forms."""
    values, beside = [], {}
    for split, images in said.items():
        for _, name, captions, rounds in images:
            turns = [{"question": question, "answer": answer} for question, answer in rounds]
            values.append({"file_name": name, "split": split, "captions": captions, "rounds": turns})
            talk = "".join(f"\t{question}? {answer}" for question, answer in rounds)
            beside[f"{split}/{Path(name).stem}.txt"] = "\n".join([captions[0] + talk, *captions[1:]])
    return {"metadata.jsonl": records(*values), **beside}


def test_three_ways_to_say_it_are_one_dataset(garden: Path) -> None:
    """A table, JSON lines, and texts beside pictures in folders: the same bytes, pictures too."""
    files = as_lines(SAID)
    paint(Path("lines"), *NAMES)
    Path("lines/metadata.jsonl").write_text("\ufeff" + files.pop("metadata.jsonl"), encoding="utf-8")
    for name, text in files.items():
        picture = Path("beside", name).with_suffix(".png")
        picture.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(garden / picture.name, picture)
        Path("beside", name).write_text(text, encoding="utf-8")
    (Path("beside") / ".DS_Store").write_bytes(b"\0")
    found = {}
    for source in (garden, Path("lines"), Path("beside")):
        raw = Path("raw") / source
        imagefolder.make(source, raw)
        found[source.name] = {
            path.relative_to(raw).as_posix(): path.read_bytes()
            for path in raw.rglob("*.*")
            if path.is_file() and path.name != imagefolder.MARKER
        }
    assert found["garden"] == found["lines"]
    # Beside pictures nothing numbers splits but the order of names: fern, which is last, alone in val.
    assert found["beside"].keys() == found["garden"].keys()
    by_name = {split: [image[1:] for image in laid_out(Path("raw/beside"), split)] for split in SAID}
    assert {split: sorted(images) for split, images in by_name.items()} == {
        split: sorted(image[1:] for image in images) for split, images in SAID.items()
    }


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.split() != []
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.one_of(st.just(""), TEXT)), min_size=1, max_size=4), st.booleans())
def test_whatever_people_write_arrives_folded_and_otherwise_as_it_was(
    said: list[tuple[str, str, str]], as_table: bool
) -> None:
    rows = io.StringIO()
    csv.writer(rows).writerow(["file_name", "split", "caption", "question", "answer"])
    for caption, question, answer in said:
        csv.writer(rows).writerow(["a.png", "train", caption, question, answer])
    turns = [{"question": question, "answer": answer} for _, question, answer in said]
    value = {"file_name": "a.png", "split": "train", "captions": [one[0] for one in said], "rounds": turns}
    captions = list(dict.fromkeys(" ".join(one[0].split()) for one in said))
    expected = [(1, "a.png", captions, [(" ".join(q.split()), " ".join(a.split())) for _, q, a in said])]
    with tempfile.TemporaryDirectory() as folder:
        source = paint(Path(folder) / "in", "a.png")
        name, content = ("metadata.csv", rows.getvalue()) if as_table else ("metadata.jsonl", records(value))
        (source / name).write_bytes(content.encode())
        imagefolder.make(source, Path(folder) / "raw")
        assert laid_out(Path(folder) / "raw", "train") == expected


def test_every_dialogue_of_a_picture_becomes_an_image_of_its_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the column `dialogue`, by records, and by lines: three times the same; no picture lies in two splits."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("splits: [train]\n")
    paint(tmp_path / "a", "train/x.png", "train/y.png")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    rows = ("x.png,a dog,is it black,yes,ann", "x.png,,is it old,no,bob", "x.png,,is it big,yes,ann", "y.png,a cat,,,")
    named = table(*(f"train/{row}" for row in rows), head="file_name,caption,question,answer,dialogue")
    (tmp_path / "a/metadata.csv").write_text(named)
    black, old = ([{"question": q, "answer": a} for q, a in said] for said in (
        [("is it black", "yes"), ("is it big", "yes")], [("is it old", "no")]))  # fmt: skip
    (tmp_path / "b/metadata.jsonl").write_text(records(
        {"file_name": "train/x.png", "caption": "a dog", "rounds": black},
        {"file_name": "train/x.png", "rounds": old},
        {"file_name": "train/y.png", "caption": "a cat"},
    ))  # fmt: skip
    (tmp_path / "c/train/x.txt").write_text("a dog\tis it black? yes\tis it big? yes\n\tis it old? no\n")
    (tmp_path / "c/train/y.txt").write_text("a cat\n")
    for source in ("a", "b", "c"):
        result = run("imagefolder", "--source", source, "--raw", f"raw-{source}")
        assert result.output == f"raw-{source}: train: 2 pictures, 2 captions, 2 dialogues, 3 rounds\n"
        assert laid_out(tmp_path / f"raw-{source}", "train") == [
            (1, "x.png", ["a dog"], [("is it black", "yes"), ("is it big", "yes")]),
            (2, "x.png", ["a dog"], [("is it old", "no")]),
            (3, "y.png", ["a cat"], []),
        ]
        said = visdial.read(tmp_path / f"raw-{source}/visdial/visdial_1.0_train.json").dialogues
        assert [one.caption for one in said.values()] == ["a dog", "a dog"]
    result = run("corpus", "--raw", "raw-a", "--visdial-version", "1.0")
    assert "files that several images name: 1 (x.png: images 1, 2)" in result.output
    assert "without dialogue: 1, left out (images 3)" in result.output
    assert run("images", "--raw", "raw-a", "--size", "8", "--workers", "1").exit_code == 0
    assert Store("data/images/train/8").column("image_id").tolist() == [1, 2]


def embedded(split: str) -> None:
    """Corpus and vectors of `raw`, by an encoder whose vector of a text is its hash."""
    assert run("corpus", "--raw", "raw", "--split", split).exit_code == 0
    command = ["--split", split, "--scheduler", "sync", "--encoders", "tests.support.hash_encoder"]
    done = CliRunner().invoke(embed_cli.main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_a_long_dialogue_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("splits: [train]\n")
    paint(tmp_path / "in", "a.png")
    rounds = [{"question": f"is there a thing number {n}", "answer": "yes"} for n in range(600)]
    (tmp_path / "in/metadata.jsonl").write_text(
        records({"file_name": "a.png", "split": "train", "caption": "things", "rounds": rounds})
    )
    assert run("imagefolder", "--source", "in", "--raw", "raw").exit_code == 0
    embedded("train")
    turns = Store("data/embeddings/train/turns")
    assert turns.column("rounds").tolist() == [600]
    last = vector("is there a thing number 599? yes.", DIM["dialogue"]).astype(np.float16)
    np.testing.assert_array_equal(turns.take(np.array([599]))[0], last)


def test_other_languages_arrive_letter_by_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files, captions, marks of their own: nothing is changed, and no English mark is put after another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("splits: [train]\n")
    lines = {
        "赤い花": "赤い花\t開いていますか？ はい、開いています。",
        "b": "黄色い花が二つ\tما لونها؟ أصفر",
        "c": "ein blühender Strauch\tist er groß? ja",
    }
    paint(tmp_path / "in/train", *(f"{name}.png" for name in lines))
    for name, line in lines.items():
        (tmp_path / "in/train" / f"{name}.txt").write_text(line, encoding="utf-8")
    assert run("imagefolder", "--source", "in", "--raw", "raw").exit_code == 0
    embedded("train")
    found = {row.file_name: (row.caption, row.rounds) for row in corpus.rows(corpus.read("data/corpus/train.parquet"))}
    assert found == {
        "赤い花.png": ("赤い花", [("開いていますか", "はい、開いています。")]),
        "b.png": ("黄色い花が二つ", [("ما لونها", "أصفر")]),
        "c.png": ("ein blühender Strauch", [("ist er groß", "ja")]),
    }
    turns = Store("data/embeddings/train/turns").take(np.arange(3))
    said = ["ما لونها? أصفر.", "ist er groß? ja.", "開いていますか? はい、開いています。"]
    np.testing.assert_array_equal(turns, [vector(text, DIM["dialogue"]).astype(np.float16) for text in said])


@pytest.mark.parametrize("mark", ["?", "？", "؟", "！", "。", "۔", "।"])
def test_a_text_that_ends_in_a_mark_of_its_language_gets_no_other(mark: str) -> None:
    assert texts.turn(f"x{mark}", f"y{mark}", texts.TextSettings()) == f"x{mark} y{mark}"


def test_a_share_is_drawn_from_the_pictures_and_keeps_equal_ones_together(tmp_path: Path) -> None:
    names = [f"{n:02}.png" for n in range(20)]
    source = paint(tmp_path / "in", *names)
    shutil.copy(source / "03.png", source / "copy.png")
    rows = [f"{name},a picture" for name in [*names, "copy.png"]]
    (source / "metadata.csv").write_text(table(*rows, head="file_name,caption"))

    def drawn(seed: int, folder: Path = source) -> set[str]:
        imagefolder.make(folder, tmp_path / "raw", val_share=0.3, seed=seed)
        parts = {split: {name for _, name, *_ in laid_out(tmp_path / "raw", split)} for split in ("train", "val")}
        assert parts["train"].isdisjoint(parts["val"])
        assert len(parts["train"]) + len(parts["val"]) == 21
        assert ("copy.png" in parts["val"]) == ("03.png" in parts["val"])
        assert len(parts["val"]) in (6, 7)  # 0.3 of 21; one more where the two equal ones are last
        return parts["val"]

    first = drawn(0)
    assert drawn(0) == first
    assert any(drawn(seed) != first for seed in (1, 2))
    # Other names, another order: the same pictures.
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for path in source.glob("*.png"):
        shutil.copy(path, renamed / f"z{path.name}")
    (renamed / "metadata.csv").write_text(table(*(f"z{row}" for row in reversed(rows)), head="file_name,caption"))
    imagefolder.make(renamed, tmp_path / "raw", val_share=0.3, seed=0)
    assert {f"z{name}" for name in first} == {name for _, name, *_ in laid_out(tmp_path / "raw", "val")}


def test_columns_that_nothing_reads_are_said(garden: Path) -> None:
    lines = EXAMPLE.splitlines()
    (garden / "metadata.csv").write_text("\n".join([f"{lines[0]},licence", *(f"{line},CC0" for line in lines[1:])]))
    result = run("imagefolder", "--source", "garden", "--raw", "raw")
    assert result.output.splitlines()[-1] == "  not read: 'licence'"
    assert laid_out(Path("raw"), "train") == SAID["train"]


CSV, LINES = "metadata.csv", "metadata.jsonl"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (CSV, table("../a.png,train,x,,,"), "in/metadata.csv: line 2: the file name '../a.png' leads out of"),
        (CSV, table("a.png,train,x,,,", "/etc/a.png,train,x,,,"), "line 3: the file name '/etc/a.png' is absolute"),
        (CSV, table(r"..\a.png,train,x,,,"), "line 2: .* leads out of its folder"),
        (CSV, table(",train,x,,,"), "line 2: the file name '' is empty"),
        (CSV, table("c.png,train,x,,,"), "line 2: in/c.png: no such file; put it there, or remove the row"),
        (CSV, table("a.png,train,,,,"), "line 2: says nothing of 'a.png'; write a caption or a round, or remove it"),
        (CSV, table("a.png,train,,,yes,"), "line 2: an answer without a question"),
        (CSV, table('"a.png",train,"x\ny",,,', "b.png,train,x"), "line 4: has 3 cells, and the first line 6 columns"),
        (CSV, table('a.png,train,"x,,,'), "line 2: not CSV"),
        (CSV, table("a.png,train,x,,,", "a.png,val,y,,,"), "line 3: 'a.png' is of split 'val' here, and of 'train' in"),
        (CSV, table("a.png,train,x,,,", "b.png,,y,,,"), "line 3: 'b.png' has no split, though others have"),
        (CSV, table("a.png,tr/ain,x,,,"), "line 2: 'tr/ain' is no split's name"),
        (CSV, table("a.png,../x,x,,,"), "line 2: '../x' is no split's name"),
        (CSV, table("a.png,,x,,,"), "line 2: of which split is 'a.png'\\? Write a column `split`"),
        (CSV, table("a.png,x", head="file_name,captoin"), "line 1: column 'captoin'; did you mean 'caption'\\?"),
        (CSV, table("a.png,x", head="image,caption"), "line 1: needs a column 'file_name'; found \\['image', 'cap"),
        (CSV, table("a.png;x", head="file_name;caption"), "line 1: needs a column 'file_name'; found"),
        (CSV, table("a.png,x,y", head="file_name,caption,caption"), "line 1: the column 'caption' stands there twice"),
        (CSV, "", "line 1: needs a column 'file_name'; found \\[\\]"),
        (CSV, table(), "in/metadata.csv: has no row"),
        (CSV, b"file_name,caption\na.png,caf\xe9\n", "in/metadata.csv: not UTF-8 text \\(byte .*\\); save it as UTF-8"),
        (CSV, table("half.png,train,x,,,"), "line 2: in/half.png: cannot be read \\(.*truncated"),
        (CSV, table("a.txt,train,x,,,"), "line 2: in/a.txt: cannot be read \\(of no kind of picture that is known\\)"),
        (LINES, records({"file_name": "../a.png", "caption": "x"}), "in/metadata.jsonl: line 1: .* leads out of its"),
        (LINES, records({"file_name": 3, "caption": "x"}), "line 1: 'file_name' should be a text"),
        (LINES, records({"file_name": "a.png"}), "line 1: says nothing of 'a.png'"),
        (LINES, records({"file_name": "a.png", "caption": " "}), "line 1: caption 1 should be a text, found ' '"),
        (LINES, records({"file_name": "a.png", "captions": ["x", 3]}), "line 1: caption 2 should be a text, found 3"),
        (LINES, '{"file_name": "a.png", "captions": ["\\ud800"]}', "line 1: caption 1 has half a character"),
        (LINES, records({"file_name": "a.png", "rounds": [["q", "a"]]}), "line 1: round 1: expected an object"),
        (LINES, records({"file_name": "a.png", "rounds": [{"answer": "a"}]}), "line 1: round 1: 'question' is missing"),
        (LINES, records({"file_name": "a.png", "rounds": [{"question": " "}]}), "round 1: the question is empty"),
        (LINES, records({"file_name": "a.png", "round": []}), "line 1: key 'round'; did you mean 'rounds'\\?"),
        (LINES, '{"file_name": "a.png", "caption": "x"}\n{"file_na', "line 2: ends in the middle"),
        (LINES, "[1]", "line 1: expected an object with 'file_name'"),
        ("a.txt", "x\n\tred. yes\n", "in/train/a.txt: line 2: expected `question\\? answer` .*, found 'red"),
        ("a.txt", "x\t? yes\n", "a.txt: line 1: an answer without a question"),
        ("a.txt", " \n", "in/train/a.txt: says nothing; write what is seen"),
        ("a.txt", b"\xff", "in/train/a.txt: not UTF-8 text"),
        ("a.txt", None, "in/train/a.png: no a.txt beside it, nor metadata.csv or metadata.jsonl in in"),
        ("z.txt", "x", "in/train/z.txt: no picture beside it"),
        ("a.jpg", "x", "in/train/a.txt: beside two pictures, train/a.jpg and train/a.png; rename one"),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_line_that_names_file_and_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str | bytes | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if file in (CSV, LINES):
        source = paint(tmp_path / "in", "a.png", "b.png")
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(source / "half.png")
        (source / "half.png").write_bytes((source / "half.png").read_bytes()[:2000])
        (source / "a.txt").write_text("no picture")
    else:
        source = paint(tmp_path / "in/train", "a.png")
        (source / "a.txt").write_text("a picture")
    if content is None:
        (source / file).unlink()
    else:
        (source / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run("imagefolder", "--source", "in", "--raw", "raw")
    assert result.exit_code == 1
    assert re.search(words, result.output), result.output
    assert result.output.startswith("Error: in/")
    assert result.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_cannot_be_shared_out_or_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = paint(tmp_path / "in", "a.png")
    shutil.copy(source / "a.png", source / "b.png")
    (source / "metadata.csv").write_text(table("a.png,x", "b.png,x", head="file_name,caption"))
    for arguments, words in (
        (["--val-share", "0.5"], "in: of 2 pictures (1 of them different) nothing is left to train on"),
        (["--source", "nowhere"], "nowhere: no such folder; name the folder of the pictures with --source"),
    ):
        result = run("imagefolder", "--source", "in", "--raw", "raw", *arguments)
        assert words in result.output
        assert not Path("raw").exists()
    (source / "metadata.csv").write_text(table("a.png,train,x,,,"))
    assert (
        "line 2: states a split; leave out --val-share"
        in run("imagefolder", "--source", "in", "--val-share", "0.5").output
    )
    foreign = Path("raw/annotations/captions_train2014.json")
    foreign.parent.mkdir(parents=True)
    foreign.write_text("{}")
    refused = run("imagefolder", "--source", "in", "--raw", "raw")
    assert refused.output.startswith("Error: raw/annotations/captions_train2014.json: not made by this command")
    shutil.rmtree("raw")
    assert run("imagefolder", "--source", "in", "--raw", "raw").exit_code == 0
    before = sorted(Path("raw").rglob("*"))
    assert run("imagefolder", "--source", "in", "--raw", "raw").exit_code == 0
    assert sorted(Path("raw").rglob("*")) == before
    (source / LINES).write_text("")
    assert "holds metadata.csv and metadata.jsonl; leave only the one" in run("imagefolder", "--source", "in").output
    Path("nothing").mkdir()
    with pytest.raises(
        ChatPainterError, match=r"nothing: holds neither metadata\.csv nor metadata\.jsonl, nor pictures"
    ):
        imagefolder.make(Path("nothing"), Path("raw2"))
