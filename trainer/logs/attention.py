"""Which token each place of a picture listened to: as pictures, and in words ("top left: round 4").

A token is the caption, a round or a word; its share of what a place listens to is what the generator's attention says
(`Listens.listen`), and what is missing to 1 is silence. Attention shows where the generator looked, not why it painted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer import systems

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.systems import Generator

CALLED = {"captions": "caption", "turns": "round", "words": "word"}
"""One token of an input, for people."""
SILENCE = "nothing said"
QUARTERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}
COLOURS = np.array(
    [(136, 34, 85), (51, 34, 136), (17, 119, 51), (221, 204, 119), (136, 204, 238), (204, 102, 119), (68, 170, 153),
     (153, 153, 51), (170, 68, 153), (102, 37, 6)], np.uint8,
)  # fmt: skip
"""Of tokens, in their order and again from the first: Paul Tol's muted scheme, apart for colour-blind eyes too."""
TINT = 0.6
DIMMED = 0.2


@dataclass(frozen=True)
class AttentionMaps:
    """What the places of one picture listened to.

    Attributes:
        tokens: names of the T tokens.
        maps: by side, (T, side, side) float: each token's share of what a place listens to, at most 1 over all tokens.
    """

    tokens: tuple[str, ...]
    maps: Mapping[int, np.ndarray]

    @property
    def shares(self) -> np.ndarray:
        """(T, s, s) float64: mean over all sides, the smaller ones enlarged to the largest, s."""
        largest = max(self.maps)
        return np.mean([_enlarged(shares.astype(np.float64), largest) for shares in self.maps.values()], 0)

    @property
    def most(self) -> np.ndarray:
        """(s, s): number of the token that each place listened to most; T where that was silence."""
        shares = self.shares
        return np.concatenate([shares, 1 - shares.sum(0, keepdims=True)]).argmax(0)

    def words(self) -> list[str]:
        """For the middle of every quarter of the picture the token listened to most, and its mean share there.

        An object said to be in a quarter lies there; around it is ground, which listens to what is said of the ground.

        >>> AttentionMaps(
        ...     ("caption", "round 1"), {2: np.array([[[0.9, 0], [0, 0]], [[0, 0.75], [0, 0.5]]])}
        ... ).words()[:3]
        ['top left: caption (90 %)', 'top right: round 1 (75 %)', 'bottom left: nothing said']
        """
        shares = self.shares
        half = shares.shape[1] // 2
        middle = slice(half // 4, half - half // 4)
        said = []
        for quarter, (row, column) in QUARTERS.items():
            mean = shares[:, row * half :, column * half :][:, middle, middle].mean((1, 2))
            loudest = int(mean.argmax())
            heard = mean[loudest] >= 1 - mean.sum()
            said.append(f"{quarter}: {self.tokens[loudest]} ({mean[loudest]:.0%})".replace("%", " %") if heard
                        else f"{quarter}: {SILENCE}")  # fmt: skip
        return said

    def coloured(self, picture: np.ndarray) -> np.ndarray:
        """(s, s, 3) uint8 → the picture under the colours of what each place listened to most; silence has none."""
        grey = picture.mean(2, keepdims=True)
        most = _enlarged(self.most[None], len(picture))[0]
        tint = COLOURS[most % len(COLOURS)].astype(np.float64)
        tinted = np.where((most < len(self.tokens))[..., None], TINT * tint + (1 - TINT) * grey, grey)
        return tinted.round().astype(np.uint8)

    def alone(self, picture: np.ndarray, token: int) -> np.ndarray:
        """(s, s, 3) uint8 → the picture, bright where the token was listened to, framed in the token's colour."""
        share = self.shares[token]
        light = _enlarged(share[None] / max(float(share.max()), 1e-12), len(picture))[0][..., None]
        lit = (picture * (DIMMED + (1 - DIMMED) * light)).round().astype(np.uint8)
        edge = max(1, len(picture) // 64)
        lit[:edge] = lit[-edge:] = lit[:, :edge] = lit[:, -edge:] = COLOURS[token % len(COLOURS)]
        return lit

    def strip(self, picture: np.ndarray) -> np.ndarray:
        """(2 + T, s, s, 3) uint8: the picture, the picture coloured, and what each token was listened to for."""
        return np.stack([picture, self.coloured(picture), *(self.alone(picture, t) for t in range(len(self.tokens)))])


def attend(generator: "Generator", texts: "Mapping[str, Tensor]", noise: "Tensor") -> list[AttentionMaps]:
    """What each of B pictures listens to while it is painted, with the mean condition.

    Args:
        texts: the inputs by name, as a `Batch` holds them.
        noise: (B, noise_dim).

    Returns:
        B of them; none of a generator whose places do not listen.
    """
    import torch

    if not isinstance(generator, systems.Listens) or not generator.listens_to:
        return []
    with torch.inference_mode():
        maps = generator.listen(generator.encode(texts), noise)
    by_side = {side: shares.float().cpu().numpy() for side, shares in maps.items()}
    found = []
    for row, names in enumerate(_tokens(generator.listens_to, texts, len(noise))):
        there = [number for number, name in enumerate(names) if name]
        kept = {side: shares[row, there] for side, shares in by_side.items()}
        found.append(AttentionMaps(tuple(names[number] for number in there), kept))
    return found


def _tokens(inputs: Sequence[str], texts: "Mapping[str, Tensor]", rows: int) -> list[list[str]]:
    """Names of each row's tokens, "" for those that pad."""
    from trainer.feed.inputs import LENGTH

    named: list[list[str]] = [[] for _ in range(rows)]
    for name in inputs:
        called = CALLED.get(name, name)
        for row, names in enumerate(named):
            if name + LENGTH not in texts:
                names.append(called)
                continue
            longest, there = texts[name].shape[1], int(texts[name + LENGTH][row])
            names += [f"{called} {number + 1}" if number < there else "" for number in range(longest)]
    return named


def _enlarged(maps: np.ndarray, side: int) -> np.ndarray:
    """(n, s, s) → (n, side, side): each place takes the value of the one that it lies in."""
    nearest = (np.arange(side) * maps.shape[1]) // side
    return maps[:, nearest][:, :, nearest]
