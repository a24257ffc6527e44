"""One iteration: a batch of dialogues, turn by turn; at each turn the discriminator's step, then the generator's.

What turns words into features learns once a dialogue. The dialogue's GRU and what reads turns learn from the
discriminator alone, over all turns; the previous picture's encoder from the generator's loss.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trainer.distributed import Ranks
from trainer.feed.inputs import CAPTIONS, Batch
from trainer.feed.pairs import mismatched_rows
from trainer.feed.sampler import microbatches
from trainer.networks import average
from trainer.optimising import Checkpointed, Report, Updates, adam, autocast, rates_of, set_learning_rates
from trainer.systems.geneva import losses
from trainer.systems.geneva.config import GenevaConfig
from trainer.systems.geneva.dialogues import Dialogues, Turn
from trainer.systems.geneva.discriminator import Discriminator
from trainer.systems.geneva.networks import GeneratorOutput, GenevaGenerator


class Geneva(Checkpointed):
    """All networks, their optimisers and the generator's average: a `trainer.systems.Trainable`."""

    checkpointed = ("generator", "discriminator", "average")
    shown = (
        ("D", ("d_real", "d_wrong", "d_fake")),
        ("G", ("g_loss",)),
        ("KL", ("kl",)),
        ("lr", ("lr_g", "lr_d", "lr_rnn", "lr_features")),
    )

    def __init__(self, generator: GenevaGenerator, discriminator: Discriminator, training: GenevaConfig, ranks: Ranks):
        self.training, self.ranks, self.device = training, ranks, ranks.device
        self.generator, self.discriminator = generator.to(self.device).train(), discriminator.to(self.device).train()
        self.average = GenevaGenerator(generator.settings).to(self.device)
        self.average.eval().requires_grad_(False).load_state_dict(generator.state_dict())
        self.networks = (self.generator, self.discriminator, self.average)
        for network in self.networks:
            network.to(memory_format=torch.channels_last)
        features: list[nn.Module] = [generator.image_encoder, generator.condition_encoder]
        features += [] if generator.caption_encoder is None else [generator.caption_encoder]
        # The layer norm after the GRU is in no optimiser, as in the original: it stays at 1 and 0.
        generator.layer_norm.requires_grad_(False)
        learns: dict[str, tuple[list[nn.Module], float, tuple[float, float]]] = {
            "g": ([generator.generator], training.g_lr, training.betas),
            "d": ([discriminator], training.d_lr, training.betas),
            "rnn": ([generator.rnn], training.rnn_lr, training.encoder_betas),
            "features": (features, training.features_lr, training.encoder_betas),
        }
        self.parameters = {
            name: [p for module in modules for p in module.parameters()] for name, (modules, _, _) in learns.items()
        }
        self.optimizers = {
            name: adam([{"params": self.parameters[name], "lr": rate}], betas)
            for name, (_, rate, betas) in learns.items()
        }
        self.updates = Updates(self.device)

    def step(self, batch: Batch, images_seen: int, epoch: int, report: Report) -> None:
        """Train on every turn of one process's share of a batch of dialogues."""
        training, generator = self.training, self.generator
        set_learning_rates(training, epoch, *self.optimizers.values())
        ((batch, draws),) = microbatches(batch, training, images_seen, self.ranks)
        dialogues = Dialogues(batch, *generator.turns(batch), training, draws)
        others = mismatched_rows(batch["image_id"])[0][:, 0] if training.ended == "repeated" else None
        own = draws.uniform("goes on from its own pictures") < training.own_pictures

        said = generator.said(dialogues.turns, batch.get(CAPTIONS.name))
        # The way back from the discriminator ends here at every turn, and goes on into the GRU once, at the end.
        heard = said.detach().requires_grad_()
        last: Tensor | None = None
        for number in range(dialogues.longest):
            turn = dialogues.turn(number)
            before = turn.before
            if last is not None and training.own_pictures:
                before = torch.where(own[:, None, None, None], last, before)
            noise = draws.normal(f"noise of turn {number}", generator.noise_dim)
            epsilon = draws.normal(f"condition of turn {number}", generator.condition_dim)
            with autocast(training, self.device):
                painted = generator.next_picture(before, said[:, number].detach(), noise, epsilon)
            last = painted.picture.detach()

            loss, figures = self.discriminator_loss(turn, heard[:, number], last, before, others)
            loss.backward()
            report(figures | {"d_grad_norm": self.updates(self.optimizers["d"], self.parameters["d"])})

            self.discriminator.requires_grad_(False)
            loss, figures = self.generator_loss(turn, said[:, number].detach(), painted, before)
            loss.backward()
            report(figures | {"g_grad_norm": self.updates(self.optimizers["g"], self.parameters["g"])})
            self.discriminator.requires_grad_(True)
        said.backward(heard.grad)
        for name, longest in (("rnn", training.clip), ("features", None)):
            norm = self.updates(self.optimizers[name], self.parameters[name], longest)
            report({f"{name}_grad_norm": norm})
        seen = images_seen + training.batch
        average.update_average(self.average, generator, training.ema_half_life, seen, training.batch)

    def discriminator_loss(
        self, turn: Turn, said: Tensor, painted: Tensor, before: Tensor, others: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(), and the figures to report.

        Args:
            said: (b, h), which learns from it.
            painted, before: (b, 3, s, s), the painted picture and the one that it was painted from.
            others: (b,) whose pictures make the wrong pairs; None: the row after, whatever that shows.
        """
        training, discriminator = self.training, self.discriminator
        # R1 is differentiated twice, which bfloat16 does not bear.
        pictures = turn.real.detach().requires_grad_(training.r1 > 0)
        real = discriminator(pictures, said, turn.before)
        with autocast(self.training, self.device):
            fake = discriminator(painted, said, before)
            if others is None:
                wrong = discriminator(turn.real.roll(-1, 0), said, turn.before.roll(-1, 0))
            else:
                wrong = discriminator(turn.real[others], said, turn.before[others])
        each = losses.discriminator(real.logits, wrong.logits.float(), fake.logits, (training.wrong, training.fake))
        figures = {"d_real": real.logits, "d_wrong": wrong.logits, "d_fake": fake.logits}
        figures = {name: losses.over(logits.detach(), turn.live) for name, logits in figures.items()}
        if turn.new is not None and real.objects is not None and fake.objects is not None:
            named = losses.objects(real.objects, turn.new) + losses.objects(fake.objects, turn.new)
            figures["d_objects"] = losses.over(named.detach(), turn.live)
            each = each + training.auxiliary * named
        loss = losses.over(each, turn.live)
        if training.r1:
            steep = losses.squared_gradient(real.logits, pictures)
            penalty = steep.mean() if training.ended == "padded" else losses.over(steep, turn.live)
            figures["r1"] = penalty.detach()
            loss = loss + training.r1 * penalty
        return loss, {"d_loss": loss.detach(), **figures}

    def generator_loss(
        self, turn: Turn, said: Tensor, painted: GeneratorOutput, before: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(), and the figures to report; the discriminator takes no gradient, and neither does `said` (b, h)."""
        training = self.training
        with autocast(self.training, self.device):
            fake = self.discriminator(painted.picture, said, before)
        loss = losses.over(-fake.logits, turn.live)
        divergence = losses.over(losses.divergence(painted.mu, painted.logvar), turn.live)
        total, figures = loss + training.kl_weight * divergence, {"g_loss": loss.detach(), "kl": divergence.detach()}
        wanted = turn.there if training.painted_objects == "all" else turn.new
        if wanted is not None and fake.objects is not None:
            named = losses.over(losses.objects(fake.objects, wanted), turn.live)
            figures["g_objects"] = named.detach()
            total = total + training.auxiliary * named
        return total, figures

    def learning_rates(self) -> dict[str, float]:
        """Of all optimisers, now."""
        return rates_of(**{f"lr_{name}": one for name, one in self.optimizers.items()})

    def state_dict(self) -> dict[str, Any]:
        """Everything that continuing needs."""
        return super().state_dict() | {"optimizers": {name: one.state_dict() for name, one in self.optimizers.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
