"""chatpainter-paint: files that open, messages that help, help that is quick."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageSequence

from painter.cli import main
from painter.dialogue import Dialogue, read, to_visdial
from store.errors import ChatPainterError
from tests.support.stores import write_store
from trainer.logs.grid import MARGIN


@pytest.fixture
def command(run: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """command(*words) runs chatpainter-paint in an empty folder whose params.yaml and runs/stage2 are the tiny ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "stage2").symlink_to(run)
    where = {"weights": str(weights), "converted": str(weights / "converted")}
    (tmp_path / "params.yaml").write_text(json.dumps({"encoders": where}))

    def call(*words: str) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_painting_imports_no_compiler() -> None:
    """Drawing initial weights on meta would: sympy and torch._dynamo, longer than all else until the first picture."""
    code = (
        "import sys; from painter import Painter, shipped; Painter.from_run(shipped.FOLDER).paint('a red circle'); "
        "print([name for name in ('sympy', 'torch._dynamo') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_help_imports_little_and_names_every_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from painter.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
    )

    assert shown.returncode == 0
    for word in ("serve", "export", "interpolate", "--ask", "--every-round", "--truncation"):
        assert word in shown.stdout
    loaded = {line.rsplit("|")[-1].strip() for line in shown.stderr.splitlines()}
    assert not loaded & {"torch", "numpy", "pyarrow", "gradio", "PIL", "dask", "pandas", "h5py"}


def test_paints_a_caption_and_its_rounds(command: Any) -> None:
    words = ["a red circle", "--ask", "what is the ground like", "--answer", "sand", "-n", "3", "--seed", "7"]

    result = command(*words, "-o", "a.png")

    assert result.exit_code == 0
    assert result.output == "painted a.png\n"
    assert Image.open("a.png").width > 3 * 256
    assert command(*words, "-o", "b.png").exit_code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert command(*words[:-1], "8", "-o", "b.png").exit_code == 0
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()
    assert not [path for path in Path().iterdir() if path.suffix == ".tmp"]


def test_options_may_come_first_and_plain_is_the_picture_itself(command: Any, painter: Any) -> None:
    assert command("--seed", "3", "a red circle", "--plain", "-o", "plain.png").exit_code == 0

    assert (np.asarray(Image.open("plain.png")) == painter.paint("a red circle", seed=3)[0]).all()


def test_every_size(command: Any) -> None:
    assert command("a red circle", "--size", "all", "-o", "both.png").exit_code == 0
    assert command("a red circle", "--size", "256", "-o", "two.png").exit_code == 0
    assert Image.open("both.png").height > Image.open("two.png").height + 250


SAID = [Dialogue("a red circle", (("is it large", "yes"), ("what is the ground like", ""))), Dialogue("two shapes")]


def test_reads_every_layout(tmp_path: Path) -> None:
    own = [
        {
            "caption": "a red circle",
            "rounds": [{"question": "is it large", "answer": "yes"}, ["what is the ground like", ""]],
        }
    ]
    (tmp_path / "own.json").write_text(json.dumps([*own, {"caption": "two shapes"}]))
    (tmp_path / "visdial.json").write_text(json.dumps(to_visdial(SAID)))
    (tmp_path / "lines.txt").write_text("a red circle\tis it large? yes\twhat is the ground like?\n\ntwo shapes\r\n")

    assert read(tmp_path / "own.json") == SAID
    assert read(tmp_path / "lines.txt") == SAID
    found = read(tmp_path / "visdial.json")
    assert [(one.caption, one.rounds) for one in found] == [(one.caption, one.rounds) for one in SAID]


