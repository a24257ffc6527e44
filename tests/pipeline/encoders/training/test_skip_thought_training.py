"""Skip-Thought's training: its loss, its course, what it leaves behind."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.encoders import EncoderSettings, SkipThoughtSettings, skip_thought
from pipeline.encoders.training import files
from pipeline.encoders.training import skip_thought as training
from pipeline.encoders.training.batches import Batches, gather
from pipeline.encoders.training.folder import CHECKPOINT, TrainingFolder
from pipeline.encoders.training.sentence_network import SentenceNetwork
from pipeline.encoders.training.sentences import checksums, prepare
from pipeline.texts import TextSettings
from store.errors import ChatPainterError
from store.interrupts import Interrupts
from tests.support import encoder_references, sentence_losses
from tests.support.processes import Ranks, wait_for

CPU = torch.device("cpu")
SMALL = training.SkipThoughtTraining(
    words=40, word_dim=6, dim=16, sentences=240, batch=8, held_out=5, checkpoint_every=40, rate=5e-3
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """200 documents: what a document is about is the same in all of its sentences."""
    rng = np.random.default_rng(0)
    path = tmp_path / "told.txt"
    documents = []
    for _ in range(200):
        about = rng.choice(["dog", "cat", "sun", "tree"])
        documents.append([f"a {rng.choice(['red', 'small'])} {about} is here ." for _ in range(rng.integers(1, 6))])
    path.write_text("\n\n".join("\n".join(document) for document in documents))
    return path


def train(folder: Path, text: Path, settings=SMALL, interrupts=None, progress=lambda *_: None, where=CPU):
    return training.train(
        folder, [text], settings, TextSettings(), EncoderSettings(), where, interrupts or Interrupts(), progress
    )


def arrays(network: SentenceNetwork) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_loss_is_that_of_the_equations(text, tmp_path, directions, adaptive):
    torch.manual_seed(3)
    data = prepare(
        tmp_path / "s", checksums([text]), TextSettings(), "treebank-3.2.5", words=40, longest=30, held_out=5
    )
    network = SentenceNetwork(len(data.words), 5, 16, directions, adaptive, itself=True)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    middles = data.seen[:7]
    found = network(training.tensors(gather(data, middles), CPU))
    p = arrays(network)
    cutoffs = sorted({max(1, len(data.words) // share) for share in (16, 4)})
    score = sentence_losses.adaptive(cutoffs) if adaptive else sentence_losses.full

    def sentence(row):
        return [*data.tokens[data.starts[row] : data.starts[row + 1]], 0]

    vectors = [sentence_losses.vector(p, sentence(row)) for row in middles]
    assert found.keys() == {"before", "after", "itself"}
    for decoder, offset in (("before", -1), ("after", 1), ("itself", 0)):
        expected = sum(
            sentence_losses.surprise(p, decoder, h, sentence(row + offset), score) for h, row in zip(vectors, middles)
        )
        assert float(found[decoder].detach()) == pytest.approx(expected, rel=2e-6)
    total = np.exp(score(p, np.ones(16))).sum()
    assert total == pytest.approx(1)


def test_weights_begin_as_the_paper_says_and_the_hidden_bias_stays_nothing(text, tmp_path):
    half = training.Half("bi", 2, replace(SMALL, start="paper", itself=False), 30, CPU)
    for name, value in half.network.named_parameters():
        if "weight_hh" in name:
            for gate in value.detach().chunk(3):
                torch.testing.assert_close(gate @ gate.T, torch.eye(len(gate)), atol=1e-5, rtol=0)
        elif "bias" in name:
            assert not value.any()
        else:
            assert 0.09 < value.abs().max() <= 0.1
    trained = train(tmp_path / "run", text)
    for network in trained.networks.values():
        hidden = [value for name, value in network.named_parameters() if "bias_hh" in name]
        assert hidden
        assert not any(value.any() for value in hidden)


@pytest.mark.parametrize(("half", "directions"), [("uni", 1), ("bi", 2)])
def test_an_encoder_that_begins_remembering_knows_the_first_of_twenty_words(half, directions):
    def difference(start):
        network = training.Half(half, directions, replace(SMALL, dim=64, start=start), 30, CPU).network
        for gates in (value for name, value in network.named_parameters() if "encoder.bias_ih" in name):
            reset, update, candidate = gates.detach().sigmoid().chunk(3)
            expected = (0.5, 0.5) if start == "paper" else (1 / (1 + np.exp(-2)), 0.93)
            assert (float(reset.mean()), float(update.mean())) == pytest.approx(expected)
            assert (candidate == 0.5).all()  # the sigmoid of nothing
        length = float(network.embedding.weight.detach().norm(dim=1).mean())
        assert length > 3 if start == "remembering" else length < 0.2
        told = torch.tensor([[2, *range(4, 23)], [3, *range(4, 23)]])  # another first word
        one, other = network.vectors(told, torch.tensor([20, 20])).detach()[:, : 64 // directions]  # read forwards
        return float((one - other).norm() / one.norm())

    assert difference("paper") < 0.01
    assert difference("remembering") > 0.08  # louder words bend the gates, too: 0.09 of bi


def test_a_step_clips_the_gradient_and_takes_adams_update(text, tmp_path):
    data = prepare(
        tmp_path / "s", checksums([text]), TextSettings(), "treebank-3.2.5", words=40, longest=30, held_out=5
    )
    settings = training.SkipThoughtTraining(**{**SMALL.__dict__, "clip": 0.5, "softmax": "full"})
    half = training.Half("uni", 1, settings, len(data.words), CPU)
    before = arrays(half.network)
    batch = Batches(data, 8, 0)[0]
    loss = sum(half.network(training.tensors(batch, CPU)).values())
    gradients = torch.autograd.grad(loss, half.parameters)
    norm = sum(float((g.double() ** 2).sum()) for g in gradients) ** 0.5
    assert norm > 0.5
    assert half.step(batch, (3e-3, 1e-2), TrainingFolder(tmp_path, {})) == pytest.approx(float(loss.detach()))
    names = [name for name, value in half.network.named_parameters() if value.requires_grad]
    assert {name.partition(".")[0] for name in names} > {"embedding", "encoder"}
    for name, gradient in zip(names, gradients, strict=True):
        g = gradient.double().numpy() * 0.5 / norm
        rate = 3e-3 if name.startswith(("embedding", "encoder")) else 1e-2
        expected = before[name] - rate * g / (np.abs(g) + 1e-8)  # Adam's first step, its biases corrected
        np.testing.assert_allclose(arrays(half.network)[name], expected, atol=2e-5)


def test_encoder_and_word_vectors_wait_and_then_learn_at_their_share(text, tmp_path):
    settings = replace(SMALL, rate=8e-3, encoder_rate=0.5, encoder_waits=0.25)
    assert settings.rates(0.0) == (0.0, 8e-3)
    assert settings.rates(0.2) == pytest.approx((0.0, 6.4e-3))
    assert settings.rates(0.25) == pytest.approx((3e-3, 6e-3))
    assert replace(settings, decay="none").rates(0.9) == (4e-3, 8e-3)
    published = training.SkipThoughtTraining(**training.PRESETS["published"])
    assert published.rates(0.0) == (2e-4, 2e-4)  # the paper knows nothing of it
    for waits in 0.25, 1.0:
        network = train(tmp_path / str(waits), text, replace(settings, encoder_waits=waits)).networks["uni"]
        begun = training.Half("uni", 1, settings, network.embedding.num_embeddings, CPU).network
        moved = {
            name.partition(".")[0]
            for name, one in begun.state_dict().items()
            if (one != network.state_dict()[name]).any()
        }
        assert {"initial", "before", "after", "output"} <= moved
        assert {"embedding", "encoder"} & moved == ({"embedding", "encoder"} if waits < 1 else set())


@pytest.mark.parametrize("wrong", [{"encoder_rate": -0.1}, {"encoder_waits": 1.1}, {"encoder_rate": float("nan")}])
def test_rates_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="encoder_rate must be at least 0, encoder_waits a share"):
        replace(SMALL, **wrong)


def killed(folder: Path, text: Path) -> None:
    train(folder, text, progress=lambda done, *_: done >= 80 and os.kill(os.getpid(), signal.SIGKILL))


def test_a_killed_training_continues_to_the_bit(text, tmp_path):
    whole = train(tmp_path / "whole", text)
    files.write_skip_thought(tmp_path / "of-whole", whole, None, {})
    folder = tmp_path / "killed"
    child = Ranks(killed, 1, folder, text)
    assert child.wait() == [-signal.SIGKILL]
    assert torch.load(folder / CHECKPOINT, weights_only=True)["done"] == 5
    with Interrupts() as interrupts:  # and once more by a signal, between two checkpoints

        def stop(done: int, *_: object) -> None:
            if done >= 160:
                interrupts.received = signal.SIGTERM

        assert train(folder, text, interrupts=interrupts, progress=stop) is None
    wait_for(lambda: not (folder / ".lock").exists())
    files.write_skip_thought(tmp_path / "of-killed", train(folder, text), None, {})
    for path in sorted((tmp_path / "of-whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "of-killed" / path.name).read_bytes(), path.name
    assert (tmp_path / "whole/log.jsonl").read_text() == (folder / "log.jsonl").read_text()


def test_neighbours_and_sentences_are_foretold_better_than_by_frequency(text, tmp_path):
    trained = train(tmp_path / "run", text, replace(SMALL, sentences=1000))
    assert 1 < trained.measured["uni"]["after"] < 0.5 * trained.measured["unigram"]
    assert 1 < trained.measured["uni"]["itself"] < trained.measured["uni"]["after"]  # the vector has read it
    assert 1 < trained.measured["bi"]["before"] < 0.5 * trained.measured["unigram"]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert log[-1]["perplexity"] == trained.measured
    assert log[-1]["surprise"].keys() == {"uni", "bi"}  # of the last sentences seen


def test_two_decoders_as_the_paper_has_them(text, tmp_path):
    trained = train(tmp_path / "run", text, replace(SMALL, itself=False))
    assert trained.measured["uni"].keys() == {"before", "after"}
    assert all(network.itself is None for network in trained.networks.values())


def test_the_unigram_perplexity_is_that_of_counted_words(tmp_path):
    path = tmp_path / "few.txt"
    path.write_text("a b\na\na a\n\nb\nc\nb b\n")  # the second document is held out
    data = prepare(tmp_path / "s", checksums([path]), TextSettings(), "treebank-3.2.5", words=10, longest=9, held_out=2)
    assert data.words == ["<eos>", "UNK", "a", "b", "c"]
    # Learned from: neighbours "a b" and "a a", each with its <eos>: a 3, b 1, <eos> 2, one more of every word.
    p = {"a": 4 / 11, "b": 2 / 11, "<eos>": 3 / 11}
    expected = [p["b"], p["<eos>"], p["b"], p["b"], p["<eos>"]]
    assert training.unigram_perplexity(data) == pytest.approx(np.exp(-np.mean(np.log(expected))))


def test_the_reader_loads_what_was_trained_unchanged(text, tmp_path):
    trained = train(tmp_path / "run", text)
    out = tmp_path / "out"
    written = files.write_skip_thought(out, trained, None, {"license": "CC0", "trained_on": trained.about})
    assert [path.name for path in written] == [
        "uni_skip.npz", "utable.npy", "bi_skip.npz", "btable.npy", "dictionary.txt"
    ]  # fmt: skip
    settings = EncoderSettings(
        weights=str(out), converted=str(tmp_path / "c"), skip_thought=SkipThoughtSettings(eos=True)
    )
    encoder = skip_thought.build("skip-thought", settings)
    assert (encoder.dim, encoder.identity["trained"]) == (32, True)
    assert encoder.identity["license"] == "CC0"
    texts = ["a red dog is here .", "small sun", "never met"]
    encoded = encoder.encode(texts)
    number = {word: i for i, word in enumerate(trained.words)}
    for text_, found in zip(texts, encoded.vectors):
        words = [number.get(word, 1) for word in text_.split()] + [0]
        parts = [sentence_losses.vector(arrays(trained.networks[half]), words) for half in ("uni", "bi")]
        np.testing.assert_allclose(found, np.concatenate([h / np.linalg.norm(h) for h in parts]), atol=5e-7)
    uni, bi = (dict(np.load(out / f"{half}_skip.npz")) for half in ("uni", "bi"))
    utable, btable = (network.embedding.weight.detach().numpy() for network in trained.networks.values())
    rows = [number["a"], number["red"], number["dog"], number["is"], number["here"], number["."], 0]
    np.testing.assert_allclose(
        encoded.vectors[0], encoder_references.skip_thought(uni, bi, utable, btable, rows), atol=5e-7
    )
    marker = json.loads((out / "WEIGHTS.json").read_text())
    assert marker["trained"] is True
    assert marker["encoders"]["skip-thought"]["license"] == "CC0"
    assert sorted(marker["files"]) == sorted(path.name for path in written)


def test_another_configuration_or_other_texts_are_refused_in_words(text, tmp_path):
    train(tmp_path / "run", text)
    other = training.SkipThoughtTraining(**{**SMALL.__dict__, "rate": 1e-3})
    with pytest.raises(ChatPainterError, match=r"train_skip_thought.rate: 0.005 → 0.001.*--run"):
        train(tmp_path / "run", text, other)
    text.write_text(text.read_text() + "\nmore\n")
    with pytest.raises(ChatPainterError, match=r"texts.told.txt: "):
        train(tmp_path / "run", text)


def test_a_damaged_checkpoint_is_refused_in_words(text, tmp_path):
    train(tmp_path / "run", text)
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ChatPainterError, match=r"checkpoint.pt: damaged.*remove it"):
        train(tmp_path / "run", text)


def test_gradients_that_are_not_finite_end_the_run_in_words(text, tmp_path):
    settings = training.SkipThoughtTraining(**{**SMALL.__dict__, "rate": 1e30, "sentences": 2000})
    with pytest.raises(ChatPainterError, match="the last 20 gradients were not finite; lower the rate"):
        train(tmp_path / "run", text, settings)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_bfloat16_trains_too(text, tmp_path, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    settings = replace(SMALL, precision="bfloat16", sentences=400)
    trained = train(tmp_path / "run", text, settings, where=torch.device(device))
    assert trained.measured["uni"]["after"] < trained.measured["unigram"]
