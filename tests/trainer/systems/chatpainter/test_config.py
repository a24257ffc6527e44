"""params.yaml's sections model, stage1 and stage2."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from store import params
from store.errors import ParamsError
from trainer.config import section as any_section
from trainer.feed.inputs import stored_side
from trainer.systems.chatpainter.config import PRESETS, ModelConfig, Stage1Config, Stage2Config, StageSettings
from trainer.systems.geneva.system import GENEVA


def section(values: dict[str, Any], name: str, kind: Any) -> Any:
    return any_section(values, name, kind, PRESETS)


def test_defaults_are_the_papers() -> None:
    model, stage1 = ModelConfig(), Stage1Config()
    stage2 = section({"stage2": {"preset": "paper"}}, "stage2", Stage2Config)
    # Section 4: N_gi = N_di = 512, N_g = N_d = 128, N_z = 100, RNN 1024.
    assert (4 * model.gf, 8 * model.df, model.condition_dim, model.noise_dim) == (512, 512, 128, 100)
    assert (model.lstm_hidden, model.residual_blocks) == (1024, 4)
    for stage, batch in ((stage1, 384), (stage2, 64)):
        assert (stage.batch, stage.epochs, stage.halve_every_epochs) == (batch, 800, 50)
        assert (stage.g_lr, stage.d_lr, stage.kl_weight) == (2e-4, 2e-4, 2.0)
        assert stage.betas == (0.5, 0.999)


def test_stackgan_coco_is_its_yml_files() -> None:
    values = {name: {"preset": "stackgan-coco"} for name in ("model", "stage1", "stage2")}
    model = section(values, "model", ModelConfig)
    one, two = section(values, "stage1", Stage1Config), section(values, "stage2", Stage2Config)
    assert (model.gf, model.df, model.residual_blocks, model.dialogue) == (192, 96, 2, "none")
    assert (one.batch, one.epochs, one.halve_every_epochs) == (128, 120, 20)
    assert (two.batch, two.epochs, two.halve_every_epochs) == (40, 100, 20)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_whole(name: str) -> None:
    for part, kind in (("model", ModelConfig), ("stage1", Stage1Config), ("stage2", Stage2Config)):
        built = section({part: {"preset": name}}, part, kind)
        assert asdict(built).items() >= {k: v for k, v in PRESETS[name][part].items() if k != "betas"}.items()


def test_sides_of_the_pictures() -> None:
    for size, doublings, stored in ((32, 3, 38), (64, 4, 76), (128, 5, 152)):
        model = ModelConfig(size=size)
        assert (model.doublings, *model.sides) == (doublings, size, 4 * size)
        assert stored_side(size) == stored
    with pytest.raises(ValueError, match="size must be 32, 64 or 128"):
        ModelConfig(size=48)


def test_a_sections_own_keys_override_its_preset() -> None:
    stage = section({"stage1": {"preset": "stackgan-coco", "batch": 12}}, "stage1", Stage1Config)
    assert (stage.batch, stage.epochs) == (12, 120)
    stage = section({"stage1": {"preset": "stackgan-coco", "images": 500}}, "stage1", Stage1Config)
    assert (stage.epochs, stage.images) == (None, 500)
    stage = section({"stage1": {"preset": "tiny", "epochs": 3}}, "stage1", Stage1Config)
    assert (stage.epochs, stage.images) == (3, None)


def test_a_part_of_a_section_keeps_what_its_preset_says_of_the_rest() -> None:
    geneva = GENEVA.configure({"geneva": {"preset": "tiny", "networks": {"hidden": 96}}}, "params.yaml")
    assert (geneva.networks.hidden, geneva.networks.size, geneva.networks.up) == (96, 32, (64, 64, 32, 16))


def test_an_absent_section_is_the_papers() -> None:
    assert section({}, "model", ModelConfig) == ModelConfig()


@pytest.mark.parametrize(
    "stage, words",
    [
        ({"preset": "papr"}, "unknown preset 'papr'; known: paper"),
        ({"g_rl": 1e-3}, "did you mean 'g_lr'"),
        ({"penalties": {"r3": 1}}, "stage1.penalties: unknown key 'r3'"),
        ({"loss": "hing"}, "bce, hinge, wgan, relativistic"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": 1}, "no second image for wrong pairs"),
        ({"batch": 10, "accumulate": 3}, "cannot be split into 3 equal parts"),
        ({"batch": 4, "accumulate": 4}, "no second image for wrong pairs"),
        ({"epochs": 3, "images": 3}, "either epochs or images"),
        ({"loss": "wgan"}, "d_norm must be none or spectral"),
        ({"penalties": {"gradient_penalty": 10}}, "d_norm must not be batch"),
        ({"penalties": {"r1": -1}}, "cannot be negative"),
        ({"loss": "hinge", "generator_loss": "saturating"}, "loss hinge has one form only"),
        ({"auxiliary": {"weight": 1}}, "needs auxiliary.instances"),
        ({"images": 0, "epochs": None}, "images must be at least 1"),
        ({"finetune_stage1": 1e-5}, "unknown key 'finetune_stage1'"),
        ({"stage1_batchnorm": "moving"}, "unknown key 'stage1_batchnorm'"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(tmp_path: Path, stage: dict[str, Any], words: str) -> None:
    import yaml

    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"stage1": stage}))
    with pytest.raises(ParamsError) as caught:
        StageSettings.of(params.load(path), 1, str(path))
    message = caught.value.format_message()
    assert words in message
    assert str(path) in message
    assert "\n" not in message


def test_stage_2_crops_as_stage_1_does() -> None:
    values = {"stage1": {"crop": "centre"}, "stage2": {}}
    with pytest.raises(ParamsError, match=r"stage2: crop is random, stage 1's is centre: .* set both alike"):
        StageSettings.of(values, 2)
    assert StageSettings.of(values, 1).training.crop == "centre"
    assert StageSettings.of({**values, "stage2": {"crop": "centre"}}, 2).training.crop == "centre"
    assert StageSettings.of({"stage2": {"crop": "centre"}}, 2).training.crop == "centre"  # stage 1 lies elsewhere


def test_model_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(ParamsError, match="multiple of 4"):
        section({"model": {"gf": 6}}, "model", ModelConfig)
    with pytest.raises(ParamsError, match="at least 1"):
        section({"model": {"noise_dim": 0}}, "model", ModelConfig)
