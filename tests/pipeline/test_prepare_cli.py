"""chatpainter-prepare from nothing to everything that embedding and training read, as a new user runs it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.corpora import corpus
from pipeline.prepare_cli import main
from store.reader import Store

PARAMS = """
dataset: sample
raw: raw
visdial_version: "1.0"
splits: [train, val]
world: {train: 6, val: 4, image_size: 64}
images: {sizes: [16, 40]}
encoders: {untrained: untrained}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_nothing_to_everything(folder: Path) -> None:
    for command in ("world", "corpus", "images", "weights"):
        result = run(command, *(["--workers", "1"] if command == "images" else []))
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
    assert "(untrained)" in result.stdout
    for split, number in (("train", 6), ("val", 4)):
        ids = corpus.read(f"data/corpus/{split}.parquet")["image_id"].to_pylist()
        assert len(ids) == number
        for size in (16, 40):
            assert Store(f"data/images/{split}/{size}").column("image_id").tolist() == ids
    assert (folder / "untrained" / "uni_skip.npz").exists()
    assert sorted(p.name for p in folder.iterdir()) == ["data", "params.yaml", "raw", "untrained"]


def test_options_go_before_params(folder: Path) -> None:
    assert (
        "3 train and 2 val scenes, 32 pixels wide"
        in run("world", "--train", "3", "--val", "2", "--image-size", "32", "--raw", "other").stdout
    )
    assert not (folder / "raw").exists()
    assert len(list((folder / "other" / "images" / "train").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["images"],
            "data/corpus/train.parquet: no such corpus; make it with: chatpainter-prepare corpus --split train",
        ),
        (["corpus"], "raw/annotations/captions_train.json: no such file for split 'train'"),
        (["--params", "none.yaml", "world"], "none.yaml"),
        (["codraw", "--source", "nowhere"], "nowhere/CoDraw_1_0.json: no such file"),
    ],
)
def test_what_is_lacking_is_one_line_with_its_remedy(folder: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("world: {seeds: 3}", "did you mean 'seed'?"),
        ("world: {train: 0}", "train and val must be at least 1"),
        ("world: {image_size: 9}", "image_size must be between 32 and 2048, found 9"),
        ("world: 3", "expected a mapping"),
    ],
)
def test_what_params_cannot_mean_is_said(folder: Path, line: str, message: str) -> None:
    (folder / "params.yaml").write_text(f"raw: raw\n{line}\n")
    result = run("world")
    assert result.exit_code == 1
    assert message in result.output
    assert not (folder / "raw").exists()


def test_it_says_its_version() -> None:
    from importlib.metadata import version

    result = CliRunner().invoke(main, ["--version"], prog_name="chatpainter-prepare")
    assert (result.exit_code, result.stdout.split()) == (0, ["chatpainter-prepare", version("chatpainter")])


def test_seeds_that_no_stream_has_are_refused(folder: Path) -> None:
    assert "-1 is not in the range x>=0" in run("world", "--seed", "-1").output
    (folder / "params.yaml").write_text("raw: raw\nworld: {seed: -1}\n")
    assert "world: seed must be at least 0, found -1" in run("world").output
