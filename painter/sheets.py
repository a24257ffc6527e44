"""Pictures set on sheets: grids with their words beneath, film strips of a growing dialogue, walks between texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from painter.dialogue import Dialogue
from painter.painter import Painter
from store.errors import ChatPainterError

FRAME_MS = 900
LAST_FRAME_MS = 2500


def grid(
    painter: Painter,
    dialogues: Sequence[Dialogue],
    out: Path,
    *,
    count: int = 1,
    seed: int = 0,
    truncation: float = 1.0,
    real: np.ndarray | None = None,
    stage: str | None = None,
    plain: bool = False,
) -> None:
    """One column a dialogue (several noises stand below each other), or one column a noise if there is one dialogue.

    Args:
        real: (d, s, s, 3) real pictures to set above.
        stage: "1", "2", "both", or None for the last.

    Raises:
        ChatPainterError: the generator has no stage 2, or `plain` with more than one picture.
    """
    from trainer.grids import write_grid

    if stage in ("2", "both") and painter.generator.stage == 1:
        raise ChatPainterError("this generator is of stage 1; --stage 2 needs one that training of stage 2 left behind")
    by_size = [painter.stages(d.caption, d.rounds, count, seed, truncation) for d in dialogues]
    sizes = {"1": [64], "both": list(painter.generator.sizes)}.get(stage or "", [painter.size])
    if plain:
        if len(dialogues) * count * len(sizes) > 1:
            raise ChatPainterError("--plain writes one picture; leave out -n, --from and --stage both")
        _save(by_size[0][sizes[0]][0], out)
        return
    words = [_words(dialogue) for dialogue in dialogues]
    rows, left = [], []
    if len(dialogues) == 1:
        for size in sizes:
            rows.append(by_size[0][size])
            left.append(f"stage {1 if size == 64 else 2}" if len(sizes) > 1 else "")
        if real is not None:
            rows = [np.concatenate([_enlarged(real, row.shape[1]), row]) for row in rows]
        words = words[:1]
    else:
        if real is not None:
            rows.append(_enlarged(real, max(sizes)))
            left.append("real")
        for size in sizes:
            for number in range(count):
                rows.append(np.stack([pictures[size][number] for pictures in by_size]))
                left.append(_label(size, number, count, len(sizes)))
    write_grid(rows, out, below=words, left=left if any(left) else ())


def film(
    painter: Painter,
    dialogues: Sequence[Dialogue],
    out: Path,
    *,
    count: int = 1,
    seed: int = 0,
    truncation: float = 1.0,
    real: np.ndarray | None = None,
) -> None:
    """Every dialogue from its caption alone to all its rounds: columns of a PNG strip, or moments of a GIF."""
    from trainer.grids import write_grid

    if len(dialogues) > 1:
        raise ChatPainterError(f"--every-round shows one dialogue, {len(dialogues)} were given; name one")
    (dialogue,) = dialogues
    pictures = painter.paint_batch(dialogue.prefixes(), count, seed, truncation)
    captions = [dialogue.caption, *(_round(*each) for each in dialogue.rounds)]
    if out.suffix.lower() == ".gif":
        _save_film([np.concatenate(list(step), 1) for step in pictures], captions, out)
        return
    rows = list(pictures.swapaxes(0, 1))
    if real is not None:
        rows = [np.concatenate([row, _enlarged(real, row.shape[1])]) for row in rows]
        captions.append("(the real picture)")
    write_grid(rows, out, below=[[text] for text in captions])


def walk(
    painter: Painter,
    first: Dialogue,
    last: Dialogue,
    out: Path,
    *,
    steps: int,
    seeds: tuple[int, int],
    truncation: float = 1.0,
) -> None:
    """From one text (or noise) to another: a row of a PNG, or moments of a GIF that goes there and back."""
    from trainer.grids import write_grid

    pictures = painter.between(first, last, steps, seeds, truncation)
    if out.suffix.lower() == ".gif":
        there_and_back = [*pictures, *pictures[-2:0:-1]]
        _save_film(there_and_back, [], out, milliseconds=max(40, 2000 // steps))
        return
    ends = [_words(first), *([] for _ in range(steps - 2)), _words(last)]
    if first == last:
        ends = [[*_words(first), f"noise of seed {seeds[0]}"], *ends[1:-1], [f"noise of seed {seeds[1]}"]]
    write_grid([pictures], out, below=ends)


def changes(painter: Painter, dialogue: Dialogue, n: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which round changed what: the picture painted without each round, and how far each pixel moved.

    Returns:
        pictures (r + 1, s, s, 3) uint8 of the first noise: all rounds, then without round 0, 1, …; and the mean absolute
        difference to all rounds over colours and `n` noises, (r, s, s) float32 in [0, 255].
    """
    rounds = len(dialogue.rounds)
    painted = painter.paint_batch([dialogue, *(dialogue.without(i) for i in range(rounds))], n, seed)
    moved = np.abs(painted[1:].astype(np.float32) - painted[:1].astype(np.float32)).mean((1, 4))
    return painted[:, 0], moved


def said_of(data: Path, split: str, image_ids: Sequence[int]) -> list[Dialogue]:
    """Caption (the first) and rounds of images of a split, from the indexes of its embedding stores.

    Raises:
        ChatPainterError: no such store, or the image is not in it.
    """
    from store import Store

    folder = data / "embeddings" / split
    captions, turns = Store(folder / "captions").index, Store(folder / "turns").index
    found = []
    for image_id in image_ids:
        words = [row["text"] for row in _rows(captions, image_id)]
        if not words:
            raise ChatPainterError(f"{folder / 'captions'}: no image {image_id}; its index.parquet lists those there are")
        rounds = [text for row in _rows(turns, image_id) for text in row["texts"]]
        found.append(Dialogue(words[0], tuple(_parted(text) for text in rounds), image_id))
    return found
