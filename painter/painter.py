"""Painter: from words to pictures, with a generator that training left behind.

>>> painter = Painter.from_run(run)                                # a run's folder, or an exported model's
>>> rounds = [("what is the ground like", "sand"), ("what is at the top left", "a small red circle")]
>>> pictures = painter.paint("there are two shapes", rounds, n=2, seed=7)
>>> pictures.shape, pictures.dtype
((2, 256, 256, 3), dtype('uint8'))
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from painter.dialogue import Dialogue, Round
from store import devices
from store.errors import ChatPainterError

if TYPE_CHECKING:
    import torch

    from painter.encoding import Notes, TextEncoders
    from trainer.logs.attention import AttentionMaps
    from trainer.systems import Generator

AT_ONCE = 16
"""Pictures that pass the generator together: a large one needs about 100 MB each."""


class Painter:
    """A generator and the text encoders it was trained with. Safe to share among threads.

    Attributes:
        generator: `trainer.systems.Generator`, in eval mode; its pictures are those of averaged weights.
        text: the encoders, checked to be those of the training.
    """

    def __init__(self, generator: "Generator", text: "TextEncoders"):
        self.generator = generator
        self.text = text

    @classmethod
    def from_run(cls, path: str | Path, *, device: str = "cpu", weights: str | None = None) -> "Painter":
        """The painter of a run's folder, of an exported model's folder, or of a generator file.

        Args:
            device: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.
            weights: folder with the encoders' weight files; by default `encoders/` of an exported model, else what
                params.yaml says.

        Raises:
            ChatPainterError: there is no generator, or the weight files are missing or are not those of its training.
        """
        from painter.encoding import TextEncoders, places
        from trainer import generator_file as files
        from trainer import systems

        file = generator_file(path)
        where = devices.choose(device)
        generator = files.load(file, where)
        systems.require_pictures(generator, file)
        if systems.reads(generator, "objects"):
            raise ChatPainterError(f"{file}: paints scene graphs, not words; use chatpainter-paint graph")
        if not generator.inputs:
            raise ChatPainterError(f"{file}: reads no words, but paints from noise alone; use chatpainter-paint noise")
        found = replace(places(file.parent, weights), device=cast(Any, where.type))
        text = TextEncoders(generator.settings.get("stores"), found, file)
        _refuse_misfit(generator, text, file)
        return cls(generator, text)

    def paint(
        self,
        caption: str,
        rounds: Sequence[Round] = (),
        n: int = 1,
        seed: int = 0,
        truncation: float = 1.0,
    ) -> np.ndarray:
        """`n` pictures of the caption and the talk about it, (n, s, s, 3) uint8; s is 256, or 64 after stage 1 alone.

        Picture i depends on the words, `seed` and i, and (but for rounding) on nothing else: asking for more pictures
        adds to the first ones. Conditioning Augmentation is at its mean: pictures of one text differ by noise alone.

        Args:
            rounds: (question, answer) pairs; fewer than in training, or none, are fine. A generator trained without
                dialogue does not hear them.
            truncation: multiplies the noise; 1 is as in training, 0 takes it away.

        >>> one, two = painter.paint("a red circle", n=2, seed=3)
        >>> again = painter.paint("a red circle", n=2, seed=3)
        >>> bool((one == again[0]).all()), bool((one == two).all())
        (True, False)
        """
        return self.paint_batch([Dialogue(caption, tuple(rounds))], n, seed, truncation)[0]

    def sides(
        self, caption: str, rounds: Sequence[Round] = (), n: int = 1, seed: int = 0, truncation: float = 1.0
    ) -> dict[int, np.ndarray]:
        """Pictures of every size that the generator paints: {64: (n, 64, 64, 3), 256: (n, 256, 256, 3)} uint8.

        >>> {size: pictures.shape for size, pictures in painter.sides("a red circle").items()}
        {64: (1, 64, 64, 3), 256: (1, 256, 256, 3)}
        """
        texts = self.encode([Dialogue(caption, tuple(rounds))])
        return self._generate(
            _rows(texts, lambda rows: rows.expand(n, *rows.shape[1:])), self.noise(n, seed, truncation)
        )

    def paint_batch(
        self, dialogues: Sequence[Dialogue], n: int = 1, seed: int = 0, truncation: float = 1.0
    ) -> np.ndarray:
        """`n` pictures of each of d dialogues, with the same n noises for all: (d, n, s, s, 3) uint8.

        >>> from painter.dialogue import Dialogue
        >>> growing = Dialogue("a red circle", (("is it large", "yes"),)).prefixes()
        >>> painter.paint_batch(growing, n=3).shape
        (2, 3, 256, 256, 3)
        """
        texts = self.encode(dialogues)
        noise = self.noise(n, seed, truncation)
        each = _rows(texts, lambda rows: rows.repeat_interleave(n, 0))
        pictures = self._generate(each, noise.repeat(len(dialogues), 1))[self.size]
        return pictures.reshape(len(dialogues), n, *pictures.shape[1:])

    def interpolate(
        self, first: Dialogue, last: Dialogue, steps: int, seeds: tuple[int, int] = (0, 0), truncation: float = 1.0
    ) -> np.ndarray:
        """(steps, s, s, 3) uint8: on the way from one text, or one noise, to another, both ends included.

        Text vectors, as the generator joins them from caption and dialogue, are mixed linearly; noises along the
        sphere, since their length tells the generator how likely they are.

        >>> from painter.dialogue import Dialogue
        >>> painter.interpolate(Dialogue("a red circle"), Dialogue("a blue square"), steps=5).shape
        (5, 256, 256, 3)
        """
        import torch

        texts = self.encode([first, last])
        ends = torch.cat([self.noise(1, seed, truncation) for seed in seeds])
        shares = torch.linspace(0, 1, steps, device=ends.device)[:, None]
        mixed = _rows(texts, lambda rows: _between(rows[0], rows[1], shares))
        return self._generate(mixed, _along_sphere(ends[0], ends[1], shares))[self.size]

    def attention(
        self, caption: str, rounds: Sequence[Round] = (), n: int = 1, seed: int = 0, truncation: float = 1.0
    ) -> "list[AttentionMaps]":
        """Which part of what was said each place of the n pictures of `paint` listened to.

        [] of a generator whose places do not listen; `AttentionMaps` makes pictures and words of it.
        """
        from trainer.logs.attention import attend

        noise = self.noise(n, seed, truncation)
        texts = self.texts([Dialogue(caption, tuple(rounds))])
        each = _rows(texts, lambda rows: rows.expand(n, *rows.shape[1:]))
        found = []
        for start in range(0, n, AT_ONCE):
            some = slice(start, start + AT_ONCE)
            found += attend(self.generator, {name: rows[some] for name, rows in each.items()}, noise[some])
        return found

    def read(self, dialogue: Dialogue) -> "Notes":
        """Which of the words the encoders do not know, and whether they read the texts to their ends.

        >>> from painter.dialogue import Dialogue
        >>> painter.read(Dialogue("a red circle", (("is there a zyzzyva", "no"),))).unknown
        ['zyzzyva']
        """
        return self.text.read(dialogue)

    @property
    def size(self) -> int:
        """Width and height of a picture."""
        return max(self.generator.names)

    @property
    def hears_dialogue(self) -> bool:
        """False for a generator that was trained on captions alone."""
        return any(one.pick == "first" for one in self.generator.inputs)

    @property
    def listens(self) -> bool:
        """Whether `attention` has something to show."""
        from trainer import systems

        return isinstance(self.generator, systems.Listens) and bool(self.generator.listens_to)

    @property
    def text_trained(self) -> bool:
        """False where the text encoders are untrained ones: they tell texts apart, and mean nothing by it."""
        return self.text.trained

    @property
    def about(self) -> str:
        """The generator in a few words."""
        return f"{self.size} × {self.size} · {' and '.join(one.name for one in self.generator.inputs)}"

    def noise(self, n: int, seed: int = 0, truncation: float = 1.0) -> "torch.Tensor":
        """(n, noise_dim) float32, normal; row i depends on the seed and i alone, on every device alike.

        Raises:
            ChatPainterError: less than one picture, a negative seed, or a truncation that is no number from 0 up.
        """
        return normal(self.generator.noise_dim, n, seed, truncation).to(self._device)

    def texts(self, dialogues: Sequence[Dialogue]) -> "dict[str, torch.Tensor]":
        """The vectors that the generator reads, by name, a row a dialogue (`TextEncoders.encode`).

        Where nothing was said, an input that always has a vector gets the one that the generator knows for it: the
        average dialogue of its training.
        """
        import torch

        found = {name: torch.from_numpy(rows) for name, rows in self.text.encode(dialogues).items()}
        for name, silence in self.generator.silence.items():
            found[name] = torch.where(found[name].any(1, keepdim=True), found[name], silence.cpu())
        return {name: rows.to(self._device) for name, rows in found.items()}

    def encode(self, dialogues: Sequence[Dialogue]) -> "dict[str, torch.Tensor]":
        """What the generator makes of the words: named tensors with a row a dialogue."""
        import torch

        # Padded to the longest of its own piece: prefixes of a long dialogue would otherwise fill the memory.
        pieces = [dialogues[start : start + AT_ONCE] for start in range(0, len(dialogues), AT_ONCE)]
        with torch.inference_mode():
            found = [self.generator.encode(self.texts(piece)) for piece in pieces]
        return {name: _joined([one[name] for one in found]) for name in found[0]}

    def _generate(self, texts: "dict[str, torch.Tensor]", noise: "torch.Tensor") -> dict[int, np.ndarray]:
        """What `encode` gave for B texts, noise (B, z) → pictures (B, s, s, 3) uint8 by size."""
        import torch

        from trainer.feed.augment import to_uint8

        parts: dict[int, list[np.ndarray]] = {size: [] for size in self.generator.names}
        with torch.inference_mode():
            for start in range(0, len(noise), AT_ONCE):
                some = slice(start, start + AT_ONCE)
                painted = self.generator.draw({name: rows[some] for name, rows in texts.items()}, noise[some])
                for size, pictures in painted.items():
                    parts[size].append(to_uint8(pictures).cpu().numpy())
        return {size: np.concatenate(found) for size, found in parts.items()}

    @property
    def _device(self) -> "torch.device":
        return next(self.generator.parameters()).device


def normal(dim: int, n: int, seed: int, truncation: float) -> "torch.Tensor":
    """(n, dim) float32 on the CPU, as `Painter.noise` gives it."""
    import torch

    if n < 1 or seed < 0 or not (math.isfinite(truncation) and truncation >= 0):
        raise ChatPainterError(
            f"n {n}, seed {seed}, truncation {truncation}: expected n of 1 at least, and a seed and a truncation "
            "of 0 at least"
        )
    rows = [np.random.default_rng([seed, i]).standard_normal(dim) for i in range(n)]
    return torch.from_numpy(np.float32(truncation) * np.stack(rows).astype(np.float32))


def _rows(
    texts: "dict[str, torch.Tensor]", change: "Callable[[torch.Tensor], torch.Tensor]"
) -> "dict[str, torch.Tensor]":
    return {name: change(rows) for name, rows in texts.items()}


def _joined(pieces: "list[torch.Tensor]") -> "torch.Tensor":
    """(b, …) or (b, T, d) each, of any T → all rows, padded with zeros to the longest."""
    import torch

    if pieces[0].ndim == 3:
        longest = max(piece.shape[1] for piece in pieces)
        pieces = [torch.nn.functional.pad(piece, (0, 0, 0, longest - piece.shape[1])) for piece in pieces]
    return torch.cat(pieces)


def _between(first: "torch.Tensor", last: "torch.Tensor", shares: "torch.Tensor") -> "torch.Tensor":
    """Two rows of any shape, shares (steps, 1) → (steps, …) on the straight way; of lengths the longer in between."""
    import torch

    if not first.is_floating_point():
        mixed = torch.maximum(first, last).repeat(len(shares), *[1] * first.ndim)
        mixed[-1], mixed[0] = last, first
        return mixed
    return first + shares.view(-1, *[1] * first.ndim) * (last - first)


def generator_file(path: str | Path) -> Path:
    """generator.safetensors of a run's or exported model's folder; or `path` itself if it is a file.

    Raises:
        ChatPainterError: there is none yet.
    """
    path = Path(path)
    # os.path, unlike pathlib, takes a name that is too long for one that is not there.
    file = path / "generator.safetensors" if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise ChatPainterError(
            f"{file}: no such generator; train one (`make repro`), or name a run's folder with --run"
        )
    return file


def _along_sphere(first: "torch.Tensor", last: "torch.Tensor", shares: "torch.Tensor") -> "torch.Tensor":
    """Spherical interpolation; (z,), (z,), (steps, 1) → (steps, z)."""
    import torch

    lengths = first.norm() * last.norm()
    angle = torch.acos(((first @ last) / lengths.clamp(min=1e-12)).clamp(-1, 1))
    if angle < 1e-4:
        return first + shares * (last - first)
    return (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * last) / torch.sin(angle)


def _refuse_misfit(generator: "Generator", text: "TextEncoders", file: Path) -> None:
    """A file may name encoders whose vectors its own network cannot take."""
    wanted = dict(generator.dims)
    found = {"captions": text.captions.dim}
    if text.words is not None:
        found["words"] = text.words.words(["a"]).vectors.shape[1]
    if text.heard is not None:
        found[text.heard] = text.dialogue.dim
    if wanted != found:
        raise ChatPainterError(
            f"{file}: reads vectors of {wanted}, but the encoders that it names make {found}; train or export it again"
        )
