"""Training Skip-Thought: from ordered sentences to the five published files.

Both halves (uni, bi) are trained side by side on the same sentences, each as the original: sums of surprise over a
batch, gradients clipped by their norm, Adam. What is seen when is a function of the seed and of the number of batches
done, so a run that is given again continues to the bit.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline import tokens
from pipeline.encoders import EncoderSettings
from pipeline.encoders.training import sentences
from pipeline.encoders.training.batches import Batches, SentenceBatch, gather
from pipeline.encoders.training.folder import TrainingFolder
from pipeline.texts import TextSettings

if TYPE_CHECKING:
    import torch

    from pipeline.encoders.training.sentence_network import SentenceNetwork
    from store.interrupts import Interrupts

HALVES = {"uni": 1, "bi": 2}  # directions
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class SkipThoughtTraining:
    """Section `train_skip_thought` of params.yaml. Defaults learn on two cores; PRESETS has the published numbers."""

    variant: Literal["combined", "uni", "bi"] = "combined"
    words: int = 8_000  # of the vocabulary, <eos> and UNK among them
    word_dim: int = 64
    dim: int = 256  # of each half's vector; bi has half of it each way
    start: Literal["paper", "remembering"] = "remembering"  # of the encoder: update gates that halve, or keep 0.93
    itself: bool = True  # a third decoder foretells the sentence itself, which the paper's two do not
    longest: int = 30  # words of a sentence that is learned from
    sentences: int = 200_000  # seen in all
    batch: int = 64
    rate: float = 2e-3
    encoder_rate: float = 0.1  # share of `rate` for encoder and word vectors: decoders that know nothing spoil them
    encoder_waits: float = 0.25  # share of the sentences that these are not changed by, for the same reason
    decay: Literal["none", "linear"] = "linear"  # of the rate, to nothing at the end
    clip: float = 10.0  # norm of a gradient, summed over the batch
    softmax: Literal["full", "adaptive"] = "adaptive"
    precision: Literal["float32", "bfloat16"] = "float32"
    held_out: int = 50  # every so many documents one is kept for measuring
    seed: int = 0
    checkpoint_every: int = 20_000  # sentences

    def __post_init__(self) -> None:
        least = {"words": 3, "word_dim": 1, "dim": 2, "longest": 1, "sentences": 1, "batch": 1, "held_out": 2}
        for name, value in {**least, "checkpoint_every": 1}.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}")
        if self.dim % 2:
            raise ValueError("dim must be even: bi has half of it each way")
        if self.softmax == "adaptive" and self.dim < 16:
            raise ValueError("dim must be at least 16 for an adaptive softmax, whose last cluster sees a sixteenth")
        if not (0 < self.rate < math.inf and 0 < self.clip < math.inf):
            raise ValueError("rate and clip must be above 0")
        if not (0 <= self.encoder_rate < math.inf and 0 <= self.encoder_waits <= 1):
            raise ValueError("encoder_rate must be at least 0, encoder_waits a share, from 0 to 1")

    def rates(self, seen: float) -> tuple[float, float]:
        """Of the encoder with the word vectors, and of all else, when this share of the sentences was seen."""
        rate = self.rate * (1 - seen if self.decay == "linear" else 1)
        return (self.encoder_rate * rate if seen >= self.encoder_waits else 0.0), rate

    @property
    def halves(self) -> dict[str, int]:
        """Name and directions of each half that is trained."""
        return {name: n for name, n in HALVES.items() if self.variant in ("combined", name)}


PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    # Kiros et al., 2015, and the code they published: BookCorpus once through would be 74 million sentences.
    "published": {
        "words": 20_000, "word_dim": 620, "dim": 2400, "start": "paper", "itself": False, "sentences": 74_000_000,
        "batch": 128, "rate": 2e-4, "encoder_rate": 1.0, "encoder_waits": 0.0, "decay": "none", "softmax": "full",
        "precision": "bfloat16", "held_out": 1000, "checkpoint_every": 1_280_000,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the networks by half, the vocabulary, what was learned from, and what was measured."""

    networks: "dict[str, SentenceNetwork]"
    words: list[str]
    about: dict[str, Any]
    measured: dict[str, Any]


