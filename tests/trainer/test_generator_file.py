"""The file that leaves the house: what goes in comes out, and nothing else is taken for it."""

import contextlib
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from store.errors import ChatPainterError, StoreError
from tests.support.disks import files_of_at_most
from tests.support.mutate import as_json, damaged_bytes, damaged_records, flip
from tests.support.outcomes import one_line, right_or_refused
from tests.support.same import assert_same
from trainer import generator_file
from trainer.feed.augment import to_uint8
from trainer.systems.chatpainter.config import ModelConfig
from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings

MODEL = ModelConfig(gf=4, df=4, residual_blocks=1, condition_dim=4, noise_dim=3, lstm_hidden=2, standardise=True)
METADATA = "chatpainter-generator"


def make(stage: Any = 1, **switches: Any) -> ChatPainterGenerator:
    torch.manual_seed(0)
    model = replace(MODEL, **switches)
    dialogue_dim = 5 if model.dialogue != "none" else None
    generator = ChatPainterGenerator(
        generator_settings(stage, model, 6, dialogue_dim, system=f"stage{stage}", images_seen=12)
    )
    for name, buffer in generator.named_buffers():
        if buffer.is_floating_point():
            # Means below zero, or every ReLU of an untrained network would be shut in eval mode.
            buffer.add_(torch.rand(buffer.shape), alpha=-1 if name.endswith("mean") else 1)
    return generator.eval()


def texts(b: int = 3) -> dict[str, Tensor]:
    """What every arm reads, and more than each reads."""
    random = torch.Generator().manual_seed(1)
    return {
        "captions": torch.randn(b, 6, generator=random).half(),
        "dialogues": torch.randn(b, 5, generator=random).half(),
        "turns": torch.randn(b, 4, 5, generator=random).half(),
        "turns.length": torch.tensor([4, 1, 2])[:b],
    }


def noise(b: int = 3) -> Tensor:
    return torch.randn(b, 3, generator=torch.Generator().manual_seed(2))


