"""An exported folder paints the same pictures anywhere, alone."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from painter import Painter, card
from painter import export as module
from store.errors import ChatPainterError, StoreError
from store.files import sha256_file
from tests.support.folders import content

ROUNDS = [("what is the ground like", "sand"), ("what is at the top left", "a red circle")]


def exported(painter: Any, run: Path, folder: Path, **options: Any) -> str:
    return "\n".join(module.export(painter, run, folder, **{"onnx": False, **options}))


def test_paints_the_same_in_an_empty_place(painter: Painter, run: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    said = exported(painter, run, folder, corpus=corpus)

    assert "complete" in said
    moved = tmp_path / "elsewhere" / "model"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    for path in moved.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = (
        "import sys, numpy; from painter import Painter; "
        "numpy.save('out.npy', Painter.from_run('model').paint('a red circle', " + repr(ROUNDS) + ", n=2, seed=4))"
    )
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    subprocess.run([sys.executable, "-c", code], cwd=moved.parent, check=True, env=environment)

    assert (np.load(moved.parent / "out.npy") == painter.paint("a red circle", ROUNDS, n=2, seed=4)).all()
    settings = json.loads((moved / "settings.json").read_text())
    assert settings == painter.generator.settings


def test_the_card_says_what_matters(painter: Painter, run: Path, corpus: Path, tmp_path: Path) -> None:
    figure = {"name": "colour_accuracy", "value": 0.875, "protocol": "exact", "pictures": 500, "about": {}}
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"colour_accuracy": 0.875, "figures": [figure]}))

    exported(painter, run, tmp_path / "model", metrics=metrics, corpus=corpus)

    card = (tmp_path / "model" / "README.md").read_text()
    for words in (
        "Its text encoders are untrained",
        "| colour_accuracy | 0.875 | 500 | exact |",
        "## Limits",
        "MIT",
        "1,234",
    ):
        assert words in card
    for digest in painter.text.hashes().values():
        assert digest in card
    with pytest.raises(ChatPainterError, match="run chatpainter-evaluate first"):
        exported(painter, run, tmp_path / "other", metrics=tmp_path / "nothing.json")
    assert not (tmp_path / "other").exists()


def test_figures_are_those_of_the_same_generator(
    painter: Painter, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/evaluate").mkdir(parents=True)
    figure = {"name": "stage2_colour_accuracy", "value": 0.875, "protocol": "exact", "pictures": 500}
    mine = sha256_file(run / "generator.safetensors")
    for digest, shown in ((mine, True), ("0" * 64, False)):
        record = {"figures": [figure], "evaluated": [{"sha256": digest}]}
        (tmp_path / "runs/evaluate/metrics.json").write_text(json.dumps(record))
        exported(painter, run, tmp_path / "model")
        card_text = (tmp_path / "model/README.md").read_text()
        assert ("| stage2_colour_accuracy | 0.875 |" in card_text) is shown
        assert ("Not evaluated." in card_text) is not shown
    with pytest.raises(ChatPainterError, match="figures of another generator"):
        exported(painter, run, tmp_path / "model", metrics=tmp_path / "runs/evaluate/metrics.json")


def test_hubs_read_licence_and_figures(painter: Painter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = "codraw\n---\n# x: <b>"
    monkeypatch.setattr(painter.generator, "settings", {**painter.generator.settings, "dataset": nasty})
    figures = [{"name": f"stage{n}_told", "value": n / 4, "pictures": 5, "protocol": "exact"} for n in (1, 2)]

    written = card.write(painter, tmp_path, figures, None, {})

    front = yaml.safe_load(written.split("---\n")[1])
    assert (front["license"], front["pipeline_tag"]) == ("cc-by-nc-4.0", "text-to-image")
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "codraw --- # x: <b>"
    assert result["metrics"] == [{"type": "told", "value": 0.5, "name": "stage2_told"}]
    assert written.split("---\n")[2].lstrip().startswith("# A ChatPainter model")


@pytest.mark.parametrize(
    ("dataset", "licence"),
    [
        ("sample", "nothing in it is anybody else's"),
        ("codraw", "CC BY-NC 4.0: no commercial use"),
        ("CoDraw-cpu", "CC BY-NC 4.0: no commercial use"),
        ("coco2014", "Flickr licences of their photographers"),
        ("mini2014", "Flickr licences of their photographers"),
        ("mine", "See the terms of its data."),
        (None, "What it was trained on is not recorded"),
    ],
)
def test_the_licence_is_that_of_the_data_it_was_trained_on(
    painter: Painter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str | None, licence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("dataset: sample-of-another-project\n")
    monkeypatch.setattr(painter.generator, "settings", {**painter.generator.settings, "dataset": dataset})

    written = card.write(painter, tmp_path, None, None, {})

    assert f"Dataset: {dataset or 'not recorded'}; split: not recorded; text stores: captions, turns." in written
    assert written.rstrip().endswith(f"{licence}") or licence in written.split("## Licence")[1]
    assert "sample-of-another-project" not in written


def test_older_runs_say_it_in_their_configuration(painter: Painter, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"dataset": "codraw", "split": "train"}))

    written = card.write(painter, tmp_path / "generator.safetensors", None, None, {})

    assert "Dataset: codraw; split: train;" in written
    assert "no commercial use" in written


def test_a_card_holds_what_others_wrote_as_words(painter: Painter, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = "<script>x</script>\n\n# Licence | `free` [a](b) {{ 7 * 7 }}"
    settings = {**painter.generator.settings, "dataset": nasty, "images_seen": nasty, "model": {nasty: nasty}}
    monkeypatch.setattr(painter.generator, "settings", settings)

    written = card.write(painter, run, None, None, {"generator.onnx": 1e-6})

    assert "<script>" not in written
    assert "\n# Licence" not in written
    assert "{{ 7 &#42; 7 }}" in written
    assert "| pictures seen in its last training | not recorded |" in written
    assert "(largest difference to torch 1.0e-06)" in written


def test_large_weights_stay_behind_and_are_listed(
    painter: Painter, run: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 1000)
    folder = tmp_path / "model"

    assert "put those of SHA256SUMS there" in exported(painter, run, folder)

    assert [path.name for path in (folder / "encoders").iterdir()] == ["SHA256SUMS"]
    with pytest.raises(ChatPainterError, match="no weights"):
        Painter.from_run(folder)
    for path in weights.iterdir():
        if path.is_file():
            shutil.copy(path, folder / "encoders")
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder / "encoders", capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    assert (Painter.from_run(folder).paint("a red circle") == painter.paint("a red circle")).all()
    assert "weight files" in exported(painter, run, folder, with_weights=True), "an export may be made again"


def test_other_folders_are_left_alone(painter: Painter, run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ChatPainterError, match="holds other things"):
        exported(painter, run, tmp_path)
    other_run = tmp_path / "runs" / "stage1"
    other_run.mkdir(parents=True)
    (other_run / "generator.safetensors").write_text("another")
    with pytest.raises(ChatPainterError, match="holds other things"):
        exported(painter, run, other_run)
    assert (other_run / "generator.safetensors").read_text() == "another"
    exported(painter, run, tmp_path / "model")
    again = Painter.from_run(tmp_path / "model")
    with pytest.raises(ChatPainterError, match="is what was to be exported"):
        exported(again, tmp_path / "model", tmp_path / "model")
    (tmp_path / "file").write_text("")
    with pytest.raises(ChatPainterError, match="file/model: "):
        exported(painter, run, tmp_path / "file" / "model")


def test_an_export_that_was_broken_off_is_made_again(painter: Painter, run: Path, tmp_path: Path) -> None:
    broken_off: Any = module.export(painter, run, tmp_path / "model", onnx=False)
    next(broken_off)
    broken_off.close()
    assert not (tmp_path / "model" / "generator.safetensors").exists()

    assert "complete" in exported(painter, run, tmp_path / "model")


def test_a_full_disk_leaves_the_export_before_as_it_was(
    painter: Painter, run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    exported(painter, run, folder)
    before = content(folder)

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(card, "write", full)
        with pytest.raises(StoreError, match=f"^{folder}: the disk is full; free some space and run the same command"):
            exported(painter, run, folder, corpus=corpus)
    assert content(folder) == before

    exported(painter, run, folder, corpus=corpus)
    assert content(folder).keys() == {*before, "interviewer.json"}


def test_two_exports_into_one_folder(painter: Painter, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    first = module.export(painter, run, folder, onnx=False)
    next(first)

    with pytest.raises(ChatPainterError, match="another run is writing here"):
        exported(painter, run, folder)

    assert "complete" in "\n".join(first)
    assert not (folder / ".lock").exists()
    assert "complete" in exported(painter, run, folder)


def onnx_equals(ready: Painter, folder: Path) -> dict[str, float]:
    """Differences that the export itself found, and one found here through the encoders and to_uint8."""
    import onnxruntime

    found = dict(module.write_onnx(ready, folder))
    name = "generator.onnx" if len(ready.generator.names) == 2 else "stage1.onnx"
    session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
    from painter import Dialogue

    texts = ready.text.encode([Dialogue("a red circle", tuple(ROUNDS)), Dialogue("two shapes")])
    inputs = {**texts, "noise": np.repeat(ready.noise(1, 4).numpy(), 2, 0)}
    picture = session.run([f"picture_{ready.size}"], inputs)[0]
    expected = ready.paint("a red circle", ROUNDS, seed=4)[0], ready.paint("two shapes", seed=4)[0]
    pixels = np.rint((picture.clip(-1, 1) + 1) * 127.5).astype(int).transpose(0, 2, 3, 1)
    assert abs(pixels - np.stack(expected)).max() <= 1
    return found


def test_onnx_paints_what_torch_paints(make_run: Callable[..., Path], weights: Path, tmp_path: Path) -> None:
    ready = Painter.from_run(make_run("recurrent", 1), weights=str(weights))

    found = onnx_equals(ready, tmp_path)

    assert found.keys() == {"stage1.onnx"}
    assert max(found.values()) < 1e-4


def test_onnx_that_differs_is_not_written(
    make_run: Callable[..., Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = Painter.from_run(make_run("recurrent", 1), weights=str(weights))
    monkeypatch.setattr(module, "_export_onnx", lambda painter, path, sizes: path.write_bytes(b""))
    monkeypatch.setattr(module, "_difference", lambda painter, path, sizes: 0.5)

    with pytest.raises(ChatPainterError, match=r"differs from torch by 0\.5"):
        list(module.write_onnx(ready, tmp_path))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("dialogue", ["none", "collapsed", "recurrent", "attended"])
def test_onnx_of_both_stages(dialogue: str, make_run: Callable[..., Path], weights: Path, tmp_path: Path) -> None:
    ready = Painter.from_run(make_run(dialogue), weights=str(weights))

    found = onnx_equals(ready, tmp_path)

    assert found.keys() == {"stage1.onnx", "generator.onnx"}
    assert max(found.values()) < 1e-3
