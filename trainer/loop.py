"""A training run: build, continue where it stopped, iterate, write what it leaves behind.

    runs/stage1/  config.json  log.jsonl  curves.csv  checkpoints/  grids/  generator.safetensors

Everything random follows from (seed, images seen), so nothing but the networks, their optimisers and that number is
kept: running the same command again continues as if nothing had happened.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from store.errors import ChatPainterError
from store.files import replacing, sha256_file
from trainer import distributed
from trainer.batches import BatchRing, TrainingData, images_per_epoch
from trainer.checkpoints import Checkpoints
from trainer.config import ModelConfig, StageConfig, stored_size
from trainer.generator import Generator, settings
from trainer.grids import held_out, paint_grid
from trainer.held_out_score import HeldOutScore
from trainer.interrupts import Interrupts
from trainer.networks.blocks import initialise
from trainer.networks.stage1 import Stage1Discriminator
from trainer.networks.stage2 import Stage2Discriminator
from trainer.progress import Progress
from trainer.step import Discriminator, Labels, Players, Step

MAY_CHANGE = ("epochs", "images", "threads", "log_every", "grid_every", "checkpoint_every", "keep")
GRID_TEXTS = 8
STANDARDISE_ROWS = 4096
PATIENCE = 20  # optimiser steps in a row with a gradient that is not finite


@dataclass(frozen=True)
class Run:
    """What one command asks for."""

    stage: int
    model: ModelConfig
    training: StageConfig
    folder: Path
    embeddings: Path  # data/embeddings
    images: Path  # data/images
    split: str
    held_out: str | None
    stage1: Path | None = None  # run folder or generator file; stage 2 only
    stop_at: int | None = None  # pictures seen at which this command stops
    fork: bool = False
    restart: bool = False
    device: str = "auto"
    sinks: tuple[str, ...] = ()

    def data(self, split: str) -> TrainingData:
        size = stored_size(self.model.side(self.stage))
        return TrainingData(self.embeddings / split, self.images / split / str(size), self.model.dialogue)


def train(run: Run) -> bool:
    """Train until the configured end; False when a signal ended it earlier (run the same command to continue).

    Raises:
        ChatPainterError: inputs are missing or do not fit, the configuration changed, memory is short, or gradients
            stay non-finite. The message says what to do.
    """
    ranks = distributed.start(run.device)
    try:
        with Interrupts() as interrupts:
            return _train(run, ranks, interrupts)
    except torch.OutOfMemoryError:
        section = f"stage{run.stage}"
        raise ChatPainterError(
            f"{section}: out of memory on {ranks.device}; raise {section}.accumulate (the same batch in "
            f"smaller parts), lower {section}.batch, or set {section}.precision: bfloat16"
        ) from None
    finally:
        distributed.stop()


def _train(run: Run, ranks: distributed.Ranks, interrupts: Interrupts) -> bool:
    training = run.training
    precision(training)
    data = run.data(run.split)
    epoch_images = images_per_epoch(len(data), training.batch)
    if not epoch_images:
        raise ChatPainterError(
            f"stage{run.stage}.batch is {training.batch}, but there are {data.report()}; lower the batch"
        )
    if training.batch % (ranks.world * training.accumulate):
        raise ChatPainterError(
            f"stage{run.stage}.batch {training.batch} does not divide among {ranks.world} processes"
            f" x {training.accumulate} parts (accumulate)"
        )
    end = duration(training, epoch_images)
    stop_at = min(end, _whole(run.stop_at, training.batch)) if run.stop_at else end

    generator, discriminator, labels = build(run, data, ranks)
    if training.sync_batchnorm:
        generator = distributed.synchronise_batchnorm(generator, ranks)
        discriminator = distributed.synchronise_batchnorm(discriminator, ranks)
    players = Players(generator, discriminator, training, ranks.device)
    checkpoints = Checkpoints(run.folder / "checkpoints", training.keep)
    config = describe(run, generator, data)
    if ranks.main:
        settle_config(run, config)
    distributed.wait_for_all()
    images_seen = 0
    latest = distributed.from_main(str(checkpoints.latest() or "") if ranks.main else "")
    if latest:
        state = checkpoints.load(latest, ranks.device)
        players.load_state_dict(state["players"])
        images_seen = int(state["images_seen"])
        if ranks.main:
            print(f"continuing from {latest}", flush=True)
    distributed.broadcast_parameters(players.generator, players.discriminator, players.average)

    progress = Progress(
        run.folder,
        total_images=stop_at,
        images_per_epoch=epoch_images,
        images_seen=images_seen,
        device=ranks.device,
        main=ranks.main,
        sinks=run.sinks,
    )
    step = Step(players, progress.report, ranks.rank, labels)
    ring = BatchRing(
        data,
        training.batch,
        seed=training.seed,
        images_seen=images_seen,
        device=ranks.device,
        rank=ranks.rank,
        world=ranks.world,
        threads=training.threads,
    )
    grid = judge = None
    if ranks.main and run.held_out:
        unseen = run.data(run.held_out)
        grid = Grid(unseen, run.folder / "grids", progress)
        judge = HeldOutScore(unseen, run.model.side(run.stage))
    stopped = False
    with ring:
        while images_seen < stop_at and not stopped:
            step(next(ring), images_seen, images_seen // epoch_images)
            before, images_seen = images_seen, images_seen + training.batch

            stopped = distributed.agree(interrupts.requested)
            last = images_seen >= stop_at or stopped
            saving = crossed(before, images_seen, training.checkpoint_every) or last
            score = None
            if saving and judge and not stopped:
                with progress.paused():
                    score = judge(players.average)
                    print(f"held-out distance {score:.4f} after {images_seen:,} pictures", flush=True)
            if crossed(before, images_seen, training.log_every) or last:
                refuse_nonfinite(players, step, checkpoints, saving=False)
                optimizers = players.g_optimizer, players.d_optimizer
                lr_g, lr_d = (float(optimizer.param_groups[0]["lr"]) for optimizer in optimizers)
                nonfinite = float(step.nonfinite)
                progress.tick(images_seen, ring.take_wait(), lr_g=lr_g, lr_d=lr_d, nonfinite=nonfinite)
            if saving:
                refuse_nonfinite(players, step, checkpoints, saving=True)
                if ranks.main:
                    with progress.paused():
                        state = {"players": players.state_dict(), "images_seen": images_seen}
                        path = checkpoints.save(state, images_seen, score)
                        save_generator(run, players, images_seen, score, best=checkpoints.best() == path)
            if grid and (crossed(before, images_seen, training.grid_every) or last):
                with progress.paused():
                    grid.paint(players.average, images_seen)
    progress.close()
    distributed.wait_for_all()  # what rank 0 wrote is there when any process leaves
    return not stopped


def build(run: Run, data: TrainingData, ranks: distributed.Ranks) -> tuple[Generator, Discriminator, Labels | None]:
    """Fresh networks, the same on every process and every machine for the same seed."""
    training = run.training
    labels = None
    if training.auxiliary.weight:
        labels = read_labels(Path(cast(str, training.auxiliary.instances)), data.image_ids, ranks.device)
    classes = 0 if labels is None else labels.labels.shape[1]
    torch.manual_seed(training.seed)
    generator = Generator(
        settings(run.stage, run.model, data.caption_dim, data.dialogue_dim or None, stores=data.identity)
    )
    discriminator = build_discriminator(generator, training, classes)
    if run.stage == 1:
        standardise(generator, data)
    else:
        adopt_stage1(generator, run, data)
    return generator, discriminator, labels


def build_discriminator(generator: Generator, training: StageConfig, classes: int = 0) -> Discriminator:
    """The opponent of `generator`, freshly initialised."""
    kind = Stage1Discriminator if generator.stage == 1 else Stage2Discriminator
    text = generator.text_dim if training.d_condition == "learned" else None
    discriminator = kind(generator.model, training.d_norm, classes, text)
    discriminator.apply(initialise)
    return discriminator


def standardise(generator: Generator, data: TrainingData) -> None:
    """Fit the standardisation to rows spread evenly over the training data: the same rows every time."""
    if not generator.model.standardise:
        return
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), STANDARDISE_ROWS)).astype(np.int64))
    sample = data.gather(rows, rows.astype(np.uint64))
    cast(Any, generator.standardise["captions"]).fit(sample.captions)
    if sample.dialogues is not None:
        vectors = sample.dialogues
        if sample.rounds is not None:
            vectors = vectors[torch.arange(vectors.shape[1]) < sample.rounds[:, None]]
        cast(Any, generator.standardise["dialogues"]).fit(vectors)


def adopt_stage1(generator: Generator, run: Run, data: TrainingData) -> None:
    """Stage 2 takes stage 1's generator, dialogue encoder and standardisation (paper 4.2)."""
    path = stage1_file(run)
    first = Generator.load(path)
    if first.stage != 1:
        raise ChatPainterError(f"{path}: holds stage {first.stage}; stage 2 starts from a stage 1 generator")
    if first.model != run.model:
        changed = ", ".join(differences(asdict(first.model), asdict(run.model)))
        raise ChatPainterError(f"{path}: trained with another model ({changed}); train stage 1 again or restore params")
    data.refuse_other_encoders(first.settings["stores"], str(path))
    generator.stage2.STAGE1_G.load_state_dict(first.stage1.state_dict())
    generator.standardise.load_state_dict(first.standardise.state_dict())
    if generator.dialogue_encoder is not None and first.dialogue_encoder is not None:
        generator.dialogue_encoder.load_state_dict(first.dialogue_encoder.state_dict())