def test_reads_real_visdial(shared_data: Path) -> None:
    found = read(shared_data / "visdial" / "visdial_1.0_val_first50.json")

    assert len(found) == 50
    assert {len(dialogue.rounds) for dialogue in found} == {10}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no caption"),
        ("[]", "holds no caption"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('[{"caption": 3}]', "record 0: expected an object with a text `caption`"),
        ('[{"caption": "a", "rounds": 1}]', "`rounds` should be a list"),
        ('[{"caption": "a", "rounds": [["q"]]}]', "round 0"),
        ('[{"caption": "a", "image_id": "x"}]', "`image_id` should be a whole number"),
        ('{"data": {}}', "questions"),
        ("a caption\tno mark", "line 1: expected `question"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "said"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ChatPainterError, match=message) as caught:
        read(path)

    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_paints_a_file_in_columns(command: Any) -> None:
    Path("lines.txt").write_text("a red circle\tis it large? yes\na blue square\ntwo shapes\n")

    assert command("--from", "lines.txt", "-n", "2", "-o", "grid.png").exit_code == 0

    sheet = Image.open("grid.png")
    assert sheet.width > 3 * 256
    assert sheet.height > 2 * 256


@pytest.fixture
def split(command: Any, corpus: Path) -> Path:
    """data/ of the current folder with the corpus and images of split `train`."""
    shutil.copytree(corpus.parent, "data/corpus")
    pictures = np.full((48, 76, 76, 3), 200, np.uint8)
    pictures[..., 0] = np.arange(48)[:, None, None]
    index = {"row": range(48), "image_id": range(48), "file_name": [f"{number}.jpg" for number in range(48)]}
    write_store(Path("data/images/train/76"), pictures, index, kind="images")
    return Path("data")


def test_paints_an_image_of_a_split_beside_the_real_one(command: Any, split: Path) -> None:
    result = command("--split", "train", "--image-id", "5", "-o", "one.png")

    assert result.exit_code == 0, result.output
    colours = {tuple(pixel) for pixel in np.asarray(Image.open("one.png").convert("RGB"))[100, :262].tolist()}
    assert (5, 200, 200) in colours, "the real picture stands first"
    assert command("--split", "train", "--image-id", "5", "--image-id", "6", "-o", "two.png").exit_code == 0
    for words, message in (
        (["--split", "train", "--image-id", "99"], "no image 99"),
        (["--split", "test", "--image-id", "1"], "(splits that are there: train)"),
        (["--split", "train"], "go together"),
    ):
        result = command(*words)
        assert result.exit_code
        assert message in result.output


def frames(path: str) -> int:
    with Image.open(path) as film:
        return len(list(ImageSequence.Iterator(film)))


def test_film_as_strip_and_as_gif(command: Any, split: Path, painter: Any) -> None:
    assert command("--split", "train", "--image-id", "5", "--every-round", "-o", "film.png").exit_code == 0
    assert Image.open("film.png").width > 5 * 256, "caption alone, three rounds, the real picture"

    assert command("--split", "train", "--image-id", "5", "--film", "-o", "film.gif").exit_code == 0
    film = Image.open("film.gif")
    assert frames("film.gif") == 4
    film.seek(0)
    first = np.asarray(film.convert("RGB"))[:256, :256].astype(int)
    film.seek(3)
    last = np.asarray(film.convert("RGB"))[:256, :256].astype(int)
    from painter.splits import dialogues

    (said,) = dialogues(split, "train", [5])
    assert abs(first - painter.paint(said.caption)[0]).mean() < 12, "255 colours are near"
    assert abs(last - painter.paint(said.caption, said.rounds)[0]).mean() < 12
    assert abs(first - last).mean() > 0


def test_attention_is_shown_and_said(command: Any, make_run: Any, weights: Path) -> None:
    run, words = make_run("attended"), ["a red circle", "--ask", "what is the ground like", "--answer", "sand"]

    result = command(*words, "--attention", "--run", run, "--seed", "3", "-o", "heard.png")

    assert result.exit_code == 0, result.output
    from painter import Painter

    painter = Painter.from_run(run, weights=str(weights))
    (heard,) = painter.attention("a red circle", [("what is the ground like", "sand")], seed=3)
    assert heard.tokens == ("caption", "round 1")
    assert result.output == "\n".join([*heard.words(), "painted heard.png\n"])
    sheet = np.asarray(Image.open("heard.png"))
    shown = heard.strip(painter.paint("a red circle", [("what is the ground like", "sand")], seed=3)[0])
    for number, picture in enumerate(shown):
        left = MARGIN + number * (256 + MARGIN)
        assert (sheet[MARGIN : MARGIN + 256, left : left + 256] == picture).all()
    assert "listen to no single round" in command(*words, "--attention").output
    assert "--attention shows one picture" in command(*words, "--attention", "-n", "2").output


def test_walks_between_texts_and_noises(command: Any) -> None:
    assert command("interpolate", "a red circle", "a blue square", "--steps", "4", "-o", "walk.png").exit_code == 0
    assert Image.open("walk.png").width > 4 * 256
    assert command("interpolate", "a red circle", "--to-seed", "2", "--steps", "5", "-o", "walk.gif").exit_code == 0
    assert frames("walk.gif") == 8, "there and back"
    assert "another noise" in command("interpolate", "a red circle").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say one of"),
        (["a", "--from", "b"], "say one of"),
        (["a", "-o", "a.jpg"], "expected a name that ends in .png"),
        (["a", "--ask", "q1", "--ask", "q2"], "give one answer to every question"),
        (["a", "--run", "nowhere"], "no such generator"),
        (["a", "-n", "2", "--plain"], "--plain writes one picture"),
        (["a", "-o", "/proc/nowhere/a.png", "--plain"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(command: Any, words: list[str], message: str) -> None:
    result = command(*words) if words else command("paint")

    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output


def test_says_what_it_does_not_know(command: Any) -> None:
    result = command("a red circle", "--ask", "is there a zyzzyva", "--answer", "yes")

    assert "words the encoders do not know: 'zyzzyva'" in result.output
    assert result.exit_code == 0


def test_says_that_a_caption_model_hears_no_dialogue(command: Any, make_run: Any) -> None:
    result = command("a red circle", "--ask", "is it large", "--answer", "yes", "--run", make_run("none"))

    assert "questions and answers change nothing" in result.output
