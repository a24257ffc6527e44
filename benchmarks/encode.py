"""How fast texts become vectors: the project's encoders beside other people's and beside the plain method.

    python -m benchmarks.encode --turns TURNS --captions CAPTIONS      # prints tables, writes results/encode-cpu.json
    python -m benchmarks.encode --turns TURNS --captions CAPTIONS --device cuda

TURNS: a text file of one turn a line, a VisDial file, or such a file as text:
[{"dialog": [caption, "question? answer", …]}, …].
CAPTIONS: a text file of one caption a line, or COCO's captions_*.json.

All contestants have the same random weights at the published dimensions and encode the same texts in one run, taking
turns; figures are medians. `FLOP` counts what is multiplied, 2 a multiply-add; `plain` is what the plain method
multiplies (every token of every text, every one of 201 characters). CPU seconds are given too, since they do not
suffer from what else runs on the machine.
"""

import contextlib
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline import tokens
from pipeline.corpora import visdial
from pipeline.encoders import CharCnnRnnSettings, char_cnn_rnn, prefix_tree, products
from pipeline.encoders.character_net import CharacterNet
from pipeline.texts import TextSettings, turn
from pipeline.weights import reed, theano, theano_writer, untrained
from pipeline.weights.theano import Gru
from store import machine
from store.devices import fp32_precision

E, UNI, BI = 620, 2400, 1200
PLAIN_TOKEN = 2 * (3 * E * UNI + 3 * UNI**2 + 2 * (3 * E * BI + 3 * BI**2))
PLAIN_CAPTION = 2 * 117_233_664
BATCHES = (64, 128, 256)  # the peers' batch sizes: the best of them on a sample is taken
SAMPLE = 256
GEMM_OPERATORS = ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm")


def read_turns(path: Path) -> list[str]:
    if path.suffix == ".txt":
        return path.read_text(encoding="utf-8").splitlines()
    dialogues = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(dialogues, dict):
        records = visdial.parse(dialogues, path).dialogues.values()
        return [turn(*said, TextSettings()) for record in records for said in record.rounds]
    turns = [said for dialogue in dialogues for said in dialogue["dialog"][1:]]
    return [said if said.endswith((".", "?", "!")) else f"{said}." for said in turns]


def read_captions(path: Path) -> list[str]:
    if path.suffix == ".txt":
        return path.read_text(encoding="utf-8").splitlines()
    return [annotation["caption"] for annotation in json.loads(path.read_text(encoding="utf-8"))["annotations"]]


# --- timing --------------------------------------------------------------------------------------------------------


class Clock:
    """Seconds of wall and of CPU by contestant; `device` is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.cpu: dict[str, list[float]] = defaultdict(list)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def time(self, name: str, function: Callable[[], Any]) -> Any:
        self.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        self.wait()
        self.wall[name].append(time.perf_counter() - wall)
        self.cpu[name].append(time.process_time() - cpu)
        return result

    def row(self, name: str, texts: int, **more: Any) -> dict[str, Any]:
        wall, cpu = statistics.median(self.wall[name]), statistics.median(self.cpu[name])
        return {
            "contestant": name,
            "seconds": round(wall, 3),
            "cpu_seconds": round(cpu, 3),
            "texts_per_second": round(texts / wall, 1),
            "runs": len(self.wall[name]),
            **more,
        }


@contextlib.contextmanager
def counting() -> Iterator[list[int]]:
    """FLOPs of every product of the project's encoders made meanwhile."""
    flops = [0]
    original = products.Product.__call__

    def counted(self: products.Product, x: torch.Tensor) -> torch.Tensor:
        flops[0] += 2 * len(x) * self.inputs * self.outputs
        return original(self, x)

    products.Product.__call__ = counted  # type: ignore[method-assign]
    try:
        yield flops
    finally:
        products.Product.__call__ = original  # type: ignore[method-assign]


def gemm_rates(clock: Clock) -> dict[str, float]:
    """GFLOP/s of a square product of 2,048 by torch.mm and by the routine the encoders use; best of 5."""
    a, b = (torch.randn(2048, 2048, device=clock.device) for _ in range(2))
    product = products.Product(b)
    rates = {}
    for name, function in (("torch.mm", lambda: a @ b), ("encoders", lambda: product(a))):
        best = float("inf")
        for _ in range(6):
            clock.wait()
            start = time.perf_counter()
            for _ in range(3):
                function()
            clock.wait()
            best = min(best, (time.perf_counter() - start) / 3)
        rates[name] = round(2 * 2048**3 / best / 1e9, 1)
    return rates


