"""params.yaml is read strictly: what it does not know it refuses, in one line."""

import dataclasses
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import params
from store.errors import ParamsError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    batch: int
    rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    sizes: tuple[int, ...] = (76, 304)
    turn: Literal["question", "answer"] = "question"
    flip: bool = False
    file: str | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, not {self.batch}")


def read(**values: object) -> Settings:
    return params.section({"stage1": values}, "stage1", Settings)


def test_values_take_their_types() -> None:
    settings = read(batch=4, rate=1, betas=[0, 0.9], sizes=[76], inner={"rate": 3})
    assert settings == Settings(batch=4, rate=1.0, betas=(0.0, 0.9), sizes=(76,), inner=Inner(3.0))
    assert isinstance(settings.rate, float)


def test_yaml_numbers_without_a_dot_are_numbers() -> None:
    """YAML 1.1 reads 2e-4 as a string; a learning rate written so must not be refused."""
    assert read(batch=1, rate="2e-4").rate == 2e-4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch": 1, "btch": 2}, ["unknown key 'btch'", "did you mean 'batch'?"]),
        ({"batch": 1, "zzz": 2}, ["unknown key 'zzz'", "known: batch, rate"]),
        ({"batch": "many"}, ["stage1.batch", "expected int", "'many'"]),
        ({"batch": True}, ["stage1.batch", "expected int"]),
        ({"batch": 1, "flip": 1}, ["stage1.flip", "expected bool"]),
        ({"batch": 1, "turn": "both"}, ["'both' is not one of question, answer"]),
        ({"batch": 1, "betas": [0.5]}, ["stage1.betas", "expected 2 values, found 1"]),
        ({"batch": 1, "sizes": 76}, ["stage1.sizes", "expected a list"]),
        ({"batch": 1, "inner": {"rat": 1}}, ["stage1.inner", "unknown key 'rat'", "'rate'"]),
        ({"batch": 0}, ["stage1", "batch must be at least 1, not 0"]),
        ({}, ["stage1", "batch must be given"]),
    ],
)
def test_what_cannot_be_understood_is_named(values: dict, words: list[str]) -> None:
    with pytest.raises(ParamsError) as error:
        read(**values)
    for word in words:
        assert word in error.value.message
    assert "\n" not in error.value.message


@given(st.text(min_size=1).filter(lambda key: key not in {field.name for field in dataclasses.fields(Settings)}))
def test_no_unknown_key_passes(key: str) -> None:
    with pytest.raises(ParamsError, match="unknown key"):
        read(**{"batch": 1, key: 0})


def test_a_file_that_is_not_a_mapping_is_refused(tmp_path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("- 1\n- 2\n")
    with pytest.raises(ParamsError, match="expected a mapping of sections"):
        params.load(file)
    file.write_text("a: [1\nb: 2\n")
    with pytest.raises(ParamsError, match=r"params.yaml, line \d"):
        params.load(file)
    file.write_text("stagee1: {}\n")
    with pytest.raises(ParamsError, match="unknown key 'stagee1'; did you mean 'stage1'"):
        params.load(file)
    with pytest.raises(ParamsError, match=r"missing.yaml: cannot be read"):
        params.load(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("dataset: café\n".encode("latin-1"), "line 1: not UTF-8"),
        (b"dataset: a\nraw: \xff\n", "line 2: not UTF-8"),
        ("dataset: sample\n".encode("utf-16"), "not UTF-8"),
        (b"dataset: a\nraw: b\ndataset: c\n", "line 3: not valid YAML (the key 'dataset' is given twice)"),
        (b"stage1: {batch: 1, batch: 2}\n", "line 1: not valid YAML (the key 'batch' is given twice)"),
        (b"raw: " + b"[" * 5000, "nested too deeply"),
        (b"raw: " + b"7" * 5000, "not valid YAML"),
        (b"raw: 2024-13-45\n", "not valid YAML"),
        (b"? [a]\n: 1\n", "unhashable"),
        (b"7: 1\n", "unknown key 7"),
    ],
)
def test_a_hostile_file_is_one_line(tmp_path, content: bytes, words: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(ParamsError) as error:
        params.load(file)
    assert words in error.value.message
    assert error.value.message.startswith(str(file))
    assert "\n" not in error.value.message
    assert len(error.value.message) < 700


def test_a_value_of_any_size_takes_part_of_a_line() -> None:
    bomb: object = "x" * 100
    for _ in range(30):
        bomb = [bomb] * 10
    with pytest.raises(ParamsError, match=r"stage1\.batch: expected int, found") as error:
        read(batch=bomb)
    assert len(error.value.message) < 300


@pytest.mark.parametrize("empty", [False, 0, "", []])
def test_a_section_that_is_no_mapping_is_not_taken_for_an_empty_one(empty: object) -> None:
    with pytest.raises(ParamsError, match="stage1: expected a mapping, found"):
        params.section({"stage1": empty}, "stage1", Settings)


def test_nan_is_no_number() -> None:
    for value in (float("nan"), "nan"):
        with pytest.raises(ParamsError, match=r"stage1\.rate: expected a number, found nan"):
            read(batch=1, rate=value)


def test_plain_values_have_types_too() -> None:
    values = {"raw": "data/raw", "splits": ["train", "val"]}
    assert params.section(values, "raw", str) == "data/raw"
    assert params.section(values, "splits", params.Names) == ("train", "val")
    with pytest.raises(ParamsError, match=r"params\.yaml: dataset must be given"):
        params.section(values, "dataset", str)
    with pytest.raises(ParamsError, match=r"splits\[0\]: expected str, found 1"):
        params.section({"splits": [1]}, "splits", params.Names)
