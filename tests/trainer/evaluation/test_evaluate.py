"""chatpainter-evaluate from end to end on a small world: figures, resuming, processes, words of others."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from store.lock import FolderLock
from trainer import generator_file
from trainer.evaluation import parts, split
from trainer.evaluation.cli import main
from trainer.systems.stackgan_v2.config import StackGanV2Model
from trainer.systems.stackgan_v2.networks import StackGanV2Generator, generator_settings


def arguments(world: Path, generator: Path, out: Path, *more: str) -> list[str]:
    options = {
        "params": world / "params.yaml",
        "embeddings": world / "data/embeddings",
        "images": world / "data/images",
        "generator": generator,
        "out": out,
        "device": "cpu",
        "classifier": world / "classifier.safetensors",
    }
    return [*(str(part) for name, value in options.items() for part in (f"--{name}", value)), *more]


def run(*given, **named):
    result = CliRunner().invoke(main, arguments(*given, **named))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def evaluated(world, make_generator, tmp_path_factory):
    """One evaluation of a two-stage generator that was not interrupted."""
    generator, out = make_generator(2), tmp_path_factory.mktemp("evaluated")
    output = run(world, generator, out)
    return generator, out, output


def test_every_figure_says_how_it_came_about(evaluated, world):
    _, out, output = evaluated
    values = metrics(out)
    flat = {name: value for name, value in values.items() if not isinstance(value, list)}
    assert all(isinstance(value, float) for value in flat.values())
    assert flat["real64_colour_accuracy"] == flat["real256_colour_accuracy"] == 1.0
    assert flat["chance_ceiling_colour_accuracy"] == pytest.approx(1 / 6, abs=1e-6)
    for name in ("colour_accuracy", "domain_fid", "domain_kid", "domain_is", "domain_r_precision"):
        assert {f"stage1_{name}", f"stage2_{name}"} <= set(flat)
        assert f"stage2_{name}" in output
    for figure in values["figures"]:
        assert figure["protocol"]
        assert figure["pictures"] > 0
    named = {figure["name"]: figure for figure in values["figures"]}
    assert "stage1_reversed_slots" in named
    assert "stage1_reversed_scene_accuracy" not in named  # only where rounds change the scene
    about = named["stage2_domain_fid"]["about"]
    assert len(about["sha256"]) == 64
    assert about["network"] == "domain classifier"
    assert named["stage1_own_3_rounds_colour_accuracy"]["pictures"] == 9
    assert {"stage1_told", "stage1_kept", "stage1_settled", "stage1_told_least"} <= flat.keys()
    assert "real_classifier_shape_accuracy" in flat  # its own accuracy stands beside its judgements
    reasons = {entry["name"]: entry["reason"] for entry in values["skipped"]}
    assert "inception_v3_google-0cc3c7bd.pth" in reasons["is_paper"]
    assert not any("is_paper" in name or name.endswith("clip_score_caption") for name in named)
    assert values["evaluated"][0]["images"] == 24


def test_files_for_dvc_and_for_people(evaluated):
    _, out, _ = evaluated
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        "metrics.json",
        "gallery.html",
        "gallery.png",
        "pictures_val.csv",
        *(f"plots/{name}.csv" for name in ("colour_by_place", "colour_by_objects", "confusion")),
        *(f"plots/{name}.csv" for name in ("score_by_rounds", "told_by_round")),
    }
    with open(out / "pictures_val.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    right, objects = (sum(int(row[name]) for row in rows) for name in ("stage2_colours_right", "objects"))
    assert metrics(out)["stage2_colour_accuracy"] == pytest.approx(right / objects, abs=1e-6)
    with open(out / "plots/confusion.csv", newline="") as file:
        pairs = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    assert sum(a == b != "nothing" for a, b in pairs) == right


def with_sides(world: Path, folder: Path, *sides: int) -> tuple[str, str]:
    values = yaml.safe_load((world / "params.yaml").read_text())
    values["evaluate"]["sides"] = list(sides)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return "--params", str(folder / "params.yaml")


def test_pictures_of_one_side_alone_have_the_figures_that_they_have_among_all(evaluated, world, tmp_path):
    generator, whole, _ = evaluated
    run(world, generator, tmp_path / "out", *with_sides(world, tmp_path, 64))
    one, every = metrics(tmp_path / "out"), metrics(whole)
    mine = {name: value for name, value in every.items() if name.startswith(("stage1_", "real64_"))}
    assert len(mine) > 20
    assert {name: value for name, value in one.items() if name in mine} == mine
    assert not any(name.startswith(("stage2_", "real256_")) for name in one)
    assert one["evaluated"][0]["pictures"] == {"stage1": 64}
    assert every["evaluated"][0]["pictures"] == {"stage1": 64, "stage2": 256}
    with open(tmp_path / "out/pictures_val.csv", newline="") as file:
        assert "stage2_colours_right" not in next(csv.DictReader(file))


def test_pictures_painted_from_noise_alone_are_evaluated(world, tmp_path):
    """No text is read, so nothing of the scenes can be right but by chance, and nothing is probed."""
    torch.manual_seed(0)
    model = StackGanV2Model(conditional=False, branches=1, gf=2, noise_dim=4)
    generator_file.save(StackGanV2Generator(generator_settings(model, 0, None)), tmp_path / "g.safetensors")
    run(world, tmp_path / "g.safetensors", tmp_path / "out")
    values = metrics(tmp_path / "out")
    assert values["evaluated"][0]["reads"] == []
    assert values["evaluated"][0]["pictures"] == {"branch1": 64}
    assert {"branch1_domain_fid", "branch1_domain_is", "branch1_colour_accuracy"} <= values.keys()
    assert not any(name.startswith(("branch1_told", "branch1_shuffled", "branch1_own_0")) for name in values)
    assert (tmp_path / "out/gallery.png").exists()


def test_a_side_that_is_not_painted_is_said(evaluated, world, tmp_path):
    more = with_sides(world, tmp_path, 32)
    result = CliRunner().invoke(main, arguments(world, evaluated[0], tmp_path / "out", *more))
    assert result.exit_code == 1
    assert "evaluate.sides: no pictures of 32 are painted, but of 64, 256" in result.output


def test_two_evaluations_in_one_folder_are_refused(world, make_generator, tmp_path):
    with FolderLock(tmp_path / "out"):
        result = CliRunner().invoke(main, arguments(world, make_generator(1, "none"), tmp_path / "out"))
    assert result.exit_code == 1
    assert "another run is writing here" in result.output
    assert not list((tmp_path / "out").iterdir())


def test_an_interrupted_evaluation_continues_and_ends_the_same(evaluated, world, tmp_path, monkeypatch):
    generator, whole, _ = evaluated
    painted = []
    ordinary = split.paint

    def dies(*given, **named):
        painted.append(len(given[2]))
        if len(painted) == 4:
            raise KeyboardInterrupt
        return ordinary(*given, **named)

    monkeypatch.setattr(split, "paint", dies)
    with pytest.raises(click.Abort):
        main(arguments(world, generator, tmp_path / "out"), standalone_mode=False)
    assert not (tmp_path / "out/metrics.json").exists()
    assert len(list((tmp_path / "out/parts").rglob("*.npz"))) == 1
    before = sum(painted)
    monkeypatch.setattr(split, "paint", lambda *g, **n: painted.append(len(g[2])) or ordinary(*g, **n))
    run(world, generator, tmp_path / "out")
    probes = (2 + 11) * 9  # shuffled, reversed, and after every number of rounds
    assert sum(painted) - before == 24 - 8 + probes  # the first part of 8 was not painted again
    assert metrics(tmp_path / "out")["figures"] == metrics(whole)["figures"]
    assert not (tmp_path / "out/parts").exists()


def command(arguments: list[str]) -> None:
    main(arguments)


def test_two_processes_find_what_one_finds(evaluated, world, tmp_path, launch):
    generator, whole, _ = evaluated
    assert launch(command, 2, arguments(world, generator, tmp_path / "out")).wait() == [0, 0]
    assert metrics(tmp_path / "out")["figures"] == metrics(whole)["figures"]


@pytest.mark.slow
def test_torchrun_starts_them(evaluated, world, tmp_path):
    generator, whole, _ = evaluated
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone"]
    command = [sys.executable, *launcher, "-m", "trainer.evaluation.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [*command, *arguments(world, generator, tmp_path / "out")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert metrics(tmp_path / "out")["figures"] == metrics(whole)["figures"]


def test_the_words_of_others_are_escaped(world, make_generator, tmp_path, monkeypatch):
    words = split.HeldOutSplit.words

    def hostile(self, images):
        return [("<script>alert(1)</script>", ["<img src=x onerror=y>"]) for _ in words(self, images)]

    monkeypatch.setattr(split.HeldOutSplit, "words", hostile)
    run(world, make_generator(1, "attended"), tmp_path, "--pictures", "8")
    page = (tmp_path / "gallery.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("data:image/png;base64,") >= 6 * 4
    assert page.count('alt="listened to"') == page.count("listened to: top left: ") == 6


def test_shuffled_dialogue_changes_the_pictures_of_a_generator_that_reads_it(world, make_generator, tmp_path):
    for name in ("own", "shuffled"):
        run(world, make_generator(1), tmp_path / name, "--dialogue", name, "--gallery", "0")
    own, shuffled = (metrics(tmp_path / name) for name in ("own", "shuffled"))
    assert own["evaluated"][0]["told"] == "own"
    assert shuffled["evaluated"][0]["told"] == "shuffled"
    assert own["stage1_domain_fid"] != shuffled["stage1_domain_fid"]
    assert not (tmp_path / "own/gallery.html").exists()


def test_generators_without_rounds(world, make_generator, tmp_path):
    run(world, make_generator(1, "none"), tmp_path / "none")
    named = {figure["name"] for figure in metrics(tmp_path / "none")["figures"]}
    assert not any("shuffled" in name for name in named)
    run(world, make_generator(1, "collapsed"), tmp_path / "collapsed")
    named = {figure["name"] for figure in metrics(tmp_path / "collapsed")["figures"]}
    assert any("shuffled" in name for name in named)
    assert not any("rounds" in name for name in named)
    result = CliRunner().invoke(main, arguments(world, make_generator(1, "none"), tmp_path / "x", "--rounds", "2"))
    assert result.exit_code == 1
    assert "reads no dialogue" in result.output


def test_a_dataset_without_truth_is_still_shown_and_says_what_is_skipped(world, make_generator, tmp_path):
    run(world, make_generator(1), tmp_path / "out", "--raw", str(tmp_path))
    values = metrics(tmp_path / "out")
    assert "truth_val.json" in values["skipped"][0]["reason"]
    assert (tmp_path / "out/gallery.html").exists()
    assert not (tmp_path / "out/plots").exists()


def test_published_networks_that_are_there_are_used(world, make_generator, tmp_path, monkeypatch):
    from trainer.evaluation import weights

    def network(folder, name, device):
        def measure(pictures):
            values = pictures.reshape(len(pictures), -1)[:, ::997].astype(np.float32)
            logits = values - values.max(axis=1, keepdims=True)
            log_posteriors = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            return {"features": values, "log_posteriors": log_posteriors}

        return weights.Judge("stand-in", "ab" * 32, "none", measure)

    for name in ("torchvision_inception", "fidelity_inception", "fidelity_vgg16"):
        monkeypatch.setattr(weights, name, network)
    run(world, make_generator(1), tmp_path / "out")
    named = {figure["name"]: figure for figure in metrics(tmp_path / "out")["figures"]}
    paper = named["stage1_is_paper"]
    assert paper["protocol"] == "paper: 10 random, overlapping subsets of 18 of 24"
    assert paper["about"]["sha256"] == "ab" * 32
    assert {"stage1_is_reference", "stage1_fid", "stage1_kid", "stage1_precision", "stage1_recall"} <= set(named)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda root: shutil.rmtree(root / "data/embeddings/val/turns"), "turns"),
        (lambda root: (root / "data/raw/sample/truth_train.json").unlink(), "truth_train.json"),
        (lambda root: (root / "data/raw/sample/truth_val.json").write_text("{}"), "not a truth file"),
    ],
)
def test_what_is_missing_is_said_in_one_line(world, make_generator, tmp_path, break_it, says):
    shutil.copytree(world / "data", tmp_path / "data")
    (tmp_path / "params.yaml").write_text((world / "params.yaml").read_text().replace(str(world), str(tmp_path)))
    break_it(tmp_path)
    result = CliRunner().invoke(main, arguments(tmp_path, make_generator(1), tmp_path / "out"))
    assert result.exit_code == 1
    assert says in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out/metrics.json").exists()


def test_stores_of_other_encoders_and_unknown_settings_are_refused(world, make_generator, tmp_path):
    result = CliRunner().invoke(main, arguments(world, make_generator(1, encoder="another"), tmp_path / "out"))
    assert result.exit_code == 1
    assert "encoder" in result.output
    text = (world / "params.yaml").read_text().replace("probe_pictures", "probe_picture")
    (tmp_path / "params.yaml").write_text(text)
    result = CliRunner().invoke(main, ["--params", str(tmp_path / "params.yaml"), "--run", "x"])
    assert result.exit_code == 1
    assert "probe_pictures" in result.output  # the nearest known key


def test_parts_hold_no_pictures(evaluated, world, tmp_path, monkeypatch):
    """What a part weighs does not grow with the size of the pictures."""
    sizes: list[int] = []
    monkeypatch.setattr(
        parts.Parts, "clear", lambda self: sizes.extend(p.stat().st_size for p in self.folder.iterdir())
    )
    run(world, evaluated[0], tmp_path / "out", "--gallery", "0")
    assert max(sizes) < 8 * 256 * 256 * 3 / 10
