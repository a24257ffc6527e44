"""What `chatpainter-paint paint` was asked for, and whether its options go together."""

from dataclasses import dataclass
from pathlib import Path

import click

from painter.dialogue import Dialogue, ask_and_answer, check, read


@dataclass(frozen=True)
class PaintRequest:
    """What `paint` was asked for: its options by their names."""

    caption: str | None
    ask: tuple[str, ...]
    answer: tuple[str, ...]
    source: Path | None
    split: str | None
    image_ids: tuple[int, ...]
    data: Path
    count: int
    seed: int
    truncation: float
    every_round: bool
    attention: bool
    size: int | str | None
    plain: bool
    out: Path
    run: Path | None
    weights: str | None
    device: str

    def dialogues(self) -> list[Dialogue]:
        """What is to be painted, once its options are known to go together.

        Raises:
            click.UsageError: it is said in no way, or in several, or is more than the options show.
            ChatPainterError: a file cannot be read, or the split has no such image.
        """
        dialogues = self._named()
        if self.plain and (len(dialogues) * self.count > 1 or self.size == "all" or self.every_round):
            raise click.UsageError("--plain writes one picture; leave out -n, --from, --every-round and --size all")
        if self.attention and (len(dialogues) * self.count > 1 or self.size or self.every_round or self.plain):
            raise click.UsageError("--attention shows one picture; leave out -n, --every-round, --size and --plain")
        if self.every_round and len(dialogues) > 1:
            raise click.UsageError(f"--every-round shows one dialogue, {len(dialogues)} were given; name one")
        return dialogues

    def _named(self) -> list[Dialogue]:
        if (self.caption is not None) + (self.source is not None) + (self.split is not None) != 1:
            raise click.UsageError("say one of: a caption, --from FILE, or --split NAME with --image-id")
        if bool(self.image_ids) != (self.split is not None):
            raise click.UsageError("--split and --image-id go together")
        if self.caption is None and (self.ask or self.answer):
            raise click.UsageError("--ask and --answer go with a caption")
        if self.source is not None:
            return read(self.source)
        if self.split is not None:
            from painter import splits

            return splits.dialogues(self.data, self.split, self.image_ids)
        assert self.caption is not None
        return [check(Dialogue(self.caption, ask_and_answer(self.ask, self.answer)))]
