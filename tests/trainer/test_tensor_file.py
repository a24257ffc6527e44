"""Published files of 2017 to 2019: what is harmless is read to the bit, anything else is refused in one line."""

import argparse
import collections
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from store.errors import ChatPainterError
from tests.support.legacy import write_legacy
from tests.support.pickles import Hostile
from trainer import tensor_file


def small(**names: Any) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def tensors_of(module: nn.Module, prefix: str = "", counters: bool = False) -> dict[str, torch.Tensor]:
    found = {prefix + name: value for name, value in module.state_dict().items()}
    return found if counters else {name: value for name, value in found.items() if "num_batches" not in name}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("oldest", [False, True])
def test_a_file_of_python_2_is_read_to_the_bit(tmp_path: Path, prefix: str, oldest: bool) -> None:
    written = tensors_of(small(), prefix)
    write_legacy(tmp_path / "netG_210000.pth", written, oldest=oldest)
    found, origin = tensor_file.read_state(tmp_path / "netG_210000.pth")
    assert list(found) == [name.removeprefix(prefix) for name in written]
    assert all(torch.equal(found[name.removeprefix(prefix)], value) for name, value in written.items())
    assert origin == {"file": "netG_210000.pth", "prefix": prefix, "counters": None}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("counts", [None, (7,), (7, 12)], ids=str)
def test_what_came_in_goes_out_with_the_same_keys_and_bits(
    tmp_path: Path, prefix: str, counts: tuple[int, ...] | None
) -> None:
    """Also counters, by way of the JSON that a generator's file keeps."""
    import json

    module = nn.Sequential(small(), small())
    written = tensors_of(module, prefix, counters=counts is not None)
    for number, name in enumerate([name for name in written if "num_batches" in name]):
        written[name] = torch.tensor((counts or (0,))[number % len(counts or (0,))])
    torch.save(written, tmp_path / "in.pth")
    found, origin = tensor_file.read_state(tmp_path / "in.pth")
    taken = nn.Sequential(small(), small())
    tensor_file.fit(taken, found)
    tensor_file.write_state(taken, tmp_path / "out.pth", json.loads(json.dumps(origin)))
    back = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(back) == list(written)
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in written.items())


def test_some_prefixes_are_part_of_the_names(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "x.pth")
    assert list(tensor_file.read_state(tmp_path / "x.pth").tensors) == ["module.a", "b"]