def gemm_share(function: Callable[[], Any]) -> dict[str, float] | None:
    """Share of the CPU's time in matrix products, by the profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        start = time.perf_counter()
        function()
        total = time.perf_counter() - start
    seconds = sum(event.self_cpu_time_total for event in profiled.key_averages() if event.key in GEMM_OPERATORS) / 1e6
    return {"share": round(seconds / total, 3), "seconds": seconds}


# --- Skip-Thought --------------------------------------------------------------------------------------------------


def random_gru(rng: np.random.Generator, width: int, dim: int) -> Gru:
    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape, np.float32) / np.sqrt(shape[0])).astype(np.float32)

    return Gru(draw(width, 2 * dim), draw(2 * dim), draw(dim, 2 * dim), draw(width, dim), draw(dim), draw(dim, dim))


class PlainGru:
    """The plain method: torch.nn.GRU over batches of texts of exactly one length, and the input product in it."""

    def __init__(self, grus: dict[str, Gru], vectors: dict[str, np.ndarray], device: torch.device) -> None:
        self.device = device
        self.vectors = {name: torch.from_numpy(table).to(device) for name, table in vectors.items()}
        self.networks = {"u": self.network(grus["uni"]), "b": self.network(grus["forward"], grus["reverse"])}

    def network(self, *grus: Gru) -> nn.GRU:
        network = nn.GRU(E, grus[0].dim, batch_first=True, bidirectional=len(grus) == 2)
        for gru, suffix in zip(grus, ("", "_reverse")):
            for name, value in (
                ("weight_ih_l0", np.concatenate([gru.W, gru.Wx], 1).T),
                ("weight_hh_l0", np.concatenate([gru.U, gru.Ux], 1).T),
                ("bias_ih_l0", np.concatenate([gru.b, gru.bx])),
                ("bias_hh_l0", np.zeros(3 * gru.dim, np.float32)),
            ):
                getattr(network, name + suffix).data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        return network.eval().to(self.device)

    def encode(self, sequences: list[list[int]], batch: int) -> np.ndarray:
        out = np.empty((len(sequences), UNI + 2 * BI), np.float32)
        for rows, ids in exact_batches(sequences, batch):
            indices = torch.from_numpy(ids).to(self.device)
            halves = []
            for name, network in self.networks.items():
                _, last = network(self.vectors[name][indices])
                halves.append(F.normalize(last.transpose(0, 1).reshape(len(rows), -1)))
            out[rows] = torch.cat(halves, 1).cpu().numpy()
        return out


def exact_batches(sequences: list[list[int]], batch: int) -> Iterator[tuple[list[int], np.ndarray]]:
    by_length = defaultdict(list)
    for row, sequence in enumerate(sequences):
        by_length[len(sequence)].append(row)
    for rows in by_length.values():
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            yield part, np.array([sequences[row] for row in part])


class Cadene:
    """UniSkip and BiSkip of the PyPI package skipthoughts 0.0.1, exact-length batches (its quickest way)."""

    def __init__(self, grus: dict[str, Gru], vectors: dict[str, np.ndarray], words: list[str], device: str) -> None:
        import skipthoughts

        self.device = device
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "dictionary.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
            for half, prefixes in (
                ("uni", {"encoder_": "uni"}),
                ("bi", {"encoder_": "forward", "encoder_r_": "reverse"}),
            ):
                arrays = {
                    prefix + key: getattr(grus[gru], key)
                    for prefix, gru in prefixes.items()
                    for key in ("W", "b", "U", "Wx", "bx", "Ux")
                }
                np.savez(folder / f"{half}_skip.npz", **arrays)
                with (folder / f"{half[0]}table.npy").open("wb") as file:
                    theano_writer.write_object_table(file, vectors[half[0]], native=())
            self.uni = skipthoughts.UniSkip(str(folder), words).eval().to(device)
            self.bi = skipthoughts.BiSkip(str(folder), words).eval().to(device)

    def encode(self, sequences: list[list[int]], batch: int) -> np.ndarray:
        out = np.empty((len(sequences), UNI + 2 * BI), np.float32)
        for rows, ids in exact_batches(sequences, batch):
            indices = torch.from_numpy(ids + 1).to(self.device)
            lengths = [ids.shape[1]] * len(rows)
            halves = [self.uni(indices, lengths), self.bi(indices, lengths)]
            out[rows] = torch.cat([F.normalize(half) for half in halves], 1).cpu().numpy()
        return out


def ours(directions: list[list[prefix_tree.Direction]], sequences: list[list[int]]) -> np.ndarray:
    ordered, place = prefix_tree.distinct(sequences)
    out = np.empty((len(ordered), UNI + 2 * BI), np.float32)
    for piece in prefix_tree.pieces(ordered):
        tree = prefix_tree.Sequences(ordered[piece])
        column = 0
        for half in directions:
            start = column
            for direction in half:
                direction.last_states(tree, out[piece, column : column + direction.dim])
                column += direction.dim
            prefix_tree.to_unit_length(out[piece, start:column])
    return out[place]


def networks(
    words: int, device: torch.device
) -> tuple[dict[str, Gru], dict[str, np.ndarray], list[list[prefix_tree.Direction]]]:
    """Random GRUs and word vectors at the published dimensions, and ours made of them."""
    rng = np.random.default_rng(0)
    grus = {"uni": random_gru(rng, E, UNI), "forward": random_gru(rng, E, BI), "reverse": random_gru(rng, E, BI)}
    vectors = {name: rng.standard_normal((words, E), np.float32) for name in "ub"}
    directions = [
        [prefix_tree.Direction(grus["uni"], vectors["u"], False, device)],
        [prefix_tree.Direction(grus[name], vectors["b"], name == "reverse", device) for name in ("forward", "reverse")],
    ]
    return grus, vectors, directions


def skip_thought(texts: list[str], device: torch.device, mode: str, runs: int, peers: bool) -> dict[str, Any]:
    tokenize = tokens.tokenizer("treebank-3.2.5")
    split = [words for words in map(tokenize, texts) if words]
    words = sorted({word for sentence in split for word in sentence} | {theano.UNKNOWN, theano.END})
    number = {word: i for i, word in enumerate(words)}
    sequences = [[number[word] for word in sentence] for sentence in split]
    grus, vectors, directions = networks(len(words), device)
    contestants: dict[str, Callable[[], np.ndarray]] = {"chatpainter": lambda: ours(directions, sequences)}
    batches = {}
    with fp32_precision(mode), torch.inference_mode():
        others: dict[str, Any] = {}
        if peers:
            others["torch.nn.GRU, exact lengths"] = PlainGru(grus, vectors, device)
            with contextlib.suppress(ImportError):
                others["skipthoughts 0.0.1"] = Cadene(grus, vectors, words, str(device))
        for name, other in others.items():
            batches[name] = best_batch(partial(other.encode, sequences[:SAMPLE]), device)
            contestants[name] = partial(other.encode, sequences, batches[name])
        measured = measure(contestants, runs, device)
    total = sum(map(len, sequences))
    summary = {
        "texts": len(sequences),
        "distinct": len({tuple(sequence) for sequence in sequences}),
        "tokens": total,
        "words": len(words),
        "plain_gflop": round(total * PLAIN_TOKEN / 1e9, 1),
    }
    return finish(summary, measured, len(sequences), batches, mode)


# --- char-CNN-RNN --------------------------------------------------------------------------------------------------


class PaddedNet:
    """The plain method: one-hot (n, 70, 201), three convolutions, 18 steps of six maps."""

    def __init__(self, weights: reed.CharCnnRnnWeights, device: torch.device) -> None:
        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.device = device
        self.weights = weights
        self.convolutions = []
        channels = reed.ALPHABET
        for weight, bias in weights.convolutions:
            kernel = weight.reshape(len(weight), -1, channels).transpose(0, 2, 1)
            self.convolutions.append((tensor(kernel), tensor(bias)))
            channels = len(weight)
        self.maps = {name: (tensor(weight), tensor(bias)) for name, (weight, bias) in weights.maps.items()}
        self.projection = [tensor(array) for array in weights.projection]

    def encode(self, rows: np.ndarray, batch: int) -> np.ndarray:
        return np.concatenate([self.batch(rows[start : start + batch]) for start in range(0, len(rows), batch)])

    def batch(self, rows: np.ndarray) -> np.ndarray:
        channels = torch.from_numpy(rows.astype(np.int64)).to(self.device)
        x = F.one_hot(channels, reed.ALPHABET + 1)[..., :-1].float().transpose(1, 2)
        for (weight, bias), pool in zip(self.convolutions, self.weights.pools):
            x = F.threshold(F.conv1d(x, weight, bias), self.weights.threshold, 0.0)
            x = F.max_pool1d(x, pool.width, pool.stride) if pool else x
        columns = x.permute(2, 0, 1).contiguous()

        def apply(name: str, value: torch.Tensor) -> torch.Tensor:
            return F.linear(value, *self.maps[name])

        h = torch.tanh(apply("input", columns[0]))
        total = h.clone()
        for column in columns[1:]:
            z = torch.sigmoid(apply("input_update", column) + apply("hidden_update", h))
            r = torch.sigmoid(apply("input_reset", column) + apply("hidden_reset", h))
            h = z * torch.tanh(apply("input", column) + apply("hidden", r * h)) + (1 - z) * h
            total += h
        return F.linear(total / self.weights.steps, *self.projection).cpu().numpy()


def captions(texts: list[str], device: torch.device, mode: str, runs: int, peers: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.t7"
        path.write_bytes(untrained.char_cnn_rnn(untrained.SIZES["published"], seed=0))
        weights = reed.load(path)
    read = [char_cnn_rnn.channels(text, CharCnnRnnSettings())[0] for text in texts]
    rows = np.full((len(read), reed.LENGTH), char_cnn_rnn.NOTHING, np.uint8)
    for row, found in zip(rows, read):
        row[: len(found)] = found
    lengths = np.array([len(found) for found in read])
    net, padded = CharacterNet(weights, device), PaddedNet(weights, device)
    piece = char_cnn_rnn.MOST_TEXTS

    def encode() -> np.ndarray:
        starts = range(0, len(rows), piece)
        return np.concatenate([net(rows[start : start + piece], lengths[start : start + piece]) for start in starts])

    contestants: dict[str, Callable[[], np.ndarray]] = {"chatpainter": encode}
    batches = {}
    with fp32_precision(mode), torch.inference_mode():
        if peers:
            batch = batches["padded"] = best_batch(partial(padded.encode, rows[:SAMPLE]), device)
            contestants["padded"] = lambda: padded.encode(rows, batch)
        measured = measure(contestants, runs, device)
    summary = {
        "texts": len(texts),
        "distinct": len(set(texts)),
        "mean_bytes": round(float(lengths.mean()), 1),
        "plain_gflop": round(len(texts) * PLAIN_CAPTION / 1e9, 1),
    }
    return finish(summary, measured, len(texts), batches, mode)


# --- together ------------------------------------------------------------------------------------------------------


def best_batch(encode: Callable[[int], Any], device: torch.device) -> int:
    clock = Clock(device)
    for batch in BATCHES:
        clock.time(str(batch), partial(encode, batch))
    seconds = clock.cpu if device.type == "cpu" else clock.wall
    return min(BATCHES, key=lambda batch: seconds[str(batch)][0])


@dataclass
class Measured:
    clock: Clock
    results: dict[str, np.ndarray]  # of every contestant
    rates: dict[str, float]  # GFLOP/s of the machine's own matrix products
    flops: int  # that ours did
    share: dict[str, float] | None  # of our time inside matrix products, on a CPU


def measure(contestants: dict[str, Callable[[], np.ndarray]], runs: int, device: torch.device) -> Measured:
    """Contestants take turns, `runs` times, after ours has warmed the machine."""
    ours = contestants["chatpainter"]
    ours()
    clock = Clock(device)
    for _ in range(runs):
        results = {name: clock.time(name, contestant) for name, contestant in contestants.items()}
    rates = gemm_rates(clock)
    share = None
    with counting() as flops:
        if device.type == "cpu":
            share = gemm_share(ours)
        else:
            ours()
    return Measured(clock, results, rates, flops[0], share)


def finish(
    summary: dict[str, Any], measured: Measured, texts: int, batches: dict[str, int], mode: str
) -> dict[str, Any]:
    clock, results, flops, share = measured.clock, measured.results, measured.flops, measured.share
    rates = measured.rates
    mine = clock.row("chatpainter", texts)
    rows = [mine]
    for name in results:
        if name != "chatpainter":
            row = clock.row(name, texts, batch=batches[name])
            row["times_slower"] = round(row["seconds"] / mine["seconds"], 2)
            row["times_slower_cpu"] = round(row["cpu_seconds"] / mine["cpu_seconds"], 2)
            row["largest_difference"] = float(np.abs(results[name] - results["chatpainter"]).max())
            rows.append(row)
    summary |= {
        "precision": mode,
        "gflop": round(flops / 1e9, 1),
        "plain_over_done": round(summary["plain_gflop"] * 1e9 / flops, 2),
        "machine_gflops": rates,
        "gflops": round(flops / mine["seconds"] / 1e9, 1),
        "share_of_floor": round(flops / mine["seconds"] / 1e9 / max(rates.values()), 3),
    }
    if share:
        summary["gemm_share"] = share["share"]
        summary["gemm_gflops"] = round(flops / share["seconds"] / 1e9, 1)
        summary["gemm_rate_share"] = round(summary["gemm_gflops"] / max(rates.values()), 3)
    return {"summary": summary, "rows": rows}


def tokenising(texts: list[str]) -> dict[str, Any]:
    """Texts a second of one process: tokenising, and the sha256 over all texts that keys a shard."""
    import hashlib

    tokenize = tokens.tokenizer("treebank-3.2.5")
    clock = Clock(torch.device("cpu"))
    clock.time("tokenise", lambda: [tokenize(text) for text in texts])
    clock.time("tokenise again", lambda: [tokenize(text) for text in texts])
    clock.time("hash", lambda: hashlib.sha256("\0".join(texts).encode()).hexdigest())
    return {"rows": [clock.row(name, len(texts)) for name in clock.wall]}


@click.command()
@click.option("--turns", type=click.Path(exists=True, path_type=Path), help="Dialogue turns (see above).")
@click.option("--captions", "captions_path", type=click.Path(exists=True, path_type=Path), help="Captions (see above).")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=int, default=machine.cores(), show_default=True)
@click.option("--runs", type=int, default=3, show_default=True, help="Runs of each contestant.")
@click.option("--count", type=int, multiple=True, help="Turns to take. [default: 4096 and all]")
@click.option("--captions-count", type=int, default=4096, show_default=True)
@click.option("--peers/--no-peers", default=True, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="[default: benchmarks/results/encode-DEVICE.json]")
def main(
    turns: Path | None,
    captions_path: Path | None,
    device: str,
    threads: int,
    runs: int,
    count: tuple[int, ...],
    captions_count: int,
    peers: bool,
    out: Path | None,
) -> None:
    """Time the encoders beside their peers; print tables and write JSON."""
    if turns is None and captions_path is None:
        raise click.UsageError("name a file of turns (--turns), of captions (--captions), or both")
    torch.set_num_threads(threads)
    where = torch.device(device)
    result: dict[str, Any] = {
        "machine": machine.describe(),
        "threads": threads,
    }
    modes = ("float32", "tf32") if device == "cuda" else ("float32",)
    if turns:
        texts = read_turns(turns)
        result["tokenise"] = tokenising(texts)
        show("tokenise", result["tokenise"])
        for mode in modes:
            for number in count or (4096, len(texts)):
                key = f"turns {number} {mode}"
                result[key] = skip_thought(texts[:number], where, mode, runs, peers)
                show(key, result[key])
    if captions_path:
        for mode in modes:
            key = f"captions {captions_count} {mode}"
            result[key] = captions(read_captions(captions_path)[:captions_count], where, mode, runs, peers)
            show(key, result[key])
    path = out or Path(__file__).parent / "results" / f"encode-{device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(path)


def show(title: str, result: dict[str, Any]) -> None:
    click.echo(f"\n{title}")
    if "summary" in result:
        click.echo("  " + ", ".join(f"{key} {value}" for key, value in result["summary"].items()))
    for row in result["rows"]:
        click.echo("  " + ", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
