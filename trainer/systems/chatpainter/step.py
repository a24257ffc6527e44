"""One iteration of either stage, from top to bottom: the discriminator's step, then the generator's.

Both share one forward pass of the generator (as StackGAN's trainer does). Nothing here waits for the device:
figures stay on it until the log asks for them.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.distributed import Ranks, gather_rows, synchronise_batchnorm
from trainer.feed.augment import augment
from trainer.feed.films import pictures_after
from trainer.feed.inputs import LENGTH, TURNS, Batch
from trainer.feed.labels import Labels
from trainer.feed.pairs import mismatched_rows
from trainer.feed.sampler import Draws, microbatches
from trainer.networks import average, losses
from trainer.networks.attention import Tokens
from trainer.networks.diffaugment import DRAWS, diffaugment
from trainer.networks.trunk import DiscriminatorFeatures
from trainer.optimising import Checkpointed, Report, Updates, adam, autocast, rates_of, set_learning_rates
from trainer.systems.chatpainter.config import Stage1Config, Stage2Config
from trainer.systems.chatpainter.discriminator import Discriminator
from trainer.systems.chatpainter.networks import ChatPainterGenerator, GeneratorOutput
from trainer.systems.text_reader import cut_dialogues


class Microbatch(NamedTuple):
    """Rows of the batch that take one way forward and back, and what is random about them."""

    texts: Batch  # with the dialogues cut where they are
    pictures: Tensor  # real (b, 3, s, s), cropped and flipped
    noise: Tensor  # (b, z)
    epsilon: Tensor  # (stages, b, c): of the stage's own condition, then of stage 1's inside stage 2
    draws: Draws  # for what is drawn on the way


class TextEncoding(NamedTuple):
    """What the networks make of a microbatch's texts."""

    text: Tensor  # (b, T) caption and dialogue for Conditioning Augmentation, and for D's own layer
    tokens: dict[str, Tokens] | None  # what places and regions are told, where there is attention

    def detach(self) -> "TextEncoding":
        """The same, without the way back into the text's layers."""
        tokens = self.tokens and {kind: Tokens(one.vectors.detach(), one.there) for kind, one in self.tokens.items()}
        return TextEncoding(self.text.detach(), tokens)


