"""A training run: build, continue where it stopped, iterate, write what it leaves behind.

Everything random follows from (seed, images seen), so nothing but the networks, their optimisers and that number is
kept: running the same command again continues as if nothing had happened.
"""

import contextlib
from pathlib import Path

import torch

from store.company import considerate
from store.devices import fp32_precision
from store.errors import ChatPainterError, StoreError
from store.files import error_in_words, is_full
from store.interrupts import Interrupts
from trainer import distributed
from trainer.checkpoints import Checkpoints
from trainer.evaluation.held_out_distance import HeldOutDistance
from trainer.feed.ring import BatchRing
from trainer.logs import grid
from trainer.logs.progress import Progress
from trainer.run import Run
from trainer.run_folder import claimed, describe, save_generator
from trainer.systems import Trainable

PATIENCE = 20  # optimiser steps in a row with a gradient that is not finite


def train(run: Run) -> bool:
    """Train until the configured end; False when a signal ended it earlier (run the same command to continue).

    Raises:
        ChatPainterError: inputs are missing or do not fit, the configuration changed, another process trains in the
            folder, the disk is full, memory is short, or gradients stay non-finite. The message says what to do.
    """
    ranks = distributed.start(run.device)
    try:
        with Interrupts() as interrupts, fp32_precision(run.training.precision), considerate(ranks.device.type):
            return _train(run, ranks, interrupts)
    except torch.OutOfMemoryError:
        section = run.system.name
        raise ChatPainterError(
            f"{section}: out of memory on {ranks.device}; raise {section}.accumulate (the same batch in "
            f"smaller parts), lower {section}.batch, or set {section}.precision: bfloat16"
        ) from None
    except OSError as error:  # of the logs of others, which name no file
        if not is_full(error):
            raise
        raise StoreError(f"{error.filename or run.folder}: {error_in_words(error)}") from None
    finally:
        distributed.stop()


def _train(run: Run, ranks: distributed.Ranks, interrupts: Interrupts) -> bool:
    training = run.training
    torch.backends.cudnn.benchmark = True  # every iteration has the same shapes
    data = run.data(run.split)
    epoch_images = run.epoch_images(data, ranks.world)
    stop_at = run.end(epoch_images)
    trainable = run.system.trainable(run.config, data, ranks, run.start_file)
    with contextlib.ExitStack() as held:
        if ranks.main:
            config = describe(run, trainable.average, data)
            held.enter_context(claimed(run, config, training.end(epoch_images)))
        distributed.wait_for_all()
        checkpoints = Checkpoints(run.folder / "checkpoints", training.keep)
        images_seen = resume(trainable, checkpoints, ranks)
        progress = Progress(
            run.folder,
            total_images=stop_at,
            images_per_epoch=epoch_images,
            images_seen=images_seen,
            device=ranks.device,
            main=ranks.main,
            shown=trainable.shown,
            sinks=run.sinks,
        )
        ring = held.enter_context(
            BatchRing(
                data,
                training.batch,
                seed=training.seed,
                images_seen=images_seen,
                device=ranks.device,
                rank=ranks.rank,
                world=ranks.world,
                threads=training.threads,
            )
        )
        watch = Watch(run, trainable, progress) if ranks.main and run.held_out and trainable.average.names else None
        stopped = False
        while images_seen < stop_at and not stopped:
            trainable.step(next(ring), images_seen, images_seen // epoch_images, progress.report)
            before, images_seen = images_seen, images_seen + training.batch

            stopped = distributed.agree(interrupts.requested)
            last = images_seen >= stop_at or stopped
            saving = crossed(before, images_seen, training.checkpoint_every) or last
            score = watch.distance(images_seen) if watch and saving and not stopped else None
            if crossed(before, images_seen, training.log_every) or last:
                refuse_nonfinite(trainable, checkpoints, saving=False)
                nonfinite = float(trainable.updates.nonfinite)
                progress.tick(images_seen, ring.take_wait(), **trainable.learning_rates(), nonfinite=nonfinite)
            if saving:
                refuse_nonfinite(trainable, checkpoints, saving=True)
            if watch and (crossed(before, images_seen, training.grid_every) or last):
                watch.paint(images_seen)
            if saving and ranks.main:
                with progress.paused():
                    # The checkpoint comes last: a run that is killed before it makes the other files again.
                    best = checkpoints.is_best(images_seen, score)
                    save_generator(run, trainable.average, images_seen, score, best)
                    state = {"trainable": trainable.state_dict(), "images_seen": images_seen}
                    checkpoints.save(state, images_seen, score)
        progress.close()
        distributed.wait_for_all()  # what rank 0 wrote is there when any process leaves
    return not stopped


def resume(trainable: Trainable, checkpoints: Checkpoints, ranks: distributed.Ranks) -> int:
    """Take over the latest checkpoint, if there is one, on every process alike; pictures seen so far."""
    images_seen = 0
    latest = distributed.from_main(str(checkpoints.latest() or "") if ranks.main else "")
    if latest:
        state = checkpoints.load(latest, ranks.device)
        # Checkpoints of 0.1.0 have it under another name.
        trainable.load_state_dict(state["trainable" if "trainable" in state else "players"])
        images_seen = int(state["images_seen"])
        if ranks.main:
            print(f"continuing from {latest}", flush=True)
    distributed.broadcast_parameters(*trainable.networks)
    return images_seen


class Watch:
    """Held-out texts painted on the way: grids for people, and a distance by which the best checkpoint is chosen."""

    def __init__(self, run: Run, trainable: Trainable, progress: Progress) -> None:
        assert run.held_out is not None
        unseen = run.data(run.held_out)
        self._trainable, self._progress, self._folder = trainable, progress, run.folder / "grids"
        self._texts = grid.HeldOutTexts.spread_over(unseen, grid.TEXTS)
        self._distance = HeldOutDistance(unseen, max(trainable.average.names))

    def distance(self, images_seen: int) -> float:
        """Of the average's pictures from real ones."""
        with self._progress.paused():
            found = self._distance(self._trainable.average)
            print(f"held-out distance {found:.4f} after {images_seen:,} pictures", flush=True)
        return found

    def paint(self, images_seen: int) -> Path:
        """A grid of the average's pictures, in the folder and in the logs that show pictures."""
        with self._progress.paused():
            path = self._folder / f"images-{images_seen:012d}.png"
            grid.paint_grid(self._trainable.average, self._texts, path)
            self._progress.picture("grid", path)
        return path


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies after `before`, up to `after`."""
    return before // every != after // every


def refuse_nonfinite(trainable: Trainable, checkpoints: Checkpoints, saving: bool) -> None:
    """Stop when gradients have not been finite for a while, and before a network that is not finite is saved."""
    streak = float(trainable.updates.streak)
    if streak < PATIENCE and not (saving and streak and not trainable.finite()):
        return
    last = checkpoints.latest()
    remedy = f"the last good checkpoint is {last}" if last else "no checkpoint was written yet"
    raise ChatPainterError(
        f"the last {streak:.0f} gradients were not finite; {remedy}. Lower the learning rates, or set "
        "precision: float32, and run again"
    )