def painted(generator: Any) -> dict[int, Tensor]:
    with torch.inference_mode():
        pictures: dict[int, Tensor] = generator.paint(texts(), noise())
    return pictures


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("dialogue", ["none", "collapsed", "recurrent"])
def test_saved_and_loaded_it_paints_the_same(tmp_path: Path, stage: int, dialogue: str) -> None:
    generator = make(stage, dialogue=dialogue)
    path = tmp_path / "deep" / "generator.safetensors"
    generator_file.save(generator, path)
    again: Any = generator_file.load(path)
    assert again.settings == json.loads(json.dumps(generator.settings)), "tuples are lists in JSON"
    assert not again.training
    assert (again.noise_dim, again.condition_dim, again.model.dialogue) == (3, 4, dialogue)
    assert again.names == ({64: "stage1"} if stage == 1 else {64: "stage1", 256: "stage2"})
    heard = {"none": {}, "collapsed": {"dialogues": 5}, "recurrent": {"turns": 5}}[dialogue]
    assert again.dims == {"captions": 6, **heard}
    assert [one.name for one in again.inputs] == ["captions", *heard]
    assert_same(again.state_dict(), generator.state_dict())
    before, after = painted(generator), painted(again)
    assert list(after) == list(again.names)
    for side in again.names:
        assert after[side].shape == (3, 3, side, side)
        assert after[side].abs().max() <= 1
        assert torch.equal(before[side], after[side])
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    generator_file.save(again, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_weights_as_float16_are_read_as_float32(tmp_path: Path) -> None:
    generator = make(1)
    for name, tensor in generator.state_dict().items():
        if name.endswith("running_var"):
            tensor.fill_(1e-9)  # nothing in float16
    generator_file.save(generator, tmp_path / "half", half=True)
    loaded = generator_file.load(tmp_path / "half")

    for name, tensor in generator.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            expected = tensor.half().float() if tensor.ndim > 1 else tensor
            torch.testing.assert_close(loaded.state_dict()[name], expected, rtol=0, atol=0)
    recorded = json.loads(json.dumps(generator.settings))
    assert loaded.settings == {**recorded, "float16": True}
    generator_file.save(loaded, tmp_path / "whole")
    assert generator_file.load(tmp_path / "whole").settings == recorded
    with torch.no_grad():
        next(weight for weight in generator.parameters() if weight.ndim > 1).mul_(1e9)
    with pytest.raises(ChatPainterError, match="does not fit into float16"):
        generator_file.save(generator, tmp_path / "half", half=True)


def test_one_that_finds_no_room_is_said_in_one_line_and_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    generator_file.save(make(), path)
    before = path.read_bytes()
    with files_of_at_most(4096), pytest.raises(StoreError, match=f"^{path}: larger than a file may be here"):
        generator_file.save(make(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_loading_draws_nothing(tmp_path: Path) -> None:
    generator_file.save(make(), tmp_path / "whole")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generator_file.load(tmp_path / "whole")
    assert torch.equal(torch.rand(3), expected)


def test_what_is_loaded_can_be_trained_on(tmp_path: Path) -> None:
    generator_file.save(make(), tmp_path / "whole")
    generator: Any = generator_file.load(tmp_path / "whole")
    generator.train()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    generator.paint(texts(), noise())[64].mean().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())
    after = generator.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}


def test_every_row_is_painted_by_itself() -> None:
    generator = make(2)
    together = painted(generator)
    with torch.inference_mode():
        for row in range(3):
            one = {name: rows[row : row + 1] for name, rows in texts().items()}
            alone = generator.paint(one, noise()[row : row + 1])
            torch.testing.assert_close(alone[256], together[256][row : row + 1], atol=1e-5, rtol=1e-4)


def test_rows_after_a_dialogue_s_last_turn_are_not_read() -> None:
    generator = make()
    given = texts()
    given["turns"][1, 1:], given["turns"][2, 2:] = 7.0, -7.0
    assert torch.equal(generator.paint(given, noise())[64], generator.paint(texts(), noise())[64])
    given["turns.length"] = torch.tensor([4, 2, 2])
    changed = (generator.paint(given, noise())[64] != painted(generator)[64]).flatten(1).any(1)
    assert changed.tolist() == [False, True, False]


def test_condition_noise_is_used_and_none_is_the_mean() -> None:
    generator = make()
    zero, mean, drawn = (generator.paint(texts(), noise(), c)[64] for c in (torch.zeros(3, 4), None, torch.ones(3, 4)))
    assert torch.equal(zero, mean)
    assert mean.std() > 1e-4
    assert not torch.equal(drawn, mean)


def test_sides_that_nobody_asked_for_are_left_out() -> None:
    generator = make(2)
    whole = painted(generator)
    with torch.inference_mode():
        small = generator.paint(texts(), noise(), sides=[64])
    assert list(small) == [64]
    assert torch.equal(small[64], whole[64])


# What is refused.


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The file of a whole generator."""
    generator_file.save(make(), tmp_path / "whole")
    return tmp_path / "whole"


def parts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of a generator file, read without the house's own reader."""
    with safe_open(path, "pt") as file:
        return load_file(path), json.loads(file.metadata()[METADATA])


def write(path: Path, tensors: dict[str, Tensor], settings: Any) -> Path:
    """A file in the layout of generator files, of whatever one likes."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {METADATA: json.dumps(settings)})
    return path


def resaved(path: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The file with changed tensors and the checksum that belongs to them: damage that no checksum tells."""
    tensors, about = parts(path)
    change(tensors)
    about["tensors_sha256"] = generator_file.checksum(tensors)
    return write(path, tensors, about)


def refused(path: Path) -> str:
    """The one line in which loading ends; it names the file."""
    with pytest.raises(ChatPainterError) as caught:
        generator_file.load(path)
    message = one_line(caught.value.message, 500)
    assert str(path) in message
    return message


def test_what_is_not_a_generator_is_refused(tmp_path: Path, whole: Path) -> None:
    missing = tmp_path / "missing"
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not safetensors at all")
    foreign = tmp_path / "foreign"
    save_file({"a": torch.zeros(1)}, foreign)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-100])
    for path, words in (
        (missing, "no such generator"),
        (tmp_path, "no such generator"),
        (garbage, "not a safetensors file"),
        (foreign, "not a ChatPainter generator"),
        (cut, "damaged"),
    ):
        assert words in refused(path)