@pytest.mark.parametrize("name", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numbers_of_numpy_a_namespace_and_defaultdicts_are_read_as_plain_values(tmp_path: Path, name: bytes) -> None:
    held = {
        "args": argparse.Namespace(lr=0.1, gpus=[0, 1], name="codraw"),
        "best": np.float64(0.25),
        "epoch": np.int64(7),
        "single": np.float32(-1.5),
        "done": np.bool_(True),
        "losses": collections.defaultdict(list, {"d": [1.0, 2.0]}),
        "state": {"w": torch.arange(3.0)},
    }
    path = tmp_path / "snapshot.pth"
    torch.save(held, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", name).replace(b"numpy.core.multiarray", name))
    found = tensor_file.load_published(path, "a snapshot")
    assert found["args"] == held["args"]
    assert [found[key] for key in ("best", "epoch", "single", "done")] == [0.25, 7, -1.5, True]
    assert {type(found[key]) for key in ("best", "epoch", "single", "done")} == {float, int, bool}
    assert found["losses"] == {"d": [1.0, 2.0]}
    assert type(found["losses"]) is dict
    assert torch.equal(found["state"]["w"], torch.arange(3.0))
    # Our own checkpoints hold none of these, and are read without them.
    with pytest.raises(ChatPainterError, match=r"it holds argparse\.Namespace, which is refused"):
        tensor_file.load(path, "a checkpoint")


def test_big_endian_numbers_of_numpy_have_their_value(tmp_path: Path) -> None:
    torch.save({"x": np.array([3.5], ">f8")[0]}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert tensor_file.load_published(tmp_path / "x.pth", "x") == {"x": 3.5}


class Custom:
    def __init__(self) -> None:
        self.a = 1


@pytest.mark.parametrize(
    ("held", "named"),
    [
        (Custom(), "tests.trainer.test_tensor_file.Custom"),
        (np.zeros(3), "_reconstruct"),
        (collections.deque([1]), "collections.deque"),
        (Path("x"), "pathlib"),
        (print, "print"),
        (np.float64, "numpy.float64"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_anything_else_is_named_and_refused(tmp_path: Path, held: Any, named: str) -> None:
    path = tmp_path / "x.pth"
    for zipped in (True, False):
        torch.save({"x": held}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            ChatPainterError, match=f"not a snapshot .it holds .*{named}.*, which is refused"
        ) as refused:
            tensor_file.load_published(path, "a snapshot")
        assert "\n" not in refused.value.message


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_runs(tmp_path: Path, zipped: bool) -> None:
    hostile = Hostile(tmp_path / "ran")
    torch.save({"x": hostile}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ChatPainterError, match="which is refused"):
        tensor_file.read_state(tmp_path / "x.pth")
    assert not hostile.ran


@pytest.mark.parametrize("code", ["O", "V8", "f8,f8", "m8", "S5"])
def test_other_types_of_numpy_are_refused(tmp_path: Path, code: str) -> None:
    """A dtype may be of any size and hold objects: only that of numbers is made, and it is ours."""
    pickled = b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX" + bytes([len(code), 0, 0, 0]) + code.encode()
    pickled += b"\x85RX\x01\x00\x00\x00a\x86R."
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    empty = pickle.dumps({}, 2)
    assert empty in buffer.getvalue()
    (tmp_path / "x.pth").write_bytes(buffer.getvalue().replace(empty, pickled, 1))
    with pytest.raises(ChatPainterError, match="a number of numpy's type"):
        tensor_file.load_published(tmp_path / "x.pth", "a snapshot")


def test_a_tensor_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size < 4000
    with pytest.raises(ChatPainterError, match="w is no plain tensor"):
        tensor_file.read_state(tmp_path / "x.pth")
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "x.pth")
    with pytest.raises(ChatPainterError, match="w is no plain tensor"):
        tensor_file.read_state(tmp_path / "x.pth")


@pytest.mark.parametrize("held", [torch.ones(1), [torch.ones(1)], {"a": 1}, {1: torch.ones(1)}, {"a": {}}], ids=str)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "x.pth")
    with pytest.raises(ChatPainterError, match="expected a state_dict, a mapping of names to tensors"):
        tensor_file.read_state(tmp_path / "x.pth")


def test_the_tar_format_is_called_so(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.pth", "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(ChatPainterError, match=r"a tar file, as torch wrote before 0\.1\.11"):
        tensor_file.read_state(tmp_path / "x.pth")


def test_a_module_is_filled_whole_or_not_at_all() -> None:
    module, good = small(), tensors_of(small())
    tensor_file.fit(module, good)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    lacking = {name: value + 1 for name, value in good.items() if name != "1.bias"}
    for wrong, words in (
        (lacking, r"lacks 1\.bias"),
        ({**good, "2.weight": torch.ones(1)}, r"has unknown 2\.weight"),
        ({**good, "1.bias": torch.ones(5)}, r"1\.bias is float32 of shape \(5,\), not float32 of \(4,\)"),
        ({**good, "1.bias": torch.ones(4).half()}, r"1\.bias is float16"),
    ):
        with pytest.raises(ValueError, match=words):
            tensor_file.fit(module, wrong)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("origin", [{"prefix": "../"}, {"counters": -1}, {"counters": "7"}, {"counters": {"1.": 1e3}}])
def test_a_damaged_origin_writes_nothing(tmp_path: Path, origin: dict[str, Any]) -> None:
    with pytest.raises(ChatPainterError, match="origin"):
        tensor_file.write_state(small(), tmp_path / "x.pth", origin)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (9, 4), (1, 20)], ids=str)
def test_old_spectral_norm_divides_as_it_did(shape: tuple[int, ...]) -> None:
    """Independent of our own solution: torch's hook divides by u·Wv when it evaluates."""
    stream = torch.Generator().manual_seed(1)
    given = torch.randn(shape, generator=stream)
    u = nn.functional.normalize(torch.randn(shape[0], generator=stream), dim=0)
    matrix = given.flatten(1)
    v = nn.functional.normalize(matrix.T @ u, dim=0)  # one power step, as torch 0.4.1 does
    u = nn.functional.normalize(matrix @ v, dim=0)
    sigma = u @ matrix @ v
    old = {"c.weight_orig": given, "c.weight": given / sigma, "c.weight_u": u, "c.bias": torch.ones(2)}
    new = tensor_file.with_both_vectors(old)
    assert set(new) == {"c.weight_orig", "c.weight_u", "c.weight_v", "c.bias"}
    layer = nn.Conv2d(4, 6, 3) if len(shape) == 4 else nn.Linear(shape[1], shape[0])
    layer = nn.utils.spectral_norm(layer).eval()
    layer.load_state_dict({name.removeprefix("c."): new[name] for name in new if name != "c.bias"}, strict=False)
    layer(torch.zeros(1, 4, 3, 3) if len(shape) == 4 else torch.zeros(1, shape[1]))
    torch.testing.assert_close(layer.weight, given / sigma, rtol=1e-5, atol=1e-6)
    assert tensor_file.with_both_vectors(new) == new


def test_a_spectral_norm_that_does_not_hold_together_is_refused() -> None:
    given = torch.randn(3, 2)
    with pytest.raises(ValueError, match=r"c\.weight_orig has no c\.weight and c\.weight_u"):
        tensor_file.with_both_vectors({"c.weight_orig": given, "c.weight_u": torch.ones(3)})
    with pytest.raises(ValueError, match="divided by one number"):
        tensor_file.with_both_vectors(
            {"c.weight_orig": given, "c.weight": given + 1, "c.weight_u": torch.tensor([1.0, 0, 0])}
        )
