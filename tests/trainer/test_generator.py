"""The file that leaves the house: what goes in comes out, and nothing else is taken for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from store.errors import ChatPainterError
from trainer.config import ModelConfig
from trainer.generator import Generator, settings, to_uint8

MODEL = ModelConfig(gf=4, df=4, residual_blocks=1, condition_dim=4, noise_dim=3, lstm_hidden=2, standardise=True)


def make(stage: int = 1, **switches: Any) -> Generator:
    torch.manual_seed(0)
    model = replace(MODEL, **switches)
    generator = Generator(settings(stage, model, 6, 5 if model.dialogue != "none" else None, images_seen=12))
    for name, buffer in generator.named_buffers():
        if buffer.is_floating_point():
            # Means below zero, or every ReLU of an untrained network would be shut in eval mode.
            buffer.add_(torch.rand(buffer.shape), alpha=-1 if name.endswith("mean") else 1)
    return generator.eval()


def inputs(generator: Generator, b: int = 3) -> dict[str, Tensor | None]:
    random = torch.Generator().manual_seed(1)
    captions = torch.randn(b, 6, generator=random).half()
    dialogues: Tensor | None = None
    if generator.dialogue != "none":
        shape = (b, 4, 5) if generator.dialogue == "recurrent" else (b, 5)
        dialogues = torch.randn(shape, generator=random).half()
    rounds = torch.tensor([4, 1, 2]) if generator.dialogue == "recurrent" else None
    return {
        "captions": captions,
        "dialogues": dialogues,
        "rounds": rounds,
        "noise": torch.randn(b, 3, generator=random),
    }


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("dialogue", ["none", "collapsed", "recurrent"])
def test_saved_and_loaded_it_paints_the_same(tmp_path: Path, stage: int, dialogue: str) -> None:
    generator = make(stage, dialogue=dialogue)
    path = tmp_path / "deep" / "generator.safetensors"
    generator.save(path)
    again = Generator.load(path)
    assert again.settings == generator.settings
    assert not again.training
    assert (again.noise_dim, again.condition_dim, again.dialogue) == (3, 4, dialogue)
    assert again.sizes == ((64,) if stage == 1 else (64, 256))
    with torch.inference_mode():
        before, after = generator(**inputs(generator)), again(**inputs(generator))  # type: ignore[arg-type]
    assert tuple(after) == again.sizes
    for size in again.sizes:
        assert after[size].shape == (3, 3, size, size)
        assert after[size].abs().max() <= 1
        assert torch.equal(before[size], after[size])
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_every_row_is_painted_by_itself() -> None:
    generator = make(2)
    whole = inputs(generator)
    with torch.inference_mode():
        together = generator(**whole)  # type: ignore[arg-type]
        for row in range(3):
            one = {name: None if v is None else v[row : row + 1] for name, v in whole.items()}
            alone = generator(**one)  # type: ignore[arg-type]
            torch.testing.assert_close(alone[256], together[256][row : row + 1], atol=1e-5, rtol=1e-4)


def test_condition_noise_is_used_and_none_is_the_mean() -> None:
    generator = make()
    given = inputs(generator)
    zero = generator(**given, condition_noise=torch.zeros(3, 4))  # type: ignore[arg-type]
    mean = generator(**given)  # type: ignore[arg-type]
    drawn = generator(**given, condition_noise=torch.ones(3, 4))  # type: ignore[arg-type]
    assert torch.equal(zero[64], mean[64])
    assert mean[64].std() > 1e-4
    assert not torch.equal(drawn[64], mean[64])


def test_rounds_left_out_means_all_of_them() -> None:
    generator = make()
    given = inputs(generator)
    given["rounds"] = torch.full((3,), 4)
    whole = generator(**given)[64]  # type: ignore[arg-type]
    given["rounds"] = None
    assert torch.equal(generator(**given)[64], whole)  # type: ignore[arg-type]


def test_a_dialogue_is_asked_for() -> None:
    with pytest.raises(ValueError, match="dialogue: recurrent needs"):
        make().encode_text(torch.zeros(1, 6))


def test_what_is_not_a_generator_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    missing = tmp_path / "missing"
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not safetensors at all")
    foreign = tmp_path / "foreign"
    save_file({"a": torch.zeros(1)}, foreign)
    whole = tmp_path / "whole"
    make().save(whole)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-100])
    for path, words in (
        (missing, "no such generator"),
        (garbage, "not a safetensors file"),
        (foreign, "not a ChatPainter generator"),
        (cut, "damaged"),
    ):
        with pytest.raises(ChatPainterError, match=words) as caught:
            Generator.load(path)
        assert str(path) in caught.value.format_message()


def test_a_generator_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "whole"
    make().save(path)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    del tensors["stage1.img.0.weight"]
    save_file(tensors, path, metadata)
    with pytest.raises(ChatPainterError, match=r"stage1\.img\.0\.weight"):
        Generator.load(path)


def test_to_uint8() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 1.5, -1 + 2 * 100 / 255, -1 + 2 * 100.4 / 255, -1 + 2 * 100.6 / 255])
    pictures = values.view(1, 1, 2, 4).expand(1, 3, 2, 4)
    out = to_uint8(pictures)
    assert out.shape == (1, 2, 4, 3)
    assert out.dtype == torch.uint8
    assert out[0, :, :, 0].flatten().tolist() == [0, 0, 128, 255, 255, 100, 100, 101]