def test_a_generator_that_lacks_a_tensor_is_refused(whole: Path) -> None:
    assert "stage1.img.0.weight" in refused(resaved(whole, lambda tensors: tensors.pop("stage1.img.0.weight")))


def test_a_generator_with_a_tensor_too_many_is_refused(whole: Path) -> None:
    assert "'more'" in refused(resaved(whole, lambda tensors: tensors.update(more=torch.ones(1))))


def test_the_checksum_is_over_names_types_shapes_and_bytes() -> None:
    import hashlib

    tensors = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor([3, 4])}
    expected = hashlib.sha256(
        b"a torch.int64 (2,)\n\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0b torch.float32 (1, 2)\n\0\0\x80\x3f\0\0\0\x40"
    )
    assert generator_file.checksum(tensors) == expected.hexdigest()


@pytest.mark.parametrize("place", [-1, -1000, -5000])
def test_a_flipped_bit_in_a_tensor_is_refused(whole: Path, place: int) -> None:
    # The lowest bit of a mantissa: a value that no other check could tell.
    whole.write_bytes(flip(whole.read_bytes(), 4 * (place // 4)))
    assert "its checksum differs" in refused(whole)


def test_tensors_that_changed_places_are_refused(whole: Path) -> None:
    tensors, about = parts(whole)
    one, other = (f"dialogue_encoder.{way}.weight_ih_l0" for way in ("ahead", "back"))
    assert tensors[one].shape == tensors[other].shape
    tensors[one], tensors[other] = tensors[other], tensors[one]
    assert "its checksum differs" in refused(write(whole, tensors, about))


@pytest.mark.parametrize("stage", [1, 2])
def test_files_of_0_1_0_paint_the_same(tmp_path: Path, stage: int) -> None:
    # They have neither checksum nor system; the stage tells which.
    generator = make(stage)
    generator_file.save(generator, tmp_path / "new")
    tensors, about = parts(tmp_path / "new")
    del about["tensors_sha256"], about["system"]
    assert about.keys() == {"stage", "model", "caption_dim", "dialogue_dim", "images_seen"}
    again = generator_file.load(write(tmp_path / "old", tensors, about))
    assert again.settings == about
    assert_same(painted(again), painted(generator))


def put(name: str, value: float, dtype: torch.dtype | None = None) -> Callable[[dict[str, Tensor]], None]:
    """Set the first element of a tensor, or turn all of them into another type."""

    def change(tensors: dict[str, Tensor]) -> None:
        if dtype is not None:
            tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})
        else:
            tensors[name].view(-1)[0] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("stage1.img.0.weight", float("nan")), "stage1.img.0.weight holds values that are not numbers"),
        (put("stage1.img.0.weight", float("inf")), "stage1.img.0.weight holds values that are not numbers"),
        (put("standardise.captions.mean", float("-inf")), "standardise.captions.mean holds values that are not"),
        (put("stage1.fc.1.running_var", -1e-3), "stage1.fc.1.running_var holds negative variances"),
        (lambda tensors: [tensor.zero_() for tensor in tensors.values()], "every weight is zero"),
        (put("", 0, torch.float16), "is torch.float16, not float32"),
        (put("", 0, torch.float64), "is torch.float64, not float32"),
        (put("", 0, torch.bfloat16), "is torch.bfloat16, not float32"),
        (put("", 0, torch.int32), "is torch.int32, not float32"),
    ],
)
def test_values_that_no_training_leaves_are_refused(whole: Path, change: Any, words: str) -> None:
    assert words in refused(resaved(whole, change))


