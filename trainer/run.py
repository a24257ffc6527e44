"""What one command asks for, and what it can be known by before anything is trained."""

from dataclasses import dataclass
from pathlib import Path

from store.errors import ChatPainterError
from trainer.config import Config, Training
from trainer.feed.data import TrainingData
from trainer.feed.sampler import images_per_epoch
from trainer.systems import System


@dataclass(frozen=True)
class Run:
    """What one command asks for."""

    system: System
    config: Config
    folder: Path
    embeddings: Path  # data/embeddings
    images: Path  # data/images
    split: str
    held_out: str | None
    start: Path | None = None  # run folder or generator file of the system that this one starts from
    stop_at: int | None = None  # pictures seen at which this command stops
    fork: bool = False
    restart: bool = False
    device: str = "auto"
    sinks: tuple[str, ...] = ()
    dataset: str | None = None  # what params.yaml calls the data, for the model card

    @property
    def training(self) -> Training:
        """The system's own section."""
        return self.config.training

    def data(self, split: str) -> TrainingData:
        """The split's stores, as this system reads them."""
        return TrainingData(self.system.inputs(self.config), self.embeddings / split, self.images / split)

    @property
    def start_file(self) -> Path | None:
        """The generator file to start from."""
        if self.start is None:
            return None
        return self.start / "generator.safetensors" if self.start.is_dir() or not self.start.suffix else self.start

    def epoch_images(self, data: TrainingData, world: int = 1) -> int:
        """Images of one epoch.

        Raises:
            ChatPainterError: the batch is larger than the data, or does not divide among `world` processes.
        """
        name, training = self.system.name, self.training
        epoch = images_per_epoch(len(data), training.batch)
        if not epoch:
            raise ChatPainterError(f"{name}.batch is {training.batch}, but there are {data.report()}; lower the batch")
        if training.batch % (world * training.accumulate):
            raise ChatPainterError(
                f"{name}.batch {training.batch} does not divide among {world} processes"
                f" x {training.accumulate} parts (accumulate)"
            )
        return epoch

    def end(self, epoch_images: int) -> int:
        """Pictures seen when this command stops."""
        end = self.training.end(epoch_images)
        return min(end, self.training.whole(self.stop_at)) if self.stop_at else end


def dry_run(run: Run) -> str:
    """The resolved configuration and what it would build, for people to read."""
    import yaml

    data = run.data(run.split)
    epoch_images = images_per_epoch(len(data), run.training.batch)
    lines = [yaml.safe_dump(_lists(run.config.plain()), sort_keys=False).rstrip(), ""]
    lines += [f"{name}: {number:,} parameters" for name, number in run.system.parameters(run.config, data).items()]
    lines += [f"reads: {', '.join(_read(data, one.name) for one in data.inputs)}", f"data: {data.report()}"]
    if epoch_images:
        total = run.training.end(epoch_images)
        lines.append(f"duration: {total:,} pictures, {total / epoch_images:.1f} epochs of {epoch_images:,}")
    return "\n".join(lines)


def _read(data: TrainingData, name: str) -> str:
    """One input in words: its name and the shape of a row."""
    shape = " x ".join(map(str, data.shape(name)))
    longest = data.longest(name)
    return f"{name} ({shape})" if longest is None else f"{name} (up to {longest} x {shape})"


def _lists(value: object) -> object:
    """Tuples as lists, which YAML has a form for."""
    if isinstance(value, dict):
        return {name: _lists(one) for name, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, list | tuple) else value