def stage1_file(run: Run) -> Path:
    assert run.stage1 is not None
    return run.stage1 / "generator.safetensors" if run.stage1.is_dir() or not run.stage1.suffix else run.stage1


def dry_run(run: Run) -> str:
    """The resolved configuration and what it would build, for people to read."""
    import yaml

    data = run.data(run.split)
    with torch.device("meta"):
        generator = Generator(settings(run.stage, run.model, data.caption_dim, data.dialogue_dim or None, stores={}))
        discriminator = build_discriminator(generator, run.training)
    epoch_images = images_per_epoch(len(data), run.training.batch)
    own = count(generator.painter.parameters())
    sizes = {"generator": own}
    if run.stage == 2:
        sizes = {"generator": own - count(generator.stage2.STAGE1_G.parameters()), "generator with stage 1": own}
    if generator.dialogue_encoder is not None:
        sizes["dialogue encoder"] = count(generator.dialogue_encoder.parameters())
    sizes["discriminator"] = count(discriminator.parameters())
    resolved = {"model": asdict(run.model), f"stage{run.stage}": asdict(run.training)}
    resolved[f"stage{run.stage}"]["betas"] = list(run.training.betas)
    lines = [yaml.safe_dump(resolved, sort_keys=False).rstrip(), ""]
    lines += [f"{name}: {number:,} parameters" for name, number in sizes.items()]
    lines += [
        f"text: captions of {data.caption_dim} dimensions"
        + (f", {run.model.dialogue} dialogues of {data.dialogue_dim}" if data.dialogue_dim else ""),
        f"data: {data.report()}",
    ]
    if epoch_images:
        total = duration(run.training, epoch_images)
        lines.append(f"duration: {total:,} pictures, {total / epoch_images:.1f} epochs of {epoch_images:,}")
    return "\n".join(lines)