@contextlib.contextmanager
def little_memory(more: int = 2**30) -> Iterator[None]:
    """Let the process have so many bytes more than it has now."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ([], [], "its settings are list, not a mapping"),
        ([], None, "its settings are NoneType, not a mapping"),
        ([], 5, "its settings are int, not a mapping"),
        ([], "x", "its settings are str, not a mapping"),
        ([], {}, "a system that is not known here"),
        (["system"], "stage9", "a system that is not known here: 'stage9'"),
        (["system"], [], ""),
        (["stage"], None, "stage"),
        (["stage"], [], "stage"),
        (["stage"], 3, "stage"),
        (["stage"], 2, ""),
        (["caption_dim"], None, ""),
        (["caption_dim"], "6", ""),
        (["caption_dim"], 7, ""),
        (["caption_dim"], -6, "caption_dim is -6"),
        (["caption_dim"], 10**12, "caption_dim is 1000000000000"),
        (["caption_dim"], 10**400, "caption_dim is 10000"),
        (["dialogue_dim"], None, ""),
        (["dialogue_dim"], 2.5, ""),
        (["model"], None, "expected a mapping, found None"),
        (["model"], [], "expected a mapping, found []"),
        (["model", "gf"], 10**6, "gf is 1000000"),
        (["model", "gf"], 4096, "size mismatch"),
        (["model", "gf"], 1e6, ""),
        (["model", "residual_blocks"], 10**6, "residual_blocks is 1000000"),
        (["model", "lstm_hidden"], 10**6, "lstm_hidden is 1000000"),
        (["model", "lstm_hidden"], 4096, "size mismatch"),
        (["model", "noise_dim"], 10**9, "noise_dim is 1000000000"),
        (["model", "unknown"], 1, "unknown key 'unknown'"),
        (["model", "dialogue"], "loud", "'loud' is not one of"),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("age", ["new", "0.1.0"])
def test_settings_that_fit_no_generator_are_refused(
    whole: Path, age: str, place: list[str], value: Any, words: str
) -> None:
    tensors, about = parts(whole)
    if age == "0.1.0":
        del about["tensors_sha256"], about["system"]
    if place:
        owner = about if len(place) == 1 else about[place[0]]
        owner[place[-1]] = value
    else:
        about = value
    write(whole, tensors, about)
    with little_memory():
        message = refused(whole)
    assert age == "0.1.0" or words in message
    assert "memory" not in message  # refused for what it is, not for want of room


def test_damaged_settings_paint_the_same_or_are_refused(whole: Path) -> None:
    tensors, about = parts(whole)
    expected = painted(generator_file.load(whole))
    outcomes = []
    for name, record in damaged_records(about, count=150):
        save_file(tensors, whole, {METADATA: as_json(record).decode()})
        with little_memory():
            generator, message = right_or_refused(lambda: generator_file.load(whole))
        outcomes.append(bool(message))
        if generator is not None:
            assert torch.equal(painted(generator)[64], expected[64]), name
    assert 50 < sum(outcomes) < 150


def test_damaged_files_paint_the_same_or_are_refused(whole: Path) -> None:
    data = whole.read_bytes()
    expected = painted(generator_file.load(whole))
    outcomes = []
    for name, damaged in damaged_bytes(data, count=150):
        whole.write_bytes(damaged)
        generator, message = right_or_refused(lambda: generator_file.load(whole))
        outcomes.append(bool(message))
        if generator is not None:
            assert torch.equal(painted(generator)[64], expected[64]), name
    assert sum(outcomes) > 130


def test_to_uint8() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 1.5, -1 + 2 * 100 / 255, -1 + 2 * 100.4 / 255, -1 + 2 * 100.6 / 255])
    pictures = values.view(1, 1, 2, 4).expand(1, 3, 2, 4)
    out = to_uint8(pictures)
    assert out.shape == (1, 2, 4, 3)
    assert out.dtype == torch.uint8
    assert out[0, :, :, 0].flatten().tolist() == [0, 0, 128, 255, 255, 100, 100, 101]
