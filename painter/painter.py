"""Painter: from words to pictures, with a generator that training left behind.

>>> painter = Painter.from_run(run)                                # a run's folder, or an exported model's
>>> rounds = [("what is the ground like", "sand"), ("what is at the top left", "a small red circle")]
>>> pictures = painter.paint("there are two shapes", rounds, n=2, seed=7)
>>> pictures.shape, pictures.dtype
((2, 256, 256, 3), dtype('uint8'))
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from painter.dialogue import Dialogue, Round
from store.errors import ChatPainterError

if TYPE_CHECKING:
    import torch

    from painter.encoding import Notes, TextEncoders
    from trainer.generator import Generator

AT_ONCE = 16
"""Pictures that pass the generator together: a large one needs about 100 MB each."""


class Painter:
    """A generator and the text encoders it was trained with. Safe to share among threads.

    Attributes:
        generator: `trainer.generator.Generator`, in eval mode; its pictures are those of averaged weights.
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
        from trainer.generator import Generator

        file = generator_file(path)
        where = _torch_device(device)
        generator = Generator.load(file, where)
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
        return self._generate(texts.expand(n, -1), self.noise(n, seed, truncation))

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
        pictures = self._generate(texts.repeat_interleave(n, 0), noise.repeat(len(dialogues), 1))[self.size]
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
        mixed = texts[0] + shares * (texts[1] - texts[0])
        return self._generate(mixed, _along_sphere(ends[0], ends[1], shares))[self.size]

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
        return max(self.generator.sizes)

    @property
    def hears_dialogue(self) -> bool:
        """False for a generator that was trained on captions alone."""
        return self.generator.dialogue != "none"

    @property
    def text_trained(self) -> bool:
        """False where the text encoders are untrained ones: they tell texts apart, and mean nothing by it."""
        return self.text.trained

    @property
    def about(self) -> str:
        """The generator in a few words."""
        heard = {"none": "caption only", "collapsed": "collapsed dialogue", "recurrent": "recurrent dialogue"}
        return f"{self.size} × {self.size} · {heard[self.generator.dialogue]}"

    def noise(self, n: int, seed: int = 0, truncation: float = 1.0) -> "torch.Tensor":
        """(n, noise_dim) float32, normal; row i depends on the seed and i alone, on every device alike.

        Raises:
            ChatPainterError: less than one picture, a negative seed, or a truncation that is no number from 0 up.
        """
        import torch

        if n < 1 or seed < 0 or not (math.isfinite(truncation) and truncation >= 0):
            raise ChatPainterError(
                f"n {n}, seed {seed}, truncation {truncation}: expected n of 1 at least, and a seed and a truncation "
                "of 0 at least"
            )
        rows = [np.random.default_rng([seed, i]).standard_normal(self.generator.noise_dim) for i in range(n)]
        return torch.from_numpy(np.float32(truncation) * np.stack(rows).astype(np.float32)).to(self._device)

    def encode(self, dialogues: Sequence[Dialogue]) -> "torch.Tensor":
        """(d, text) float32: what the generator makes of the words, caption and dialogue vectors joined.

        A dialogue without rounds adds zeros after the recurrent encoder. A collapsed one adds the average dialogue of
        the training where the generator knows it (`standardise`), zeros otherwise.
        """
        import torch

        # Padded to the longest of its own piece: prefixes of a long dialogue would otherwise fill the memory.
        pieces = [dialogues[start : start + AT_ONCE] for start in range(0, len(dialogues), AT_ONCE)]
        return torch.cat([self._encode(piece) for piece in pieces])

    def _encode(self, dialogues: Sequence[Dialogue]) -> "torch.Tensor":
        import torch

        vectors = self.text.encode(dialogues)

        def tensor(array: np.ndarray | None) -> torch.Tensor | None:
            return None if array is None else torch.from_numpy(array).to(self._device)

        captions, heard = cast(torch.Tensor, tensor(vectors.captions)), tensor(vectors.dialogues)
        if heard is not None and vectors.rounds is None and self.generator.model.standardise:
            silent = ~heard.any(1, keepdim=True)
            heard = torch.where(silent, cast(Any, self.generator.standardise["dialogues"]).mean, heard)
        with torch.inference_mode():
            return self.generator.encode_text(captions, heard, tensor(vectors.rounds))

    def _generate(self, texts: "torch.Tensor", noise: "torch.Tensor") -> dict[int, np.ndarray]:
        """texts (B, text), noise (B, z) → pictures (B, s, s, 3) uint8 by size."""
        import torch

        from trainer.generator import to_uint8

        parts: dict[int, list[np.ndarray]] = {size: [] for size in self.generator.sizes}
        with torch.inference_mode():
            for start in range(0, len(texts), AT_ONCE):
                painted = self.generator.painter(texts[start : start + AT_ONCE], noise[start : start + AT_ONCE])
                for size in parts:
                    pictures = painted.picture if size == self.size else painted.stage1
                    parts[size].append(to_uint8(pictures).cpu().numpy())
        return {size: np.concatenate(found) for size, found in parts.items()}

    @property
    def _device(self) -> "torch.device":
        return next(self.generator.parameters()).device


def generator_file(path: str | Path) -> Path:
    """generator.safetensors of a run's or exported model's folder; or `path` itself if it is a file.

    Raises:
        ChatPainterError: there is none yet.
    """
    path = Path(path)
    file = path / "generator.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ChatPainterError(
            f"{file}: no such generator; train one (`make repro`), or name a run's folder with --run"
        )
    return file


def _torch_device(name: str) -> "torch.device":
    import torch

    from pipeline.encoders.devices import device

    try:
        found = device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ChatPainterError(f"--device {name[:60]!r}: {str(error).splitlines()[0]}; say auto or cpu") from None
    return found


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
    stores = {"none": None, "collapsed": "dialogues", "recurrent": "turns"}
    wanted = {"captions": generator.settings["caption_dim"]}
    found = {"captions": text.captions.dim}
    if (store := stores[generator.dialogue]) is not None:
        wanted[store] = generator.settings["dialogue_dim"]
    if text.heard is not None:
        found[text.heard] = text.dialogue.dim
    if wanted != found:
        raise ChatPainterError(
            f"{file}: reads vectors of {wanted}, but the encoders that it names make {found}; train or export it again"
        )
