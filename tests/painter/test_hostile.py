"""Whatever --from, the options and a generator's metadata hold: what is right, or one line that says what is wrong."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from painter import Dialogue, Painter
from painter import dialogue as module
from painter.cli import main
from painter.dialogue import DialogueError, ask_and_answer, check, read, to_visdial
from painter.encoding import TextEncoders
from pipeline.corpora import json_files
from pipeline.encoders import EncoderSettings
from pipeline.encoders.recorded import settings_of
from store.errors import ChatPainterError
from trainer import generator_file

SPACES = "a  red\tcircle\n at\u00a0the\u2028top\u0085left "
FOLDED = "a red circle at the top left"


def refused(path: Path) -> str:
    """The one line with which a file of dialogues is refused."""
    with pytest.raises(ChatPainterError) as caught:
        read(path)
    assert "\n" not in caught.value.message
    assert path.name in caught.value.message
    assert len(caught.value.message) < 600
    return caught.value.message


# Training's text is the corpus' text: folded by json_files.fold.


def test_the_same_words_are_the_same_text_wherever_they_come_from(tmp_path: Path) -> None:
    assert json_files.fold(SPACES) == FOLDED
    (tmp_path / "own.json").write_text(json.dumps({"caption": SPACES, "rounds": [[SPACES, SPACES]]}))
    line = SPACES.replace("\n", " ").replace("\t", " ")
    (tmp_path / "lines.txt").write_text(f"{line}\t{line}?{line}\r\n")
    (tmp_path / "visdial.json").write_text(json.dumps(to_visdial([Dialogue("x", (("q", "a"),))])))

    expected = Dialogue(FOLDED, ((FOLDED, FOLDED),))
    assert read(tmp_path / "own.json") == [expected]
    assert read(tmp_path / "lines.txt") == [expected]
    assert Dialogue(SPACES, ask_and_answer([SPACES], [SPACES])) == expected
    assert Dialogue(SPACES, ((SPACES, SPACES),)) == expected


@given(st.text(max_size=40))
def test_every_text_is_folded_as_in_the_corpus(text: str) -> None:
    assert Dialogue(text, ((text, text),)) == Dialogue(json_files.fold(text), ((json_files.fold(text),) * 2,))


def test_white_space_changes_no_pixel(painter: Painter) -> None:
    folded = painter.paint(FOLDED, [("what is the ground like", "dry sand")], n=2)

    assert (painter.paint(SPACES, [("what  is the\nground like ", " dry\t sand")], n=2) == folded).all()


# Files of dialogues.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"caption": "\ud800"}, "record 0: the caption has half a character (\\ud800)"),
        ({"caption": "a", "rounds": [["q", "a"], ["\udfff", ""]]}, "record 0: question 1 has half a character"),
        ({"caption": ""}, "record 0: the caption is empty"),
        ({"caption": " \n\u00a0"}, "record 0: the caption is empty"),
        ({"caption": "\x00\x01\u200b"}, "record 0: the caption is empty"),
        ({"caption": "a", "rounds": [["q", "a"]] * 5000}, "record 0: 5,000 rounds; at most 500 are read"),
        ({"caption": "x" * 1_000_000}, "the caption has 1,000,000 characters; at most 10,000 are read"),
        ({"caption": "a", "rounds": [["q" * 9000, "a"]] * 40}, "characters in all; at most 300,000 are read"),
        (
            {"caption": "a", "image_id": 2**70},
            "record 0: image id 1180591620717411303424 should lie between 0 and 2^63 - 1",
        ),
        ({"caption": "a", "image_id": -1}, "record 0: image id -1 should lie between 0 and 2^63 - 1"),
        ({"caption": "a", "image_id": True}, "`image_id` should be a whole number, found true"),
        ({"caption": "a", "round": []}, "unknown 'round'; known: 'caption', 'rounds', 'image_id'"),
        ({"caption": "a", "rounds": [{"question": "q", "anwser": "a"}]}, "round 0: expected"),
        ([[]], "record 0: expected an object with a text `caption`, found []"),
        (None, "expected an object with a text `caption`, found null"),
        (3, "expected an object with a text `caption`, found 3"),
        ("a caption", "expected an object with a text `caption`"),
        (to_visdial([Dialogue("a"), Dialogue("")]), "image 1: the caption is empty"),
    ],
)
def test_records_that_cannot_be_painted_are_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "said.json"
    path.write_text(json.dumps(content))

    assert message in refused(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"caption": "a", "image_id": ' + "1" * 5000 + "}", "not valid JSON"),
        ('{"caption": "a", "caption": "b"}', "'caption' stands twice in one object"),
        ("[" * 1_000_000, "not valid JSON"),
        ("\x00" * 100, "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_json_that_is_none_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "said.json"
    path.write_text(content)

    assert message in refused(path)


def test_a_file_without_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 2**20)

    assert "more than 1 MiB" in refused(Path("/dev/zero"))


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'w').write('a red circle')"])

    assert read(pipe) == [Dialogue("a red circle")]
    assert writer.wait() == 0


def test_line_ends_of_every_system(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\ntwo\rthree\n\n".encode())

    assert [said.caption for said in read(path)] == ["one", "two", "three"]


SEEDS = [
    json.dumps([{"caption": "a red circle", "rounds": [{"question": "is it", "answer": "yes"}], "image_id": 7}]),
    json.dumps(to_visdial([Dialogue("a red circle", (("is it", "yes"), ("how", "ü")), 7), Dialogue("two", (), 8)])),
    "a red circle\tis it large? yes\twhat? \ntwo shapes\n",
]
PIECES = [b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"null", b"1e999", b"NaN", b"-1", b"{", b"}", b"[", b'"',
          b"\t", b"9" * 30, b"true", b"?", b",", b":", b"data", b"dialog", "é".encode()]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "said.json"
    outcomes = {"read": 0, "refused": 0}
    for number in range(400):
        content = bytearray(chance.choice(SEEDS).encode())
        for _ in range(chance.randint(0, 3)):
            start = chance.randrange(len(content) + 1)
            content[start : start + chance.choice([0, 0, 1, 4, 40])] = chance.choice(PIECES)
        path = path.with_suffix(chance.choice([".json", ".txt"]))
        path.write_bytes(content[: chance.randrange(len(content))] if number % 5 == 0 else content)
        try:
            found = read(path)
        except ChatPainterError:
            outcomes["refused"] += 1
            refused(path)
            continue
        outcomes["read"] += 1
        assert found
        for said in found:
            assert check(said) is said
            assert said == Dialogue(said.caption, said.rounds, said.image_id)
            json.dumps(to_visdial([said])).encode()
    assert min(outcomes.values()) > 40, outcomes


# The library and the options.


def test_what_the_library_refuses(painter: Painter) -> None:
    for words, rounds in (
        ("", []),
        ("\ud800", []),
        ("x" * 10_001, []),
        ("a", [("q", "\udcff")]),
        ("a", [("", "")] * 501),
    ):
        with pytest.raises(ChatPainterError):
            painter.paint(words, rounds)
        with pytest.raises(ChatPainterError):
            painter.read(Dialogue(words, tuple(rounds)))
    for wrong in (None, 3, b"a"):
        with pytest.raises(DialogueError, match="should be a text"):
            painter.paint(wrong)  # type: ignore[arg-type]
    for options in (
        {"truncation": float("nan")},
        {"truncation": float("inf")},
        {"truncation": -1.0},
        {"seed": -1},
        {"n": 0},
    ):
        with pytest.raises(ChatPainterError, match="expected n of 1 at least"):
            painter.paint("a red circle", **options)


@pytest.fixture
def command(run: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """command(*words) → chatpainter-paint's result in an empty folder, with the tiny run and its weights."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--run", str(run), "--weights", str(weights)])

    return call


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--truncation", "nan"], "nan is no number"),
        (["a", "--truncation", "inf"], "not in the range"),
        (["interpolate", "a", "b", "--truncation", "nan"], "nan is no number"),
        (["a", "--size", "128"], "paints 64 × 64 and 256 × 256, not 128 × 128"),
        (["a", "--size", "9" * 5000], "neither a width in pixels"),
        (["a", "--size", "-1"], "neither a width in pixels"),
        ([""], "the caption is empty"),
        (["a\udcffb"], "the caption has half a character"),
        (["a", "--ask", "\udcff", "--answer", "b"], "question 0 has half a character"),
        (["interpolate", "a", "\udcff"], "the caption has half a character"),
        (["x" * 1_000_000], "has 1,000,000 characters"),
        (["a", "--device", "fpga"], "--device 'fpga'"),
        (["a", "--device", "cpu:x"], "--device 'cpu:x'"),
        (["a", "--device", "xpu"], "--device 'xpu'"),
        (["a", "--seed", str(2**70)], "not in the range"),
        (["--from", "\udcff.json"], "cannot be read"),
        (["--from", "x" * 5000], "cannot be read"),
        (["--from", "."], "cannot be read"),
        (["interpolate", "x" * 20_000 + ".json", "b"], "has 20,005 characters"),
        (["a", "--data", "x" * 5000, "--split", "val"], "say one of"),
        (["--data", "x" * 5000, "--split", "val", "--image-id", "1"], "splits that are there: none"),
        (["--split", "x" * 5000, "--image-id", "1"], "splits that are there: none"),
        (["--split", "none", "--image-id", str(2**70)], "no such corpus"),
        (["a", "-o", "x" * 300 + ".png"], "cannot be written"),
        (["a", "--plain", "-o", "/proc/nowhere/a.png"], "cannot be written"),
    ],
)
def test_options_are_refused_in_one_line(command: Callable[..., Result], words: list[str], message: str) -> None:
    result = command(*words)

    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit), result.exception
    assert message in result.output
    assert not list(Path().glob("*.png*"))


