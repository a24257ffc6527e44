"""A tiny model that painted nothing yet but answers to its words, and the weights and corpus it belongs to."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import write_corpus

GROUNDS = ("sand", "grass", "water", "snow")
COLOURS = ("red", "blue", "green", "yellow")
SHAPES = ("circle", "square", "triangle")
PLACES = ("top left", "top right", "bottom left", "bottom right")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def scene(number: int) -> tuple[str, list[dict[str, str]]]:
    """Caption and rounds of scene `number`, as the sample world words them."""
    thing = f"{COLOURS[number % 4]} {SHAPES[number % 3]}"
    place = PLACES[number // 4 % 4]
    rounds = [
        {"question": "what is the ground like", "answer": GROUNDS[number // 3 % 4]},
        {"question": f"what is at the {PLACES[(number + 1) % 4]}", "answer": "nothing" if number % 2 else f"a {thing}"},
        {"question": "is there a large shape", "answer": "yes" if number % 3 else "no"},
    ]
    return f"a {thing} at the {place} and one other shape", rounds


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 48 scenes, as `chatpainter-prepare corpus` writes it."""
    rows: list[dict[str, Any]] = []
    for number in range(48):
        caption, rounds = scene(number)
        rows.append(
            {
                "image_id": number,
                "file_name": f"{number}.jpg",
                "width": 256,
                "height": 256,
                "captions": [{"caption_id": number, "text": caption}],
                "rounds": rounds,
                "visdial_caption": caption,
            }
        )
    path = tmp_path_factory.mktemp("data") / "corpus" / "train.parquet"
    write_corpus(path, rows)
    return path


@pytest.fixture(scope="session")
def weights(corpus: Path) -> Path:
    """Untrained weights that know every word of the corpus."""
    from pipeline.encoders import EncoderSettings
    from pipeline.texts import TextSettings
    from pipeline.weights import untrained

    out = corpus.parents[1] / "untrained"
    untrained.make(out, untrained.UntrainedSettings(), [corpus], TextSettings(), EncoderSettings())
    return out


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Callable[..., Path]:
    """make_run(dialogue="recurrent", stage=2) → a run's folder with an untrained tiny generator."""
    made: dict[tuple[str, int], Path] = {}

    def make(dialogue: str = "recurrent", stage: int = 2) -> Path:
        if (dialogue, stage) not in made:
            folder = tmp_path_factory.mktemp(f"{dialogue}-{stage}")
            from trainer import generator_file

            generator_file.save(_generator(dialogue, stage, weights), folder / "generator.safetensors")
            made[dialogue, stage] = folder
        return made[dialogue, stage]

    return make


def _generator(dialogue: str, stage: int, weights: Path) -> Any:
    import torch

    from pipeline import encoders, texts_of_rows
    from pipeline.encoders import EncoderSettings
    from pipeline.texts import Kind, TextSettings
    from trainer.systems.chatpainter.config import ModelConfig
    from trainer.systems.chatpainter.networks import ChatPainterGenerator, generator_settings

    where = EncoderSettings(weights=str(weights), untrained=None, converted=str(weights / "converted"))
    caption_dim = encoders.build("captions", where).dim
    stores: dict[str, Any] = {"captions": {"encoder": encoders.identity("captions", where), "text": {}}}
    dialogue_dim = None
    if dialogue != "none":
        dialogue_dim = encoders.build("dialogues", where).dim
        kind: Kind = "dialogues" if dialogue == "collapsed" else "turns"
        # As `chatpainter-embed` writes it into the manifest, and training from there into the generator.
        recorded = texts_of_rows.switches(kind, TextSettings())
        stores[kind] = {"encoder": encoders.identity("dialogues", where), "text": recorded}
    model = ModelConfig(
        dialogue=dialogue,  # type: ignore[arg-type]
        gf=16,
        df=8,
        residual_blocks=1,
        condition_dim=16,
        noise_dim=8,
        lstm_hidden=16,
        condition_activation="none",
    )
    torch.manual_seed(0)
    generator = ChatPainterGenerator(
        generator_settings(stage, model, caption_dim, dialogue_dim, stores=stores, images_seen=1234)
    )
    # Without training, BatchNorm lets nearly nothing of the text through: give weights and statistics some size.
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("weight") and parameter.ndim > 1:
                parameter.mul_(4)
            if ".ca_net." in name:
                parameter.normal_(0, 0.5)
        for module in generator.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = None
        generator.train()
        for _ in range(2):
            captions = torch.randn(12, caption_dim) / caption_dim**0.5
            texts = {"captions": captions}
            if dialogue_dim:
                shape = (12, dialogue_dim) if dialogue == "collapsed" else (12, 3, dialogue_dim)
                heard = torch.randn(shape) / dialogue_dim**0.5
                texts |= {"turns": heard, "dialogues": heard, "turns.length": torch.full((12,), 3)}
            generator.paint(texts, torch.randn(12, model.noise_dim))
    return generator.eval()


@pytest.fixture(scope="session")
def run(make_run: Callable[..., Path]) -> Path:
    """A run of both stages that hears a recurrent dialogue."""
    return make_run()


@pytest.fixture(scope="session")
def painter(run: Path, weights: Path) -> Any:
    """The painter of `run`."""
    from painter import Painter

    return Painter.from_run(run, weights=str(weights))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium: the one that `CHROMIUM` names, the system's, or playwright's."""
    if found := _find_browser():
        return found
    pytest.skip("no Chromium: install the system's, run `playwright install chromium`, or name one in CHROMIUM")


def _find_browser() -> str | None:
    names = [name for name in (os.environ.get("CHROMIUM"), *BROWSERS) if name]
    if found := next((path for name in names if (path := shutil.which(name))), None):
        return found
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        own = started.chromium.executable_path
    return own if Path(own).is_file() else None


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Converted word tables go into a folder of the test session, not into the user's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
