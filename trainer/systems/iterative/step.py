"""One iteration: of every dialogue of the batch one change of its picture; D's step, then the generator's."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.distributed import Ranks, gather_rows
from trainer.feed.films import pictures_after
from trainer.feed.inputs import TURNS, Batch
from trainer.feed.sampler import Draws, microbatches
from trainer.networks import average, losses
from trainer.networks.attention import Tokens
from trainer.optimising import Checkpointed, Report, Updates, adam, autocast, rates_of, set_learning_rates
from trainer.systems.iterative.changes import Begun, Change, drawn_change, new_turns
from trainer.systems.iterative.config import IterativeConfig
from trainer.systems.iterative.discriminator import Discriminator, DiscriminatorOutput
from trainer.systems.iterative.networks import GeneratorOutput, IterativeGenerator
from trainer.systems.iterative.taught import carrying_loss, listening_loss


class Iterative(Checkpointed):
    """Both networks, their optimisers and the generator's average: a `trainer.systems.Trainable`."""

    checkpointed = ("generator", "discriminator", "average", "g_optimizer", "d_optimizer")
    shown = (
        ("D", ("d_real", "d_fake", "d_matching")),
        ("G", ("g_loss", "g_matching")),
        ("L1", ("l1",)),
        ("listening", ("listening",)),
        ("carrying", ("carrying",)),
        ("lr", ("lr_g", "lr_d")),
    )

    def __init__(
        self, generator: IterativeGenerator, discriminator: Discriminator, training: IterativeConfig, ranks: Ranks
    ):
        self.training, self.ranks, self.device = training, ranks, ranks.device
        self.generator, self.discriminator = generator.to(self.device).train(), discriminator.to(self.device).train()
        self.average = IterativeGenerator(generator.settings).to(self.device)
        self.average.eval().requires_grad_(False).load_state_dict(generator.state_dict())
        self.networks = (self.generator, self.discriminator, self.average)
        for network in self.networks:
            network.to(memory_format=torch.channels_last)
        self.g_parameters, self.d_parameters = list(generator.parameters()), list(discriminator.parameters())
        self.g_optimizer = adam([{"params": self.g_parameters, "lr": training.g_lr}], training.betas)
        self.d_optimizer = adam([{"params": self.d_parameters, "lr": training.d_lr}], training.betas)
        self.updates = Updates(self.device)

    def step(self, batch: Batch, images_seen: int, epoch: int, report: Report) -> None:
        """Train on one process's share of a batch of dialogues."""
        training, generator = self.training, self.generator
        set_learning_rates(training, epoch, self.g_optimizer, self.d_optimizer)
        ((batch, draws),) = microbatches(batch, training, images_seen, self.ranks)
        with torch.no_grad():
            encoded = generator.encode(batch)
            change = self.change(batch, encoded, draws)
            begun = self.begun(batch, encoded, change, draws)
        told = new_turns(encoded[TURNS.name], change, begun)
        with autocast(training, self.device):
            noise = draws.normal("noise", generator.noise_dim)
            painted = generator.next_picture(encoded, begun.before, begun.earlier, noise, change.start, change.end)

        loss, figures = self.discriminator_loss(change, painted.picture.detach(), begun, told)
        loss.backward()
        report(figures | {"d_grad_norm": self.updates(self.d_optimizer, self.d_parameters)})

        self.discriminator.requires_grad_(False)
        loss, figures = self.generator_loss(change, painted, begun, told)
        loss.backward()
        report(figures | {"g_grad_norm": self.updates(self.g_optimizer, self.g_parameters)})
        self.discriminator.requires_grad_(True)
        seen = images_seen + training.batch
        average.update_average(self.average, generator, training.ema_half_life, seen, training.batch)

    def change(self, batch: Batch, encoded: dict[str, Tensor], draws: Draws) -> Change:
        """Which change of each dialogue is trained on: of `candidates` of one turn what the average paints worst.

        Most turns only add, which is soon learned; what is rare and hard would come as seldom as it is said.
        """
        training = self.training
        drawn = draws.uniform("change", 3)
        change = drawn_change(batch, training, drawn)
        rows = (drawn[:, 1] >= training.any_pair).nonzero().flatten()
        if training.candidates == 1 or not len(rows):
            return change
        told = {name: values[rows] for name, values in encoded.items()}
        noise = draws.normal("noise of candidates", self.average.noise_dim)[rows]
        error = self.error(told, change.of(rows), noise)
        for end in draws.uniform("candidates", training.candidates - 1).unbind(1):
            other = drawn_change(batch, training, torch.cat([end[:, None], drawn[:, 1:]], 1))
            wrong = self.error(told, other.of(rows), noise)
            worse = rows[wrong > error]
            error = error.maximum(wrong)
            change = Change(*(kept.index_copy(0, worse, new[worse]) for kept, new in zip(change, other, strict=True)))
        return change

    def error(self, told: dict[str, Tensor], change: Change, noise: Tensor) -> Tensor:
        """(b,) mean distance of what the average paints from the true picture."""
        painted = self.average.next_picture(told, change.before, change.earlier, noise, change.start, change.end)
        return (painted.picture - change.real).abs().flatten(1).mean(1)

    def begun(self, batch: Batch, encoded: dict[str, Tensor], change: Change, draws: Draws) -> Begun:
        """What each change is painted from, the true picture or one of our own of the same turn.

        Our own is painted by the average, turn by turn, from the true picture 1 to `own_turns` turns earlier, every
        number as likely: errors are met as they are in a film, and while they are small.
        """
        training, side = self.training, self.training.networks.size
        if not training.own_pictures:
            return Begun(change.before, change.earlier, torch.zeros_like(change.start, dtype=torch.bool))
        own = (draws.uniform("own pictures") < training.own_pictures) & (change.start > 0)
        turns = (draws.uniform("turns of own pictures") * training.own_turns).long() + 1
        begin = torch.where(own, (change.start - turns).clamp(min=0), change.start)
        picture, earlier = (pictures_after(batch, at.clamp(min=0), side) for at in (begin, begin - 1))
        for number in range(training.own_turns):
            # All arrive together: who has fewer turns to go sets out later.
            start = change.start - training.own_turns + number
            rows = (start >= begin).nonzero().flatten()
            if not len(rows):
                continue
            noise = draws.normal(f"noise of own pictures {number}", self.average.noise_dim)[rows]
            told = {name: values[rows] for name, values in encoded.items()}
            before, start = picture[rows], start[rows]
            painted = self.average.next_picture(told, before, earlier[rows], noise, start, start + 1).picture
            picture, earlier = picture.index_copy(0, rows, painted), earlier.index_copy(0, rows, before)
        return Begun(picture, earlier, own)

    def discriminator_loss(
        self, change: Change, painted: Tensor, begun: Begun, told: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(), and the figures to report; painted (b, 3, s, s).

        Only changes of true pictures count: one of our own has faults by which the next would be known as painted.
        """
        with autocast(self.training, self.device):
            real = self.discriminator(change.real, change.before, change.earlier)
            fake = self.discriminator(painted, begun.before, begun.earlier)
            # At the margin a row loses nothing and teaches nothing.
            counted = real.logits.where(~begun.own, 1.0), fake.logits.where(~begun.own, -1.0)
            loss = losses.unconditional(*counted, "hinge")
            figures = {"d_real": real.logits.detach(), "d_fake": fake.logits.detach()}
            loss = loss + self.matching_loss(real, told, figures, "d")
        return loss, {"d_loss": loss.detach(), **figures}

    def generator_loss(
        self, change: Change, painted: GeneratorOutput, begun: Begun, told: Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(), and the figures to report; the discriminator takes no gradient."""
        training = self.training
        with autocast(training, self.device):
            fake = self.discriminator(painted.picture, begun.before, begun.earlier)
            game = losses.generator(fake.logits.where(~begun.own, 0.0), "hinge")
            figures = {"g_loss": game.detach()}
            loss = training.game * game + self.matching_loss(fake, told, figures, "g")
        distance = F.l1_loss(painted.picture, change.real)
        listening = listening_loss(painted.attention, change, told.vectors.shape[1])
        figures |= {"l1": distance.detach(), "listening": listening.detach()}
        loss = loss + training.l1 * distance + training.listening * listening
        if painted.carried is not None:
            pictures = (begun.before, begun.earlier)[: 1 + training.networks.recent]
            carrying = carrying_loss(painted.carried, change.real, *pictures)
            figures |= {"carrying": carrying.detach()}
            loss = loss + training.carrying * carrying
        return loss, figures

    def matching_loss(self, judged: DiscriminatorOutput, told: Tokens, figures: dict[str, Tensor], who: str) -> Tensor:
        """() how badly the changes of the batch, of all processes, and the turns find each other; adds figures."""
        weights = self.training.matching
        gather = gather_rows if self.ranks.world > 1 else None
        found = self.discriminator.matching(judged.regions, {TURNS.name: told}, self.ranks.rank, gather)
        figures |= {f"{who}_matching": found.pooled.detach(), f"{who}_matching_single": found.single.detach()}
        loss: Tensor = weights.pooled * found.pooled + weights.single * found.single
        return loss

    def learning_rates(self) -> dict[str, float]:
        """Of both networks, now."""
        return rates_of(lr_g=self.g_optimizer, lr_d=self.d_optimizer)