def duration(training: StageConfig, epoch_images: int) -> int:
    """Pictures seen at the configured end, a whole number of batches."""
    if training.images is not None:
        return _whole(training.images, training.batch)
    return cast(int, training.epochs) * epoch_images


def _whole(images: int, batch: int) -> int:
    return max(1, round(images / batch)) * batch


def crossed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def precision(training: StageConfig) -> None:
    """Say what float32 means on this machine: TF32 tensor cores unless `precision: float32` asks for all bits."""
    allowed = training.precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = True


def describe(run: Run, generator: Generator, data: TrainingData) -> dict[str, Any]:
    """What config.json holds: all that decides what is trained, the data's and stage 1's checksums included."""
    return {
        "stage": run.stage,
        "model": asdict(run.model),
        f"stage{run.stage}": asdict(run.training),
        "caption_dim": generator.settings["caption_dim"],
        "dialogue_dim": generator.settings["dialogue_dim"],
        "stores": generator.settings["stores"],
        "split": run.split,
        "data": data.checksums,
        **({"stage1_generator": sha256_file(stage1_file(run))} if run.stage == 2 else {}),
        "parameters": {
            "generator": count(generator.painter.parameters()),
            "dialogue_encoder": count(generator.dialogue_encoder.parameters()) if generator.dialogue_encoder else 0,
        },
    }