class Gan(Checkpointed):
    """Both networks, their optimisers and the generator's average: a `trainer.systems.Trainable`.

    Args:
        labels: of the training images, where the discriminator names objects.
    """

    checkpointed = ("generator", "discriminator", "average", "g_optimizer", "d_optimizer")
    shown = (
        ("D", ("d_real", "d_wrong", "d_fake")),
        ("G", ("g_loss",)),
        ("KL", ("kl",)),
        ("mu", ("mu_spread",)),
        ("lr", ("lr_g", "lr_d")),
    )

    def __init__(
        self,
        generator: ChatPainterGenerator,
        discriminator: Discriminator,
        training: Stage1Config,
        ranks: Ranks,
        labels: Labels | None = None,
    ):
        self.training, self.ranks, self.device, self.labels = training, ranks, ranks.device, labels
        if training.sync_batchnorm:
            generator = synchronise_batchnorm(generator, ranks)
            discriminator = synchronise_batchnorm(discriminator, ranks)
        layout = torch.channels_last if training.channels_last else torch.contiguous_format
        self.generator = generator.to(self.device).to(memory_format=layout).train()
        self.discriminator = discriminator.to(self.device).to(memory_format=layout).train()
        groups = [{"params": own_parameters(generator, training), "lr": training.g_lr}]
        if isinstance(training, Stage2Config) and training.finetune_stage1:
            groups.append({"params": list(generator.first.parameters()), "lr": training.finetune_stage1})
        self.average = ChatPainterGenerator(generator.settings).to(self.device).to(memory_format=layout)
        self.average.eval().requires_grad_(False).load_state_dict(generator.state_dict())
        self.g_optimizer = adam(groups, training.betas)
        self.d_optimizer = adam([{"params": list(discriminator.parameters()), "lr": training.d_lr}], training.betas)
        self.d_parameters = list(self.discriminator.parameters())
        self.g_parameters = [p for group in self.g_optimizer.param_groups for p in group["params"]]
        self.updates = Updates(self.device)
        self.networks = (self.generator, self.discriminator, self.average)
        if training.compile:
            self.generator.network.compile(dynamic=False)
            self.discriminator.compile(dynamic=False)

    def step(self, batch: Batch, images_seen: int, epoch: int, report: Report) -> None:
        """Train both networks once on one process's share of a batch.

        Args:
            images_seen, epoch: those before this iteration.
            report: takes figures by name, tensors that stay on the device.
        """
        training = self.training
        set_learning_rates(training, epoch, self.g_optimizer, self.d_optimizer)
        parts = [
            self.microbatch(texts, draws) for texts, draws in microbatches(batch, training, images_seen, self.ranks)
        ]
        penalised = bool(training.penalties) and images_seen // training.batch % training.penalties.every == 0

        # One forward of the generator serves both steps. With several parts only one graph is kept at a time, so
        # each part is painted again for the generator's step, with the same draws and unmoved BatchNorm statistics.
        alone = len(parts) == 1
        for part in parts:
            encoding = self.encode(part)
            with torch.set_grad_enabled(alone):
                painted = self.paint(encoding, part)
            loss, figures = self.discriminator_loss(part, encoding, painted, penalised)
            # The generator's step still needs the text's graph.
            (loss / training.accumulate).backward(retain_graph=alone and encoding.text.requires_grad)
            report(figures)
        report({"d_grad_norm": self.updates(self.d_optimizer, self.d_parameters)})

        self.discriminator.requires_grad_(False)
        for part in parts:
            if not alone:
                with average.unmoved_statistics(self.generator):
                    encoding = self.encode(part)
                    painted = self.paint(encoding, part)
            loss, figures = self.generator_loss(part, encoding, painted)
            (loss / training.accumulate).backward()
            report(figures)
        report({"g_grad_norm": self.updates(self.g_optimizer, self.g_parameters)})
        self.discriminator.requires_grad_(True)
        seen = images_seen + training.batch
        average.update_average(self.average, self.generator, training.ema_half_life, seen, training.batch)

    def microbatch(self, texts: Batch, draws: Draws) -> Microbatch:
        """Rows of the batch, with all that is random about them."""
        training, generator = self.training, self.generator
        # A central crop is not drawn, and neither is a mirror then.
        crop = draws.uniform("crop", 3) if training.crop == "random" else None
        pictures = augment(texts["images"], max(generator.names), crop, training.flip)
        epsilon = [draws.normal(f"condition of {name}", generator.condition_dim) for name in generator.names.values()]
        noise = draws.normal("noise", generator.noise_dim)
        if training.cut_dialogues:
            texts = cut_dialogues(texts, training.cut_dialogues, draws.uniform("end of the dialogue", 2))
        if training.turn_pictures:
            pictures = pictures_after(texts, texts[TURNS.name + LENGTH], max(generator.names))
        return Microbatch(texts, pictures, noise, torch.stack(epsilon[::-1]), draws)

    def encode(self, part: Microbatch) -> TextEncoding:
        """What the networks make of the microbatch's texts."""
        with autocast(self.training, self.device):
            encoded = self.generator.encode(part.texts)
            return TextEncoding(encoded["text"], self.generator.tokens(encoded))

    def paint(self, encoding: TextEncoding, part: Microbatch) -> GeneratorOutput:
        """The stage's pictures."""
        with autocast(self.training, self.device):
            return self.generator.network(encoding.text, part.noise, part.epsilon, encoding.tokens)

    def condition(self, text: Tensor, painted: GeneratorOutput) -> Tensor:
        """What the discriminator's logits are told of the text (b, T), (b, c).

        The generator's mean (StackGAN's code) or its sample (paper 4.1), both without gradient; or what the
        discriminator's own layer makes of the text, with gradient.
        """
        if self.discriminator.embed_text is not None:
            return self.discriminator.embed_text(text)
        return (painted.mu if self.training.d_condition == "mu" else painted.condition).detach()

    def discriminator_loss(
        self, part: Microbatch, encoding: TextEncoding, painted: GeneratorOutput, penalised: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(), and the figures to report (paper eq. 3, 5)."""
        training, discriminator = self.training, self.discriminator
        others, found = mismatched_rows(part.texts["image_id"], training.wrong_candidates)
        with autocast(training, self.device):
            condition = self.condition(encoding.text, painted)
            real = discriminator(self.augmented(part.pictures, part, "real"))
            fake = discriminator(self.augmented(painted.picture.detach(), part, "painted"))
            loss, figures = self.logits_loss(real, fake, condition, others, found)
            loss = loss + self.matching_loss(real, encoding, figures, "d")
        if self.labels is not None:
            loss = loss + training.auxiliary.weight * self.auxiliary_loss(real.features, part, self.labels)
        if penalised:
            figures["penalty"] = self.penalty(part, painted, condition)
            loss = loss + training.penalties.every * figures["penalty"]
        return loss, {"d_loss": loss, **figures}

    def logits_loss(
        self, real: DiscriminatorFeatures, fake: DiscriminatorFeatures, condition: Tensor, others: Tensor, found: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """() of real, mismatched and painted pairs, and logits; others (b, k): other images' rows, if found (b,)."""
        training, score, plain = self.training, self.discriminator.get_cond_logits, self.discriminator.get_uncond_logits
        if score is None:
            assert plain is not None
            r, f = plain(real.features), plain(fake.features)
            return losses.unconditional(r, f, training.loss), {"d_real": r, "d_fake": f}
        r = score(real.features, condition)
        wrong = self.hardest_negative(others, real.features, condition)
        w = score(real.features, condition.index_select(0, wrong))
        f = score(fake.features, condition)
        # Where a part holds one image only there is no mismatched pair: its painted pair counts twice.
        w = torch.where(found, w, f)
        unconditional = None if plain is None else (plain(real.features), plain(fake.features))
        loss = losses.matching_aware(r, w, f, training.loss, unconditional)
        return loss, {"d_real": r, "d_wrong": w, "d_fake": f}

    def hardest_negative(self, others: Tensor, real: Tensor, condition: Tensor) -> Tensor:
        """Of the rows `others` (b, k), for each row the one whose condition D finds most fitting, (b,).

        Most other texts differ from the right one in plain ways, and D, once it sees those, learns nothing from them.
        """
        score = self.discriminator.get_cond_logits
        if others.shape[1] == 1 or score is None:
            return others[:, 0]
        with torch.no_grad():
            logits = torch.stack([score(real, condition[rows]) for rows in others.unbind(1)], 1)
        return others.gather(1, logits.argmax(1, keepdim=True))[:, 0]

    def generator_loss(
        self, part: Microbatch, encoding: TextEncoding, painted: GeneratorOutput
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(), and the figures to report (paper eq. 4, 6); the discriminator takes no gradient."""
        training, discriminator = self.training, self.discriminator
        figures: dict[str, Tensor] = {}
        detached = encoding.detach()
        with autocast(training, self.device):
            seen = discriminator(self.augmented(painted.picture, part, "painted anew"))
            loss = self.game_loss(seen, self.condition(detached.text, painted), part)
            total = loss + self.matching_loss(seen, detached, figures, "g")
        divergence = losses.kl(painted.mu, painted.logvar)
        total = total + training.kl_weight * divergence
        if self.labels is not None:
            total = total + training.auxiliary.weight * self.auxiliary_loss(seen.features, part, self.labels)
        if isinstance(training, Stage2Config) and training.keep_stage1 and painted.stage1 is not None:
            factor = painted.picture.shape[-1] // painted.stage1.shape[-1]
            figures["moved"] = (F.avg_pool2d(painted.picture, factor) - painted.stage1.detach()).abs().mean()
            total = total + training.keep_stage1 * figures["moved"]
        # If the condition's mean hardly differs from text to text, the text is not used.
        spread = painted.mu.detach().std(0)
        active = (spread > 0.01).float().mean()
        return total, {"g_loss": loss, "kl": divergence, "mu_spread": spread, "mu_active": active, **figures}

    def game_loss(self, seen: DiscriminatorFeatures, condition: Tensor, part: Microbatch) -> Tensor:
        """() what the generator loses by all logits of its pictures."""
        training, score, plain = self.training, self.discriminator.get_cond_logits, self.discriminator.get_uncond_logits
        heads: list[Callable[[Tensor], Tensor]] = [] if score is None else [partial(score, condition=condition)]
        heads += [] if plain is None else [plain]
        painted = [head(seen.features) for head in heads]
        if training.loss == "relativistic":
            with torch.no_grad():
                features = self.discriminator(self.augmented(part.pictures, part, "real")).features
                real = [head(features) for head in heads]
            each = [losses.relativistic(low, high) for low, high in zip(painted, real)]
        else:
            saturating = training.generator_loss == "saturating"
            each = [losses.generator(logits, training.loss, saturating) for logits in painted]
        return torch.stack(each).sum()

    def matching_loss(
        self, seen: DiscriminatorFeatures, encoding: TextEncoding, figures: dict[str, Tensor], who: str
    ) -> Tensor:
        """() how badly the pictures of the batch, of all processes, and what was said find each other; adds figures."""
        head, weights = self.discriminator.matching, self.training.matching
        if head is None or seen.regions is None or encoding.tokens is None:
            return torch.zeros((), device=self.device)
        gather = gather_rows if self.ranks.world > 1 else None
        found = head(seen.regions, encoding.tokens, self.ranks.rank, gather)
        figures |= {f"{who}_matching": found.pooled, f"{who}_matching_single": found.single}
        return weights.pooled * found.pooled + weights.single * found.single

    def augmented(self, pictures: Tensor, part: Microbatch, which: str) -> Tensor:
        """(b, 3, s, s) as the discriminator gets them; `which` of the step's pictures they are."""
        if self.training.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        if not self.training.diffaugment:
            return pictures
        return diffaugment(pictures, part.draws.uniform(f"diffaugment {which}", DRAWS))

    def auxiliary_loss(self, features: Tensor, part: Microbatch, labels: Labels) -> Tensor:
        """How badly the discriminator names the objects of the image (paper section 6)."""
        assert self.discriminator.classify is not None
        with torch.autocast(features.device.type, enabled=False):
            logits = self.discriminator.classify(features.float()).flatten(1)
            return F.binary_cross_entropy_with_logits(logits, labels(part.texts["image_id"]))

    def penalty(self, part: Microbatch, painted: GeneratorOutput, condition: Tensor) -> Tensor:
        """The configured gradient penalties, in float32 and never compiled, as neither survives a double backward."""
        weights, discriminator = self.training.penalties, self.discriminator

        def score(pictures: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
            """Logits with the condition, and all logits together."""
            features = discriminator.look(pictures).features
            every = [] if discriminator.get_uncond_logits is None else [discriminator.get_uncond_logits(features)]
            if discriminator.get_cond_logits is not None:
                every.insert(0, discriminator.get_cond_logits(features, condition))
            return every[0], sum(every[1:], every[0])

        total = torch.zeros((), device=self.device)
        real = part.pictures.detach().float().requires_grad_()
        condition = condition.detach().float().requires_grad_()
        if weights.r1 or weights.matching_aware:
            conditional, both = score(real, condition)
            if weights.r1:
                total = total + weights.r1 * losses.r1(both, real)
            if weights.matching_aware:
                total = total + weights.matching_aware * losses.matching_aware_penalty(conditional, real, condition)
        if weights.r2:
            fake = painted.picture.detach().float().requires_grad_()
            total = total + weights.r2 * losses.r1(score(fake, condition)[1], fake)
        if weights.gradient_penalty:
            share = part.draws.uniform("between real and painted", 1, 1, 1)
            between = torch.lerp(real.detach(), painted.picture.detach(), share).requires_grad_()
            total = total + weights.gradient_penalty * losses.gradient_penalty(score(between, condition)[1], between)
        return total

    def learning_rates(self) -> dict[str, float]:
        """Of both networks, now."""
        return rates_of(lr_g=self.g_optimizer, lr_d=self.d_optimizer)


def own_parameters(generator: ChatPainterGenerator, training: Stage1Config) -> list[nn.Parameter]:
    """What a stage's generator learns at its full rate; the rest is fixed here.

    The paper copies the dialogue's RNN and stage 1's generator into stage 2 and keeps both fixed (4.2).
    """
    if not isinstance(training, Stage2Config):
        return list(generator.parameters())
    if generator.dialogue_encoder is not None:
        generator.dialogue_encoder.requires_grad_(False)
    generator.stage2.through_stage1 = training.finetune_stage1 > 0
    generator.first.requires_grad_(training.finetune_stage1 > 0)
    if training.stage1_batchnorm == "frozen":
        generator.first.eval()
    stage1 = set(generator.first.parameters())
    return [p for p in generator.parameters() if p.requires_grad and p not in stage1]
