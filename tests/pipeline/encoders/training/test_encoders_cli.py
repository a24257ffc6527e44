"""chatpainter-encoders: from a command line to an encoders' folder, and faults in words."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pipeline import encoders_cli
from pipeline.encoders.training.skip_thought import PRESETS, SkipThoughtTraining
from store import params

TINY = {"words": 20, "word_dim": 4, "dim": 16, "sentences": 32, "batch": 4, "held_out": 2, "checkpoint_every": 16}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("told.txt").write_text("\n\n".join("a dog .\nit is red .\nyes ." for _ in range(20)))
    Path("params.yaml").write_text(yaml.safe_dump({"train_skip_thought": TINY}))
    return lambda *words: CliRunner().invoke(encoders_cli.main, ["train", "skip-thought", "--device", "cpu", *words])


def test_a_training_ends_with_the_files_and_says_how_good_they_are(call):
    result = call("told.txt", "--out", "out", "--license", "CC0")
    assert result.exit_code == 0, result.output
    assert "32 of 32 sentences; surprise a word: uni" in result.output
    assert "uni: perplexity of held-out sentences" in result.output
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "WEIGHTS.json", "bi_skip.npz", "btable.npy", "dictionary.txt", "uni_skip.npz", "utable.npy"
    ]  # fmt: skip
    assert call("told.txt", "--out", "out", "--license", "CC0").exit_code == 0  # again: nothing is left to do


@pytest.mark.parametrize(
    "words, said",
    [
        (("none.txt",), "none.txt: no such file"),
        (("told.txt", "--vectors", "none.txt"), "none.txt: no such file; --vectors"),
        (("told.txt", "--device", "abacus"), "--device 'abacus': expected auto, cpu"),
        (("told.txt", "--out", "mine"), "not as `chatpainter-encoders train` wrote it"),
        (("told.txt", "--params", "wrong.yaml"), "train_skip_thought.rate"),
    ],
)
def test_faults_are_one_line(call, words, said):
    Path("mine").mkdir()
    Path("mine/uni_skip.npz").write_text("the published one")
    Path("wrong.yaml").write_text("train_skip_thought: {rate: fast}")
    result = call(*words)
    assert result.exit_code == 1
    assert said in result.output
    assert Path("mine/uni_skip.npz").read_text() == "the published one"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_are_settings(preset):
    values = {"train_skip_thought": PRESETS[preset]}
    settings = params.section(values, "train_skip_thought", SkipThoughtTraining, preset)
    assert settings.halves == {"uni": 1, "bi": 2}