def count(parameters: Any) -> int:
    return sum(p.numel() for p in parameters)


def settle_config(run: Run, config: dict[str, Any]) -> None:
    """Write config.json; a run that was started with another one is refused, forked, or set aside for a new one."""
    folder = run.folder
    path = folder / "config.json"
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise ChatPainterError(f"{path}: not JSON; remove the run's folder to start again") from None
        section = f"stage{config['stage']}"
        changed = differences(before, config, ignore=tuple(f"{section}.{name}" for name in MAY_CHANGE))
        if changed and run.restart:
            print(f"{folder}: the configuration changed ({', '.join(changed)}); the old run is {set_aside(folder)}")
        elif changed and not run.fork:
            raise ChatPainterError(
                f"{folder}: was trained with another configuration ({', '.join(changed)}); restore it, name another "
                "--run, continue from its weights with --fork, or set it aside and begin again with --restart"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def set_aside(folder: Path) -> Path:
    """Rename a run's folder to the first free FOLDER.old-N."""
    number = 1
    while (old := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(old)
    return old


def differences(before: Any, after: Any, where: str = "", ignore: tuple[str, ...] = ()) -> list[str]:
    """Every leaf that differs, as `key: before → after`; keys in `ignore` are passed over."""
    if where in ignore:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in dict.fromkeys([*before, *after]):
            found += differences(before.get(key), after.get(key), f"{where}.{key}" if where else str(key), ignore)
        return found
    before = list(before) if isinstance(before, tuple) else before
    after = list(after) if isinstance(after, tuple) else after
    return [] if before == after else [f"{where}: {before} → {after}"]


def refuse_nonfinite(players: Players, step: Step, checkpoints: Checkpoints, saving: bool) -> None:
    """Stop when gradients have not been finite for a while, and before a network that is not finite is saved."""
    streak = float(step.streak)
    if streak < PATIENCE and not (saving and streak and not players.finite()):
        return
    last = checkpoints.latest()
    remedy = f"the last good checkpoint is {last}" if last else "no checkpoint was written yet"
    raise ChatPainterError(
        f"the last {streak:.0f} gradients were not finite; {remedy}. Lower the learning rates, or set "
        "precision: float32, and run again"
    )


class Grid:
    """Held-out texts with fixed noise, painted by the average, beside the real pictures."""

    def __init__(self, unseen: TrainingData, folder: Path, progress: Progress):
        self.texts = held_out(unseen, GRID_TEXTS)
        self.folder = folder
        self.progress = progress

    def paint(self, generator: Generator, images_seen: int) -> None:
        path = paint_grid(generator, self.texts, self.folder / f"images-{images_seen:012d}.png")
        self.progress.picture("grid", path)


def save_generator(run: Run, players: Players, images_seen: int, score: float | None, best: bool) -> None:
    """The average as generator.safetensors, and as generator-best.safetensors if no checkpoint scored better."""
    players.average.settings = {
        **players.generator.settings,
        "training": asdict(run.training),
        "images_seen": images_seen,
        "held_out_distance": score,
    }
    for name in ("generator.safetensors", *(["generator-best.safetensors"] if best else [])):
        players.average.save(run.folder / name)


def read_labels(path: Path, image_ids: np.ndarray, device: torch.device) -> Labels:
    """Which categories each image shows, from a COCO instances file.

    Raises:
        ChatPainterError: the file is missing or is not a COCO instances file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        column = {category["id"]: i for i, category in enumerate(content["categories"])}
        pairs = [(note["image_id"], column[note["category_id"]]) for note in content["annotations"]]
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror}); see auxiliary.instances") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ChatPainterError(f"{path}: not a COCO instances file ({error}); see auxiliary.instances") from None
    row = {int(image_id): i for i, image_id in enumerate(image_ids)}
    labels = torch.zeros(len(image_ids), len(column))
    for image_id, category in pairs:
        if image_id in row:
            labels[row[image_id], category] = 1
    return Labels(torch.from_numpy(np.asarray(image_ids, np.int64)).to(device), labels.to(device))
