"""Whole runs on small stores: what they leave, what they refuse, what they say is wrong (continuing: test_resume)."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError, StoreError
from store.lock import FolderLock
from tests.support.models import small_model
from tests.support.runs import figures
from tests.support.runs import run_of as any_run
from tests.support.same import assert_same
from trainer import generator_file, loop
from trainer.feed.labels import read_labels
from trainer.loop import train
from trainer.run import Run
from trainer.systems.chatpainter.config import Auxiliary, ModelConfig, Stage1Config, Stage2Config
from trainer.systems.chatpainter.step import Gan

MODEL: ModelConfig = small_model(standardise=True)
SHORT: dict[str, Any] = {
    "batch": 4, "epochs": None, "images": 32, "halve_every_epochs": 1, "ema_half_life": 8, "keep": 2,
    "log_every": 8, "grid_every": 16, "checkpoint_every": 16,
}  # fmt: skip
TRAINING = {1: Stage1Config(**SHORT), 2: Stage2Config(**SHORT)}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, make_stores: Any) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    make_stores(folder, images=18, sizes=(76, 304))
    make_stores(folder, "val", images=6, first_id=9000, sizes=(76, 304), seed=1)
    return folder


def run_of(stores: Path, folder: Path, stage: int = 1, model: ModelConfig = MODEL, **about: Any) -> Run:
    run: Run = any_run(stores, folder, model, TRAINING[stage], **about)
    return run


@pytest.fixture(scope="module")
def stage1(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "stage1"
    train(run_of(stores, folder, held_out="val"))
    return folder


def last_state(folder: Path) -> dict[str, Any]:
    path = max((folder / "checkpoints").glob("*.pt"))
    return torch.load(path, weights_only=True)


def test_what_a_run_leaves(stage1: Path) -> None:
    assert sorted(p.name for p in stage1.iterdir()) == [
        "checkpoints", "config.json", "curves.csv", "generator-best.safetensors", "generator.safetensors", "grids",
        "log.jsonl",
    ]  # fmt: skip
    assert [p.name for p in sorted((stage1 / "grids").iterdir())] == [
        "images-000000000016.png",
        "images-000000000032.png",
    ]
    log = figures(stage1)
    assert [record["images"] for record in log] == [8, 16, 24, 32]
    health = {"d_real", "d_wrong", "d_fake", "d_loss", "g_loss", "kl", "mu_spread", "mu_spread.std", "mu_active"}
    assert health | {"d_grad_norm", "g_grad_norm", "lr_g", "lr_d", "nonfinite", "epoch"} <= set(log[0])
    # 18 images make epochs of 16; the rate halves with each.
    assert [record["lr_g"] for record in log] == [2e-4, 2e-4, 1e-4, 1e-4]
    generator = generator_file.load(stage1 / "generator.safetensors")
    assert generator.settings["images_seen"] == 32
    assert generator.settings["training"]["batch"] == 4
    assert set(generator.settings["stores"]) == {"captions", "turns"}
    best = generator_file.load(stage1 / "generator-best.safetensors").settings
    assert best["held_out_distance"] <= generator.settings["held_out_distance"]
    chosen = json.loads((stage1 / "checkpoints" / "best.json").read_text())
    assert chosen == {"file": f"images-{best['images_seen']:012d}.pt", "score": best["held_out_distance"]}
    state = last_state(stage1)
    assert_same(
        {k: v for k, v in generator.state_dict().items() if "num_batches" not in k},
        {k: v for k, v in state["trainable"]["average"].items() if "num_batches" not in k},
    )


def test_statistics_for_standardising_are_the_stores(stage1: Path, stores: Path) -> None:
    from store import Store

    generator: Any = generator_file.load(stage1 / "generator.safetensors")
    turns = Store(stores / "embeddings" / "train" / "turns")
    rows = turns.slice(0, len(turns)).astype(np.float64)
    got = generator.standardise["dialogues"]
    np.testing.assert_allclose(got.mean.double().numpy(), rows.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(1 / got.scale.double().numpy(), rows.std(0), rtol=1e-4, atol=1e-4)


def test_changed_configuration_is_refused_and_forked(tmp_path: Path, stores: Path) -> None:
    folder = tmp_path / "run"
    train(run_of(stores, folder, stop_at=8))
    with pytest.raises(ChatPainterError, match=r"stage1\.g_lr: 0\.0002 → 0\.001.*--fork"):
        train(run_of(stores, folder, g_lr=1e-3))
    with pytest.raises(ChatPainterError, match=r"model\.gf: 4 → 8"):
        train(run_of(stores, folder, model=replace(MODEL, gf=8)))
    # How long, and how often to write, may change.
    assert train(run_of(stores, folder, images=12, log_every=2, keep=1))
    assert last_state(folder)["images_seen"] == 12
    assert train(run_of(stores, folder, g_lr=1e-3, images=16, fork=True))
    assert json.loads((folder / "config.json").read_text())["stage1"]["g_lr"] == 1e-3
    state = last_state(folder)
    assert state["images_seen"] == 16


def test_gradients_that_stay_infinite_stop_the_run(
    tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    train(run_of(stores, folder, stop_at=16))
    kept = {p.name for p in (folder / "checkpoints").iterdir()}
    microbatch = Gan.microbatch
    monkeypatch.setattr(Gan, "microbatch", lambda *a: microbatch(*a)._replace(noise=torch.full((4, 3), torch.nan)))
    with pytest.raises(ChatPainterError, match=r"gradients were not finite; the last good.*images-000000000016\.pt"):
        train(run_of(stores, folder, images=400))
    assert {p.name for p in (folder / "checkpoints").iterdir()} == kept


def test_out_of_memory_names_the_settings(tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Gan, "step", fail)
    with pytest.raises(ChatPainterError, match=r"raise stage1\.accumulate.*lower stage1\.batch"):
        train(run_of(stores, tmp_path / "run"))


def test_a_full_disk_under_a_log_names_the_run(tmp_path: Path, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Gan, "step", lambda *_: fail(errno.ENOSPC))
    with pytest.raises(StoreError, match=f"^{tmp_path / 'run'}: the disk is full; free some space and run the same"):
        train(run_of(stores, tmp_path / "run"))
    monkeypatch.setattr(Gan, "step", lambda *_: fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        train(run_of(stores, tmp_path / "run"))


def test_inputs_that_do_not_fit(tmp_path: Path, stores: Path, stage1: Path, make_stores: Any) -> None:
    with pytest.raises(ChatPainterError, match=r"stage1\.batch is 64, but there are 18 images.*lower the batch"):
        train(run_of(stores, tmp_path / "a", batch=64))
    with pytest.raises(StoreError, match="nowhere"):
        train(replace(run_of(stores, tmp_path / "a"), split="nowhere"))
    with pytest.raises(ChatPainterError, match="no such generator"):
        train(run_of(stores, tmp_path / "a", 2, start=tmp_path / "none"))
    with pytest.raises(ChatPainterError, match=r"another model \(gf: 4 → 8\)"):
        train(run_of(stores, tmp_path / "a", 2, start=stage1, model=replace(MODEL, gf=8)))
    with pytest.raises(ChatPainterError, match=r"generator.safetensors: stage2: crop is centre, stage 1's is random"):
        train(run_of(stores, tmp_path / "a", 2, start=stage1, crop="centre"))
    other = tmp_path / "other"
    make_stores(other, images=6, sizes=(304,), identity="two")
    with pytest.raises(StoreError, match=r"other encoders.*generator\.safetensors"):
        train(run_of(other, tmp_path / "a", 2, start=stage1))
    train(run_of(stores, tmp_path / "two", 2, start=stage1, batch=2, stop_at=2))
    with pytest.raises(ChatPainterError, match="holds stage 2"):
        train(run_of(stores, tmp_path / "a", 2, start=tmp_path / "two"))
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_stage2_takes_stage1_with_its_dialogue_encoder(tmp_path: Path, stores: Path, stage1: Path) -> None:
    first = generator_file.load(stage1 / "generator.safetensors").state_dict()
    train(run_of(stores, tmp_path / "run", 2, start=stage1, batch=2, images=4, held_out="val"))
    second = generator_file.load(tmp_path / "run" / "generator.safetensors")
    state = second.state_dict()
    for name, value in first.items():
        if "num_batches" not in name:
            assert torch.equal(state[name.replace("stage1.", "stage2.STAGE1_G.", 1)], value), name
    assert (tmp_path / "run" / "grids" / "images-000000000004.png").exists()


def test_recognition_reads_coco_instances(tmp_path: Path, stores: Path) -> None:
    data = run_of(stores, tmp_path).data("train")
    first, second = (int(data.image_ids[i]) for i in (0, 1))
    path = tmp_path / "instances_train.json"
    content = {
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"image_id": first, "category_id": 1},
            {"image_id": first, "category_id": 1},
            {"image_id": second, "category_id": 90},
            {"image_id": 123456789, "category_id": 90},
        ],
    }
    path.write_text(json.dumps(content))
    labels = read_labels(path, data.image_ids, torch.device("cpu"))
    assert labels(torch.tensor([second, first, int(data.image_ids[2])])).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert train(run_of(stores, tmp_path / "run", images=8, auxiliary=Auxiliary(1.0, str(path)), d_norm="spectral"))
    path.write_text(json.dumps({"annotations": []}))
    with pytest.raises(ChatPainterError, match="not a COCO instances file"):
        train(run_of(stores, tmp_path / "run2", images=8, auxiliary=Auxiliary(1.0, str(path))))


def test_precision_holds_while_training(stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(loop, "_train", lambda *_: asked.append(torch.backends.cuda.matmul.allow_tf32) or True)
    for precision in ("float32", "tf32", "bfloat16"):
        assert train(run_of(stores, tmp_path / "run", precision=precision))
    assert asked == [False, True, True]


def test_instances_of_another_split_are_refused(tmp_path: Path, stores: Path) -> None:
    path = tmp_path / "instances_val.json"
    for image_id, says in (
        (1, "none of its 1 annotations is of an image of the training split"),
        ("1000", "'1000' is not"),
    ):
        note = {"image_id": image_id, "category_id": 1}
        path.write_text(json.dumps({"categories": [{"id": 1}], "annotations": [note]}))
        with pytest.raises(ChatPainterError, match=says):
            train(run_of(stores, tmp_path / "run", auxiliary=Auxiliary(1.0, str(path))))


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path, stores: Path) -> None:
    folder = tmp_path / "run"
    train(run_of(stores, folder, stop_at=8))
    with FolderLock(folder):
        refused: list[dict[str, Any]] = [{}, {"restart": True, "g_lr": 1e-3}, {"fork": True, "g_lr": 1e-3}]
        for switches in refused:
            with pytest.raises(StoreError, match="another run is writing here"):
                train(run_of(stores, folder, **switches))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert train(run_of(stores, folder, images=12))
    assert not (folder / ".lock").exists()


def test_restart_sets_the_old_run_aside_and_begins_again(tmp_path: Path, stores: Path) -> None:
    folder = tmp_path / "run"
    train(run_of(stores, folder, stop_at=8))
    before = last_state(folder)
    assert train(run_of(stores, folder, images=8, restart=True))  # nothing changed: it goes on
    assert not (tmp_path / "run.old-1").exists()
    for number in (1, 2):
        assert train(run_of(stores, folder, images=12, g_lr=number * 1e-3, restart=True))
        assert (tmp_path / f"run.old-{number}").is_dir()
        assert [record["images"] for record in figures(folder)] == [8, 12]
        assert json.loads((folder / "config.json").read_text())["stage1"]["g_lr"] == number * 1e-3
    assert_same(last_state(tmp_path / "run.old-1"), before)
    assert not list(tmp_path.rglob(".lock"))


def test_a_run_that_is_asked_for_less_than_it_has_seen_is_not_taken_for_it(tmp_path: Path, stores: Path) -> None:
    folder = tmp_path / "run"
    assert train(run_of(stores, folder, images=12))
    assert train(run_of(stores, folder, images=12, stop_at=8)), "a stop on the way that has been passed"
    with pytest.raises(ChatPainterError, match="12 pictures were seen, 8 are asked for"):
        train(run_of(stores, folder, images=8))
    assert train(run_of(stores, folder, images=8, restart=True))
    assert train(run_of(stores, tmp_path / "fresh", images=8))
    one, other = (run / "generator.safetensors" for run in (folder, tmp_path / "fresh"))
    assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "run.old-1").is_dir()
