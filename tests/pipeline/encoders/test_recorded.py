"""A text looked for in a store is encoded as the store's rows were."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline.encoders import CharCnnRnnSettings, identity
from pipeline.encoders.recorded import encode
from pipeline.worker import unload
from store import ChatPainterError, Store
from store.cli import main
from tests.pipeline.embed.conftest import ENCODER, EmbedFolder, make_place
from tests.support.corpora import corpus_rows
from tests.support.encoder_references import char_cnn_rnn
from tests.support.encoders import encoder_settings


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> EmbedFolder:
    place = make_place(tmp_path_factory.mktemp("filled"))
    place.corpus(corpus_rows(12))
    done = place.here("--scheduler", "sync")
    assert done.exit_code == 0, done.output
    return place


def search(store: Path, text: str, *options: str) -> Result:
    unload()
    return CliRunner().invoke(main, ["search", str(store), text, "-n", "1", *options])


@pytest.mark.parametrize("kind", ["captions", "turns", "dialogues"])
def test_a_text_of_the_store_finds_its_own_row(filled: EmbedFolder, kind: str) -> None:
    index = Store(filled.path / "out/t" / kind).index
    text = index["texts"].to_pylist()[2][1] if kind == "turns" else index["text"].to_pylist()[2]
    done = search(filled.path / "out/t" / kind, text, "--encoders", ENCODER)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("+1.0000  row ")
    assert done.output.endswith(f"  {text!r}\n")


def test_another_encoder_than_the_stores_is_refused(filled: EmbedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASH_VERSION", "2")
    done = search(filled.path / "out/t/captions", "a dog", "--encoders", ENCODER)
    assert done.exit_code == 1
    assert "not the encoder that it was made with (version: '1' in the store, '2' here)" in done.output


def test_the_stores_switches_hold_and_not_those_of_params(char_cnn_rnn_files, tmp_path: Path) -> None:
    folder, net = char_cnn_rnn_files("coco")
    as_is = CharCnnRnnSettings(lowercase=False, unknown="space")
    of_store = identity("captions", encoder_settings(folder, captions="char-cnn-rnn", char_cnn_rnn=as_is))
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"encoders": {"weights": str(folder), "untrained": None,
                                                   "converted": str(tmp_path / "converted")}}))  # fmt: skip
    text = "A Dog\u00e9 runs"
    found = encode(text, "captions", of_store, tmp_path / "captions", params)
    # Capitals and other bytes than the alphabet's are spaces to it, as in the store.
    np.testing.assert_allclose(found, char_cnn_rnn(net, "   og   runs"), atol=2e-6)
    other, _ = char_cnn_rnn_files("coco", seed=1)
    params.write_text(params.read_text().replace(str(folder), str(other)))
    with pytest.raises(ChatPainterError, match=r"not the encoder that it was made with .*params\.yaml"):
        encode(text, "captions", of_store, tmp_path / "captions", params)


def test_words_of_captions_are_no_texts(tmp_path: Path) -> None:
    with pytest.raises(ChatPainterError, match="a row of words is no text's vector; name a row to look for: --row"):
        encode("a dog", "words", {"name": "minilm"}, tmp_path / "words", tmp_path / "params.yaml")
