"""One iteration of StackGAN++, from top to bottom: every branch's discriminator, then the generator.

All of them share one forward pass of the generator. Nothing here waits for the device: figures stay on it until the log
asks for them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.distributed import Ranks, gather_rows, synchronise_batchnorm
from trainer.feed.augment import at_sides, augment
from trainer.feed.inputs import Batch
from trainer.feed.sampler import Draws, microbatches
from trainer.networks import average, losses
from trainer.networks.attention import Tokens
from trainer.networks.diffaugment import DRAWS, diffaugment
from trainer.networks.trunk import DiscriminatorFeatures
from trainer.optimising import Checkpointed, Report, Updates, adam, autocast, rates_of, set_learning_rates
from trainer.systems.stackgan_v2 import objective
from trainer.systems.stackgan_v2.config import StackGanV2Config
from trainer.systems.stackgan_v2.discriminator import Discriminator
from trainer.systems.stackgan_v2.networks import GeneratorOutput, StackGanV2Generator
from trainer.systems.text_reader import cut_dialogues


class Microbatch(NamedTuple):
    """Rows of the batch that take one way forward and back, and what is random about them."""

    texts: Batch  # with the dialogues cut where they are
    real: dict[int, Tensor]  # by side, (b, 3, s, s), cropped and flipped
    wrong: dict[int, Tensor]  # of another image each, with a crop and flip of its own; empty where no text is read
    noise: Tensor  # (b, z)
    epsilon: Tensor | None  # (b, c)
    draws: Draws  # for what is drawn on the way


class TextEncoding(NamedTuple):
    """What the networks make of a microbatch's texts."""

    text: Tensor | None  # (b, T); None where none is read
    tokens: dict[str, Tokens] | None  # what places and regions are told, where there is attention

    def detach(self) -> "TextEncoding":
        """The same, without the way back into the text's layers."""
        tokens = self.tokens and {kind: Tokens(one.vectors.detach(), one.there) for kind, one in self.tokens.items()}
        return TextEncoding(None if self.text is None else self.text.detach(), tokens)