@pytest.mark.parametrize("name", ["x" * 5000, "\udcff", "a\x00b", "."])
def test_names_of_runs_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ChatPainterError, match="no such generator"):
        Painter.from_run(name)


def test_bytes_that_are_no_text_on_the_command_line(run: Path, weights: Path, tmp_path: Path) -> None:
    program = "from painter.cli import main; main()"
    words: list[Any] = [b"a \xff", "--run", str(run), "--weights", str(weights)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run([sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, env=environment)

    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("Error: the caption has half a character (\\udcff) at place 2")


def test_more_than_a_figure_holds(command: Callable[..., Result]) -> None:
    Path("many.txt").write_text("a red circle\n" * 3000)
    Path("some.txt").write_text("a red circle\n" * 100)

    assert "3,000 dialogues; one figure shows at most 256" in command("--from", "many.txt").output
    assert "6,400 pictures; one figure shows at most 1,024" in command("--from", "some.txt", "-n", "64").output


# A generator's metadata: an untrusted file says which encoders belong to it.


def damaged(value: Any, place: list[str], wrong: Any) -> Any:
    """A copy of nested mappings with another value (or, for `...`, none) at one place."""
    copy = json.loads(json.dumps(value))
    if not place:
        return wrong
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    if wrong is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = wrong
    return copy


WRONG: list[Any] = [..., None, [], {}, 5, 2.5, "", "x", "../../x", 1, [1, [2]], {"x": {}}, "bert-base-uncased", -1]
PLACES = [[], ["captions"], ["turns"]] + [
    [store, *inner]
    for store in ("captions", "turns")
    for inner in (["encoder"], ["encoder", "name"], ["encoder", "weights"], ["encoder", "precision"])
] + [["captions", "encoder", "lowercase"], ["captions", "encoder", "unknown"], ["turns", "encoder", "tokenizer"],
     ["turns", "encoder", "variant"], ["turns", "encoder", "eos"], ["turns", "text"],
     ["turns", "text", "turn"], ["turns", "text", "punctuation"]]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_stores_of_any_shape_are_refused_in_one_line(run: Path, weights: Path, place: list[str]) -> None:
    right = generator_file.load(run / "generator.safetensors").settings["stores"]
    where = EncoderSettings(weights=str(weights), untrained=None, converted=str(weights / "converted"))
    assert TextEncoders(right, where).heard == "turns"

    for wrong in WRONG:
        if not place and wrong is ...:
            continue
        stores = damaged(right, place, wrong)
        if stores == right:
            continue
        if place == ["turns"] and wrong is ...:
            # The encoders stand, but not for this generator: see the next test.
            assert TextEncoders(stores, where).heard is None
            continue
        with pytest.raises(ChatPainterError) as caught:
            TextEncoders(stores, where, "generator.safetensors")
        assert "\n" not in caught.value.message
        assert len(caught.value.message) < 500


def test_a_generator_whose_encoders_do_not_fit_is_refused(run: Path, weights: Path, tmp_path: Path) -> None:
    generator = generator_file.load(run / "generator.safetensors")
    del generator.settings["stores"]["turns"]
    generator_file.save(generator, tmp_path / "generator.safetensors")

    with pytest.raises(ChatPainterError, match="but the encoders that it names make"):
        Painter.from_run(tmp_path, weights=str(weights))
    shutil.copy(run / "generator.safetensors", tmp_path)
    assert Painter.from_run(tmp_path, weights=str(weights)).paint("a red circle").shape == (1, 256, 256, 3)


def test_names_of_weight_files_stay_in_their_folder(run: Path, weights: Path) -> None:
    stores = generator_file.load(run / "generator.safetensors").settings["stores"]
    ((name, digest),) = stores["captions"]["encoder"]["weights"].items()
    where = EncoderSettings(weights=str(weights), untrained=None)
    for outside in (f"../{weights.name}/{name}", str(weights / name), f"x/../{name}", ""):
        stores["captions"]["encoder"]["weights"] = {outside: digest}
        with pytest.raises(ChatPainterError, match="expected a sha256 for each file"):
            TextEncoders(stores, where)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("sentence-transformers:models/mini", "sentence-transformers:models/mini"),
        ("transformers:models/other", "sentence-transformers:data/weights"),
        ("char-cnn-rnn", "sentence-transformers:data/weights"),
    ],
)
def test_a_modern_encoder_is_looked_for_where_params_say_or_among_the_weights(params: str, expected: str) -> None:
    identity = {"name": "sentence-transformers", "weights": {"model.safetensors": "0" * 64}, "precision": "float32"}

    found = settings_of(identity, "captions", EncoderSettings(captions=params), "generator.safetensors")

    assert found.captions == expected
