"""One iteration of AttnGAN, from top to bottom: every discriminator's step, then the generator's.

All share one forward pass of the generator. Nothing here waits for the device.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.distributed import Ranks, gather_rows, synchronise_batchnorm
from trainer.feed.augment import at_sides, augment
from trainer.feed.inputs import CAPTIONS, CLASSES, LENGTH, WORDS, Batch
from trainer.feed.pairs import mismatched_rows
from trainer.feed.sampler import Draws, microbatches
from trainer.networks import average, losses
from trainer.networks.attention import Tokens, first
from trainer.networks.diffaugment import DRAWS, diffaugment
from trainer.networks.words import Sharpness, TextFeatures, damsm_loss
from trainer.optimising import Checkpointed, Report, Updates, adam, autocast, rates_of, set_learning_rates
from trainer.systems.attngan.config import AttnGanConfig
from trainer.systems.attngan.discriminator import Discriminator
from trainer.systems.attngan.networks import AttnGanGenerator, GeneratorOutput
from trainer.systems.damsm.image_encoders import ImageEncoder
from trainer.systems.text_reader import cut_dialogues


class Microbatch(NamedTuple):
    """Rows of the batch that take one way forward and back, and what is random about them."""

    texts: Batch  # with the dialogues cut where they are
    real: dict[int, Tensor]  # by side, (b, 3, s, s), the same crops
    noise: Tensor  # (b, z)
    epsilon: Tensor  # (b, c)
    draws: Draws  # for what is drawn on the way


class TextEncoding(NamedTuple):
    """What the generator makes of a microbatch's texts."""

    text: Tensor  # (b, T) for Conditioning Augmentation
    sentence: Tensor  # (b, d) that discriminators are told, without gradient
    words: Tokens
    turns: Tokens | None
    tokens: dict[str, Tokens] | None  # what regions are matched with, where turns are attended

    def apart(self) -> "dict[str, Tokens] | None":
        """The tokens, without the way back into the text's layers."""
        return self.tokens and {kind: Tokens(one.vectors.detach(), one.there) for kind, one in self.tokens.items()}


