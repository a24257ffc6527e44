"""One iteration of the DAMSM: encode pictures and captions, compare all with all, move both encoders."""

from typing import Any

import torch
from torch import nn

from trainer.distributed import Ranks, average_gradients, gather_rows, synchronise_batchnorm
from trainer.feed.augment import augment
from trainer.feed.inputs import CLASSES, LENGTH, TOKENS, Batch
from trainer.feed.sampler import microbatches
from trainer.networks.words import Sharpness, damsm_loss
from trainer.optimising import Checkpointed, Report, Updates, adam, autocast, rates_of
from trainer.systems.damsm.config import DamsmConfig
from trainer.systems.damsm.networks import DamsmEncoders, drawn_words


class Damsm(Checkpointed):
    """Both encoders and their optimiser: a `trainer.systems.Trainable`. What it trains is itself what it leaves."""

    checkpointed = ("average", "optimizer")
    shown = (("words", ("w0", "w1")), ("sentences", ("s0", "s1")), ("lr", ("lr",)))

    def __init__(self, encoders: DamsmEncoders, training: DamsmConfig, ranks: Ranks) -> None:
        self.training, self.ranks, self.device = training, ranks, ranks.device
        if training.sync_batchnorm:
            encoders = synchronise_batchnorm(encoders, ranks)
        self.average = encoders.to(self.device)
        if training.channels_last:
            self.average.image.to(memory_format=torch.channels_last)
        self.networks: tuple[nn.Module, ...] = (self.average,)
        self.learned = [p for p in encoders.parameters() if p.requires_grad]
        self.optimizer = adam([{"params": self.learned, "lr": training.lr}], training.betas)
        self.updates = Updates(self.device)
        self.epoch = 0
        if training.compile:
            self.average.image.compile(dynamic=False)

    def step(self, batch: Batch, images_seen: int, epoch: int, report: Report) -> None:
        """One process's share of a batch, in `accumulate` parts, each compared within itself alone."""
        training = self.training
        self.optimizer.param_groups[0]["lr"] = training.rate(epoch)
        if training.restart_adam and epoch != self.epoch:
            self.optimizer.state.clear()
        self.epoch = epoch
        self.average.train()
        for part, draws in microbatches(batch, training, images_seen, self.ranks):
            crop = draws.uniform("crop", 3) if training.crop == "random" else None
            pictures = augment(part["images"], training.side, crop, training.flip)
            ids = part[TOKENS.name][..., 0]
            chosen = draws.uniform("words", ids.shape[1])
            ids, lengths = drawn_words(ids, part[TOKENS.name + LENGTH], training.words, chosen)
            kept = draws.uniform("dropout", ids.shape[1], training.word_dim) < 0.5
            with autocast(training, self.device):
                seen = self.average.image(pictures)
                told = self.average.text_features(ids, lengths, kept)
            gather = gather_rows if self.ranks.world > 1 else None
            sharpness = Sharpness(training.focus, training.pooling, training.scale, training.root)
            classes = part[CLASSES.name].flatten().long() if training.classes else None
            losses = damsm_loss(seen, told, classes, sharpness, self.ranks.rank, gather)
            (losses.total / training.accumulate).backward()
            report({"loss": losses.total, **losses._asdict()})
        text = list(self.average.text.parameters())
        average_gradients(text)
        report({"text_grad_norm": nn.utils.clip_grad_norm_(text, training.clip)})
        report({"grad_norm": self.updates(self.optimizer, self.learned)})
        self.average.eval()

    def learning_rates(self) -> dict[str, float]:
        """One, now."""
        return rates_of(lr=self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Both encoders, Adam's moments, and of which epoch they are."""
        return super().state_dict() | {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state)
        self.epoch = state["epoch"]