def train(
    folder: Path,
    texts: list[Path],
    settings: SkipThoughtTraining,
    text: TextSettings,
    encoders: EncoderSettings,
    where: "torch.device",
    interrupts: "Interrupts",
    progress: Callable[[int, int, dict[str, float]], None] = lambda done, total, surprise: None,
) -> Trained | None:
    """Train in `folder` until the configured number of sentences; None when a signal ended it earlier.

    Args:
        texts: corpora (.parquet) and text files.
        progress: told sentences seen, their number in all, and the mean surprise a word of each half.

    Raises:
        ChatPainterError: texts cannot be read or are too few, the folder was begun otherwise, or gradients are not
            finite.
    """
    files = sentences.checksums(texts)
    run = TrainingFolder(
        folder,
        {
            "train_skip_thought": asdict(settings),
            "texts": {path.name: checksum for path, checksum in files.items()},
            "text": asdict(text),
            "tokenizer": tokens.identity(encoders.skip_thought.tokenizer),
        },
    )
    with run.held():
        data = sentences.prepare(
            folder / "sentences", files, text, encoders.skip_thought.tokenizer,
            words=settings.words, longest=settings.longest, held_out=settings.held_out,
        )  # fmt: skip
        batches = Batches(data, settings.batch, settings.seed)
        total = -(-settings.sentences // batches.size)
        halves = {name: Half(name, n, settings, len(data.words), where) for name, n in settings.halves.items()}
        state = run.load(where)
        done = 0
        if state:
            done = int(state["done"])
            for name, half in halves.items():
                half.load_state_dict(state[name])
        every = max(1, settings.checkpoint_every // batches.size)
        surprise = dict.fromkeys(halves, 0.0)
        targets = 0
        while done < total and not interrupts.requested:
            batch = batches[done]
            rates = settings.rates(done / total)
            for name, half in halves.items():
                surprise[name] += half.step(batch, rates, run)
            done, targets = done + 1, targets + batch.targets(settings.itself)
            if done % every == 0 or done == total:
                mean = {name: value / targets for name, value in surprise.items()}
                progress(done * batches.size, total * batches.size, mean)
                run.save({"done": done, **{name: half.state_dict() for name, half in halves.items()}})
                run.log({"done": done, "sentences": done * batches.size, "surprise": mean})
                surprise, targets = dict.fromkeys(halves, 0.0), 0
        if done < total:
            run.save({"done": done, **{name: half.state_dict() for name, half in halves.items()}})
            return None
        measured: dict[str, Any] = {name: perplexities(half.network, data, where) for name, half in halves.items()}
        measured["unigram"] = unigram_perplexity(data)
        run.log({"done": done, "sentences": done * batches.size, "perplexity": measured})
        about = {**data.about, "sentences_seen": done * batches.size}
        return Trained({name: half.network for name, half in halves.items()}, data.words, about, measured)


class Half:
    """One network and its optimiser."""

    def __init__(
        self, name: str, directions: int, settings: SkipThoughtTraining, words: int, where: "torch.device"
    ) -> None:
        import torch

        from pipeline.encoders.training.sentence_network import SentenceNetwork

        self.settings, self.device = settings, where
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed * len(HALVES) + list(HALVES).index(name))
            self.network = SentenceNetwork(
                words, settings.word_dim, settings.dim, directions,
                adaptive=settings.softmax == "adaptive", remembering=settings.start == "remembering",
                itself=settings.itself,
            ).to(where)  # fmt: skip
        parts: tuple[list[torch.nn.Parameter], ...] = ([], [])  # as the rates are
        for part, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                parts[not part.startswith(("embedding.", "encoder."))].append(parameter)
        self.parameters = [*parts[0], *parts[1]]
        self.adam = torch.optim.Adam([{"params": part} for part in parts], settings.rate, BETAS)

    def step(self, batch: SentenceBatch, rates: tuple[float, float], run: TrainingFolder) -> float:
        """One update at these `SkipThoughtTraining.rates`; the batch's surprise, summed over all foretold words."""
        import torch

        for group, rate in zip(self.adam.param_groups, rates, strict=True):
            group["lr"] = rate
        half_width = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half_width):
            loss = sum(self.network(tensors(batch, self.device)).values())
        self.adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        if run.finite(float(norm)):
            self.adam.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {"network": self.network.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])


def tensors(batch: SentenceBatch, where: "torch.device") -> "list[torch.Tensor]":
    """A batch as `SentenceNetwork.forward` takes it."""
    import torch

    words, lengths = (batch.sentences, batch.before, batch.after), (
        batch.lengths, batch.before_lengths, batch.after_lengths,
    )  # fmt: skip
    found = []
    for numbers, length in zip(words, lengths):
        found += [torch.from_numpy(numbers).to(where), torch.from_numpy(length)]
    return found


MOST_MEASURED = 20_000


def perplexities(network: "SentenceNetwork", data: sentences.Sentences, where: "torch.device") -> dict[str, float]:
    """exp of the mean surprise a word at the sentences before and after the held-out ones, in float32.

    And at these themselves, where the network foretells them.
    """
    import torch

    held_out = data.held_out[:: max(1, len(data.held_out) // MOST_MEASURED)]
    surprise: Counter[str] = Counter()
    words: Counter[str] = Counter()
    with torch.inference_mode():
        for middles in np.array_split(held_out, max(1, len(held_out) // 64)):
            batch = gather(data, middles)
            surprise.update({name: float(part) for name, part in network(tensors(batch, where)).items()})
            words.update(
                before=int(batch.before_lengths.sum()),
                after=int(batch.after_lengths.sum()),
                itself=int(batch.lengths.sum()),
            )
    return {name: math.exp(value / words[name]) for name, value in surprise.items()}


def unigram_perplexity(data: sentences.Sentences) -> float:
    """Of the held-out neighbours for who knows nothing but how frequent each word is where it is learned from."""

    def counts(middles: np.ndarray) -> np.ndarray:
        found = np.zeros(len(data.words), np.int64)
        for part in np.array_split(middles, max(1, len(middles) // 4096)):
            for rows in (part - 1, part + 1):
                lengths = data.starts[rows + 1] - data.starts[rows]
                at = np.repeat(data.starts[rows] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
                found += np.bincount(data.tokens[at], minlength=len(found))
                found[0] += len(rows)  # each one's <eos>
        return found

    seen, held_out = counts(data.seen) + 1.0, counts(data.held_out)
    return float(np.exp(-(held_out * np.log(seen / seen.sum())).sum() / held_out.sum()))