class AttnGan(Checkpointed):
    """The generator, a discriminator for each side, their optimisers, the average: a `trainer.systems.Trainable`.

    Args:
        discriminators: one for each side that is painted, smallest first.
        image_encoder: the DAMSM's image encoder, frozen, where the generator is told how well words and regions match.
    """

    checkpointed = ("generator", "discriminators", "average", "g_optimizer")
    shown = (
        ("D", ("d_loss",)),
        ("G", ("g_loss",)),
        ("DAMSM", ("words_loss", "sentence_loss")),
        ("KL", ("kl",)),
        ("lr", ("lr_g", "lr_d")),
    )

    def __init__(
        self,
        generator: AttnGanGenerator,
        discriminators: list[Discriminator],
        image_encoder: ImageEncoder | None,
        training: AttnGanConfig,
        ranks: Ranks,
    ) -> None:
        self.training, self.ranks, self.device = training, ranks, ranks.device
        layout = torch.channels_last if training.channels_last else torch.contiguous_format

        def placed(network: Any) -> Any:
            if training.sync_batchnorm:
                network = synchronise_batchnorm(network, ranks)
            return network.to(self.device).to(memory_format=layout).train()

        self.generator: AttnGanGenerator = placed(generator)
        self.opponents: list[Discriminator] = [placed(network) for network in discriminators]
        self.discriminators = nn.ModuleList(self.opponents)
        self.image_encoder = None if image_encoder is None else image_encoder.to(self.device).to(memory_format=layout)
        if self.image_encoder is not None:
            self.image_encoder.eval().requires_grad_(False)
        self.average = AttnGanGenerator(generator.settings).to(self.device).to(memory_format=layout)
        self.average.eval().requires_grad_(False).load_state_dict(generator.state_dict())
        self.g_optimizer = adam([{"params": list(self.generator.parameters()), "lr": training.g_lr}], training.betas)
        self.d_optimizers = [
            adam([{"params": list(network.parameters()), "lr": training.d_lr}], training.betas)
            for network in self.opponents
        ]
        self.updates = Updates(self.device)
        self.networks: tuple[nn.Module, ...] = (self.generator, *self.opponents, self.average)
        self.sharpness = Sharpness(training.focus, training.pooling, training.scale, training.root)
        if training.compile:
            self.generator.network.compile(dynamic=False)
            for network in self.opponents:
                network.compile(dynamic=False)

    def step(self, batch: Batch, images_seen: int, epoch: int, report: Report) -> None:
        """Train all networks once on one process's share of a batch.

        Args:
            images_seen, epoch: those before this iteration.
            report: takes figures by name, tensors that stay on the device.
        """
        training = self.training
        set_learning_rates(training, epoch, self.g_optimizer, *self.d_optimizers)
        parts = [
            self.microbatch(texts, draws) for texts, draws in microbatches(batch, training, images_seen, self.ranks)
        ]

        # With several parts only one graph is kept at a time: each part is painted again for the generator's step,
        # with the same draws and unmoved BatchNorm statistics.
        alone = len(parts) == 1
        for part in parts:
            with torch.set_grad_enabled(alone):
                encoding = self.encode(part)
                painted = self.paint(encoding, part)
            total, figures = self.discriminators_loss(part, encoding, painted)
            (total / training.accumulate).backward()
            report({"d_loss": total, **figures})
        for side, network, optimizer in zip(self.sides, self.opponents, self.d_optimizers):
            report({f"d{side}_grad_norm": self.updates(optimizer, list(network.parameters()))})

        self.discriminators.requires_grad_(False)
        for part in parts:
            if not alone:
                with average.unmoved_statistics(self.generator):
                    encoding = self.encode(part)
                    painted = self.paint(encoding, part)
            total, figures = self.generator_loss(part, encoding, painted)
            (total / training.accumulate).backward()
            report(figures)
        report({"g_grad_norm": self.updates(self.g_optimizer, list(self.generator.parameters()))})
        self.discriminators.requires_grad_(True)
        seen = images_seen + training.batch
        average.update_average(self.average, self.generator, training.ema_half_life, seen, training.batch)

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the pictures that are painted, smallest first."""
        return self.training.sides

    def microbatch(self, texts: Batch, draws: Draws) -> Microbatch:
        """Rows of the batch, with all that is random about them."""
        training = self.training
        crop = draws.uniform("crop", 3) if training.crop == "random" else None
        pictures = augment(texts["images"], training.crop_side or max(self.sides), crop, training.flip)
        if training.cut_dialogues:
            texts = cut_dialogues(texts, training.cut_dialogues, draws.uniform("end of the dialogue", 2))
        noise = draws.normal("noise", training.noise_dim)
        return Microbatch(
            texts, at_sides(pictures, self.sides), noise, draws.normal("condition", training.condition_dim), draws
        )

    def encode(self, part: Microbatch) -> TextEncoding:
        """What the generator makes of the microbatch's texts."""
        with autocast(self.training, self.device):
            encoded = self.generator.encode(part.texts)
            words, turns = self.generator.heard(encoded)
        told = encoded["text"] if self.training.d_condition == "text" else encoded[CAPTIONS.name]
        return TextEncoding(encoded["text"], told.detach(), words, turns, self.generator.tokens(encoded))

    def paint(self, encoding: TextEncoding, part: Microbatch) -> GeneratorOutput:
        """Pictures of every side."""
        shuffled = self.training.mask == "shuffled"
        with autocast(self.training, self.device):
            painted: GeneratorOutput = self.generator.network(
                encoding.text, part.noise, part.epsilon, encoding.words, encoding.turns, shuffled=shuffled
            )
        return painted

    def discriminators_loss(
        self, part: Microbatch, encoding: TextEncoding, painted: GeneratorOutput
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """() summed over the sides, and the figures to report."""
        figures: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.device)
        for side, network in zip(self.sides, self.opponents):
            real, fake = part.real[side], painted.pictures[side].detach()
            loss, logits = self.discriminator_loss(network, part, encoding, real, fake)
            total = total + loss
            figures |= {f"d{side}_{name}": value for name, value in logits.items()}
        return total, figures

    def discriminator_loss(
        self, network: Discriminator, part: Microbatch, encoding: TextEncoding, real: Tensor, fake: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """() of one side's real, mismatched and painted pairs, and its logits."""
        training = self.training
        with autocast(training, self.device):
            seen = network(self.augmented(real, part, "real"))
            r, w, f, plain = pair_logits(
                network,
                seen.features,
                network(self.augmented(fake, part, "painted")).features,
                encoding.sentence,
                *wrong_pairs(part.texts["image_id"], training.wrong_pairs),
            )
            loss = losses.matching_aware(r, w, f, training.loss, plain)
            figures = {"real": r, "wrong": w, "fake": f}
            loss = loss + self.matching_loss(network, seen.regions, encoding.apart(), figures)
        return loss, figures

    def generator_loss(
        self, part: Microbatch, encoding: TextEncoding, painted: GeneratorOutput
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(), and the figures to report."""
        training = self.training
        figures: dict[str, Tensor] = {}
        adversarial = torch.zeros((), device=self.device)
        with autocast(training, self.device):
            for side, network in zip(self.sides, self.opponents):
                seen = network(self.augmented(painted.pictures[side], part, "painted anew"))
                adversarial = adversarial + losses.generator(
                    network.COND_DNET(seen.features, encoding.sentence), training.loss
                )
                if network.UNCOND_DNET is not None:
                    adversarial = adversarial + losses.generator(network.UNCOND_DNET(seen.features), training.loss)
                adversarial = adversarial + self.matching_loss(network, seen.regions, encoding.tokens, figures)
        words, sentence = self.words_and_sentence_loss(part, painted)
        divergence = losses.kl(painted.mu, painted.logvar)
        total = adversarial + training.damsm_weight * (words + sentence) + training.kl_weight * divergence
        gates = {
            name.partition(".")[0]: value.detach()
            for name, value in self.generator.network.named_parameters()
            if name.endswith(".turns_gate")
        }
        return total, {
            "g_loss": adversarial,
            "words_loss": words,
            "sentence_loss": sentence,
            "kl": divergence,
            **{f"g_{name}": value for name, value in figures.items()},
            **{f"{stage}_turns": gate for stage, gate in gates.items()},
        }

    def words_and_sentence_loss(self, part: Microbatch, painted: GeneratorOutput) -> tuple[Tensor, Tensor]:
        """How badly the largest pictures show their words, and their sentences, by the DAMSM; zeros without it."""
        if self.image_encoder is None:
            return torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        words, lengths = part.texts[WORDS.name].float(), part.texts[WORDS.name + LENGTH]
        told = TextFeatures(words, first(lengths, words.shape[1]), part.texts[CAPTIONS.name].float())
        with autocast(self.training, self.device):
            seen = self.image_encoder(painted.pictures[self.sides[-1]])
        gather = gather_rows if self.ranks.world > 1 else None
        seen = type(seen)(*(value.float() for value in seen))
        classes = part.texts[CLASSES.name].flatten().long() if self.training.classes else None
        found = damsm_loss(seen, told, classes, self.sharpness, self.ranks.rank, gather)
        return found.w0 + found.w1, found.s0 + found.s1

    def matching_loss(
        self,
        network: Discriminator,
        regions: Tensor | None,
        tokens: dict[str, Tokens] | None,
        figures: dict[str, Tensor],
    ) -> Tensor:
        """() how badly regions of the pictures and what was said find each other; adds figures."""
        weights = self.training.matching
        if network.matching is None or regions is None or tokens is None:
            return torch.zeros((), device=self.device)
        found = network.matching(regions, tokens, self.ranks.rank, gather_rows if self.ranks.world > 1 else None)
        figures |= {"matching": found.pooled, "matching_single": found.single}
        return weights.pooled * found.pooled + weights.single * found.single

    def augmented(self, pictures: Tensor, part: Microbatch, which: str) -> Tensor:
        """(b, 3, s, s) as a discriminator gets them; `which` of the step's pictures they are."""
        if self.training.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        if not self.training.diffaugment:
            return pictures
        return diffaugment(pictures, part.draws.uniform(f"diffaugment {which} {pictures.shape[-1]}", DRAWS))

    def learning_rates(self) -> dict[str, float]:
        """Of the generator and of every discriminator, now."""
        return rates_of(lr_g=self.g_optimizer, lr_d=self.d_optimizers[0])

    def state_dict(self) -> dict[str, Any]:
        """Everything that continuing needs; the image encoder stays in its own file."""
        return {
            **super().state_dict(),
            "d_optimizers": [optimizer.state_dict() for optimizer in self.d_optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state)
        for optimizer, values in zip(self.d_optimizers, state["d_optimizers"], strict=True):
            optimizer.load_state_dict(values)


def wrong_pairs(image_ids: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Pictures (n,) and texts (n,) of the mismatched pairs, rows of the batch.

    cyclic: every picture with the next text of another image. published: every one but the last with the next row's
    text, as AttnGAN has them.
    """
    rows = torch.arange(len(image_ids), device=image_ids.device)
    if kind == "published":
        return rows[:-1], rows[1:]
    return rows, mismatched_rows(image_ids)[0][:, 0]


def pair_logits(
    network: Discriminator, real: Tensor, fake: Tensor, sentence: Tensor, pictures: Tensor, texts: Tensor
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Logits of real, mismatched (`pictures` with `texts`) and painted pairs, and of real and painted without a text.

    real and fake are features (B, f, 4, 4), each judged in a call of its own, as BatchNorm minds.
    """
    r = network.COND_DNET(real, sentence)
    f = network.COND_DNET(fake, sentence)
    w = network.COND_DNET(real.index_select(0, pictures), sentence.index_select(0, texts))
    if network.UNCOND_DNET is None:
        return r, w, f, None
    return r, w, f, (network.UNCOND_DNET(real), network.UNCOND_DNET(fake))