class StackGanV2(Checkpointed):
    """All networks, their optimisers and the generator's average: a `trainer.systems.Trainable`.

    One Adam for all discriminators is one for each: it knows nothing of a parameter's neighbours.
    """

    checkpointed = ("generator", "discriminators", "average", "g_optimizer", "d_optimizer")
    shown = (("D", ("d_loss",)), ("G", ("g_loss",)), ("KL", ("kl",)), ("lr", ("lr_g", "lr_d")))

    def __init__(
        self,
        generator: StackGanV2Generator,
        discriminators: list[Discriminator],
        training: StackGanV2Config,
        ranks: Ranks,
    ) -> None:
        self.training, self.ranks, self.device = training, ranks, ranks.device
        opponents = nn.ModuleList(discriminators)
        if training.sync_batchnorm:
            generator, opponents = synchronise_batchnorm(generator, ranks), synchronise_batchnorm(opponents, ranks)
        layout = torch.channels_last if training.channels_last else torch.contiguous_format
        self.generator = generator.to(self.device).to(memory_format=layout).train()
        self.discriminators = opponents.to(self.device).to(memory_format=layout).train()
        self.average = StackGanV2Generator(generator.settings).to(self.device).to(memory_format=layout)
        self.average.eval().requires_grad_(False).load_state_dict(generator.state_dict())
        self.g_parameters, self.d_parameters = list(generator.parameters()), list(opponents.parameters())
        self.g_optimizer = adam([{"params": self.g_parameters, "lr": training.g_lr}], training.betas)
        self.d_optimizer = adam([{"params": self.d_parameters, "lr": training.d_lr}], training.betas)
        self.updates = Updates(self.device)
        self.networks = (self.generator, self.discriminators, self.average)
        if training.compile:
            self.generator.network.compile(dynamic=False)
            for one in self.discriminators:
                one.compile(dynamic=False)

    def step(self, batch: Batch, images_seen: int, epoch: int, report: Report) -> None:
        """Train all networks once on one process's share of a batch.

        Args:
            images_seen, epoch: those before this iteration.
            report: takes figures by name, tensors that stay on the device.
        """
        training = self.training
        set_learning_rates(training, epoch, self.g_optimizer, self.d_optimizer)
        parts = [
            self.microbatch(texts, draws) for texts, draws in microbatches(batch, training, images_seen, self.ranks)
        ]

        # With several parts only one graph is kept at a time, so each part is painted again for the generator's step,
        # with the same draws and unmoved BatchNorm statistics.
        alone = len(parts) == 1
        for part in parts:
            encoding = self.encode(part)
            with torch.set_grad_enabled(alone):
                painted = self.paint(encoding, part)
            loss, figures = self.discriminator_loss(part, encoding, painted)
            # The generator's step still needs the text's graph.
            (loss / training.accumulate).backward(
                retain_graph=alone and encoding.text is not None and encoding.text.requires_grad
            )
            report(figures)
        report({"d_grad_norm": self.updates(self.d_optimizer, self.d_parameters)})

        self.discriminators.requires_grad_(False)
        for part in parts:
            if not alone:
                with average.unmoved_statistics(self.generator):
                    encoding = self.encode(part)
                    painted = self.paint(encoding, part)
            loss, figures = self.generator_loss(part, encoding, painted)
            (loss / training.accumulate).backward()
            report(figures)
        report({"g_grad_norm": self.updates(self.g_optimizer, self.g_parameters)})
        self.discriminators.requires_grad_(True)
        if training.ema_decay is not None:
            average.decay_average(self.average, self.generator, training.ema_decay)
        else:
            seen = images_seen + training.batch
            average.update_average(self.average, self.generator, training.ema_half_life, seen, training.batch)

    def microbatch(self, texts: Batch, draws: Draws) -> Microbatch:
        """Rows of the batch, with all that is random about them."""
        training, generator = self.training, self.generator
        sides, epsilon = list(generator.names), None
        real, wrong = self.at_sides(texts["images"], draws, "crop", sides), {}
        if training.conditional:
            wrong = self.at_sides(texts["wrong_images"], draws, "crop of the wrong picture", sides)
            epsilon = draws.normal("condition", generator.condition_dim)
        noise = draws.normal("noise", generator.noise_dim)
        if training.cut_dialogues:
            texts = cut_dialogues(texts, training.cut_dialogues, draws.uniform("end of the dialogue", 2))
        return Microbatch(texts, real, wrong, noise, epsilon, draws)

    def at_sides(self, images: Tensor, draws: Draws, purpose: str, sides: list[int]) -> dict[int, Tensor]:
        """images (b, S, S, 3) uint8 → the same crops at every side."""
        # A central crop is not drawn, and neither is a mirror then.
        crop = draws.uniform(purpose, 3) if self.training.crop == "random" else None
        return at_sides(augment(images, max(sides), crop, self.training.flip), sides)

    def encode(self, part: Microbatch) -> TextEncoding:
        """What the networks make of the microbatch's texts."""
        with autocast(self.training, self.device):
            encoded = self.generator.encode(part.texts)
            return TextEncoding(encoded.get("text"), self.generator.tokens(encoded))

    def paint(self, encoding: TextEncoding, part: Microbatch) -> GeneratorOutput:
        """A picture a branch."""
        with autocast(self.training, self.device):
            return self.generator.network(encoding.text, part.noise, part.epsilon, encoding.tokens)

    def discriminator_loss(
        self, part: Microbatch, encoding: TextEncoding, painted: GeneratorOutput
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """() of all branches together, and the figures to report. Each of three kinds of pictures is a batch alone."""
        training, total = self.training, torch.zeros((), device=self.device)
        figures: dict[str, Tensor] = {}
        for number, (side, network) in enumerate(zip(part.real, self.discriminators), 1):
            with autocast(training, self.device):
                condition = self.condition(network, encoding, painted.mu.detach())
                *real, seen = network(self.augmented(part.real[side], part, f"real {side}"), condition)
                wrong = None
                if part.wrong:
                    wrong = network(self.augmented(part.wrong[side], part, f"wrong {side}"), condition)[:2]
                fake = network(self.augmented(painted.pictures[side].detach(), part, f"painted {side}"), condition)[:2]
                weight, kind = training.unconditional_weight, training.loss
                loss = objective.discriminator(tuple(real), fake, wrong, weight, kind, training.balanced)
                total = total + loss + self.matching_loss(network, seen, encoding, figures, f"d{number}")
            figures |= {f"d{number}_loss": loss, f"d{number}_real": real[0], f"d{number}_fake": fake[0]}
            if wrong is not None:
                figures[f"d{number}_wrong"] = wrong[0]
        return total, {"d_loss": total, **figures}

    def generator_loss(
        self, part: Microbatch, encoding: TextEncoding, painted: GeneratorOutput
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """() for the generator; the discriminators' weights are the new ones, the painted pictures the same."""
        training, detached = self.training, encoding.detach()
        figures: dict[str, Tensor] = {}
        loss = matched = torch.zeros((), device=self.device)
        mu = painted.mu if training.g_through_condition else painted.mu.detach()
        for number, (side, network) in enumerate(zip(part.real, self.discriminators), 1):
            with autocast(training, self.device):
                pictures = self.augmented(painted.pictures[side], part, f"painted anew {side}")
                *fake, seen = network(pictures, self.condition(network, detached, mu))
                loss = loss + objective.generator(tuple(fake), training.unconditional_weight, training.loss)
                matched = matched + self.matching_loss(network, seen, detached, figures, f"g{number}")
        total = loss + matched
        figures["kl"] = losses.kl(painted.mu, painted.logvar) if training.conditional else torch.zeros_like(loss)
        total = total + training.kl_weight * figures["kl"]
        if training.colour_weight:
            figures["colours"] = objective.colour_consistency(list(painted.pictures.values()))
            total = total + training.colour_weight * figures["colours"]
        # If the condition's mean hardly differs from text to text, the text is not used.
        if training.conditional:
            figures["mu_spread"] = painted.mu.detach().std(0)
        return total, {"g_loss": loss, **figures}

    def condition(self, network: nn.Module, encoding: TextEncoding, mu: Tensor) -> Tensor | None:
        """What a discriminator is told of the text, (b, c): the generator's mean, or what its own layer makes of it."""
        if encoding.text is None:
            return None
        embed = network.embed_text
        return mu if embed is None else embed(encoding.text)  # type: ignore[operator]

    def matching_loss(
        self,
        network: nn.Module,
        seen: DiscriminatorFeatures,
        encoding: TextEncoding,
        figures: dict[str, Tensor],
        who: str,
    ) -> Tensor:
        """() how badly the pictures of the batch, of all processes, and what was said find each other; adds figures."""
        head, weights = network.matching, self.training.matching
        if head is None or seen.regions is None or encoding.tokens is None:
            return torch.zeros((), device=self.device)
        gather = gather_rows if self.ranks.world > 1 else None
        found = head(seen.regions, encoding.tokens, self.ranks.rank, gather)  # type: ignore[operator]
        figures |= {f"{who}_matching": found.pooled, f"{who}_matching_single": found.single}
        matched: Tensor = weights.pooled * found.pooled + weights.single * found.single
        return matched

    def augmented(self, pictures: Tensor, part: Microbatch, which: str) -> Tensor:
        """(b, 3, s, s) as a discriminator gets them; `which` of the step's pictures they are."""
        if self.training.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        if not self.training.diffaugment:
            return pictures
        return diffaugment(pictures, part.draws.uniform(f"diffaugment {which}", DRAWS))

    def learning_rates(self) -> dict[str, float]:
        """Of the generator and of the discriminators, now."""
        return rates_of(lr_g=self.g_optimizer, lr_d=self.d_optimizer)
