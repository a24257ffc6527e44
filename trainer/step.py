"""One iteration of either stage, from top to bottom: the discriminator's step, then the generator's.

Both share one forward pass of the generator (as StackGAN's trainer does). Nothing here waits for the device:
figures stay on it until the log asks for them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import losses
from trainer.batches import Batch, augment, random_stream
from trainer.config import StageConfig
from trainer.diffaugment import diffaugment
from trainer.distributed import average_gradients
from trainer.generator import Generator
from trainer.networks.stage1 import Painted, Stage1Discriminator
from trainer.networks.stage2 import Stage2Discriminator

Discriminator = Stage1Discriminator | Stage2Discriminator


class Draws(NamedTuple):
    """Everything random in one part of a batch; a pure function of its key."""

    pictures: Tensor  # real (b, 3, s, s), cropped and flipped
    noise: Tensor  # (b, z)
    epsilon: Tensor  # (b, c)
    epsilon1: Tensor  # (b, c), stage 1's inside stage 2
    random: torch.Generator  # for what is drawn on the way, always in the same order


class Players:
    """The two networks, their optimisers, and the generator's average."""

    def __init__(self, generator: Generator, discriminator: Discriminator, training: StageConfig, device: torch.device):
        self.training = training
        self.device = device
        layout = torch.channels_last if training.channels_last else torch.contiguous_format
        self.generator = generator.to(device).to(memory_format=layout).train()
        self.discriminator = discriminator.to(device).to(memory_format=layout).train()
        if generator.stage == 2:
            # The paper copies the dialogue's RNN from stage 1 and keeps it fixed.
            if generator.dialogue_encoder is not None:
                generator.dialogue_encoder.requires_grad_(False)
            generator.stage2.STAGE1_G.requires_grad_(training.finetune_stage1 > 0)
            if training.stage1_batchnorm == "frozen":
                generator.stage2.STAGE1_G.eval()
        self.average = Generator(generator.settings).to(device).to(memory_format=layout).eval().requires_grad_(False)
        self.average.load_state_dict(generator.state_dict())
        self.g_optimizer = adam(self._generator_groups(), training, device)
        self.d_optimizer = adam([{"params": list(discriminator.parameters()), "lr": training.d_lr}], training, device)
        self.d_parameters = list(self.discriminator.parameters())
        self.g_parameters = [p for group in self.g_optimizer.param_groups for p in group["params"]]
        if training.compile:
            self.generator.painter.compile(dynamic=False)
            self.discriminator.compile(dynamic=False)

    def _generator_groups(self) -> list[dict]:
        training, generator = self.training, self.generator
        stage1 = set(generator.stage2.STAGE1_G.parameters()) if generator.stage == 2 else set()
        own = [p for p in generator.parameters() if p.requires_grad and p not in stage1]
        groups = [{"params": own, "lr": training.g_lr}]
        if stage1 and training.finetune_stage1:
            groups.append({"params": list(stage1), "lr": training.finetune_stage1})
        return groups

    def set_learning_rates(self, epoch: int) -> None:
        """Halve every `halve_every_epochs` (paper 4.3)."""
        halve = self.training.halve_every_epochs
        factor = 0.5 ** (epoch // halve) if halve else 1.0
        for optimizer in (self.g_optimizer, self.d_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    @torch.no_grad()
    def update_average(self, images_seen: int) -> None:
        """Move the average, buffers included, so that a weight's share halves every `ema_half_life` pictures.

        Early on the half-life is a twentieth of what was seen, or the random start would linger (Karras et al., 2020).
        """
        half_life = min(self.training.ema_half_life, 0.05 * images_seen)
        beta = 0.5 ** (self.training.batch / half_life) if half_life else 0.0
        ours, theirs = self.average.state_dict(), self.generator.state_dict()
        floating = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[n] for n in floating], [theirs[n] for n in floating], 1 - beta)

    def finite(self) -> bool:
        """Whether every weight and statistic is a number; waits for the device."""
        modules = (self.generator, self.discriminator, self.average)
        values = [value for module in modules for value in module.state_dict().values() if value.is_floating_point()]
        return bool(torch.stack([value.isfinite().all() for value in values]).all())

    def state_dict(self) -> dict:
        return {name: getattr(self, name).state_dict() for name in self._parts}

    def load_state_dict(self, state: dict) -> None:
        for name in self._parts:
            getattr(self, name).load_state_dict(state[name])

    _parts = ("generator", "discriminator", "average", "g_optimizer", "d_optimizer")


def adam(groups: list[dict], training: StageConfig, device: torch.device) -> torch.optim.Adam:
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.Adam(groups, betas=training.betas, fused=True)


class Step:
    """Calling it with one process's share of a batch trains both networks once."""

    def __init__(
        self,
        players: Players,
        report: Callable[[Mapping[str, Tensor]], None],
        rank: int = 0,
        labels: "Labels | None" = None,
    ):
        self.players = players
        self.training = players.training
        self.report = report
        self.rank = rank
        self.labels = labels
        self.iteration = 0
        self.nonfinite = torch.zeros((), device=players.device)  # steps left out, ever
        self.streak = torch.zeros((), device=players.device)  # and in a row

    def __call__(self, batch: Batch, images_seen: int, epoch: int) -> None:
        """images_seen and epoch are those before this iteration."""
        players, training = self.players, self.training
        players.set_learning_rates(epoch)
        self.iteration = images_seen // training.batch
        size = len(batch) // training.accumulate
        parts = [batch[i * size : (i + 1) * size] for i in range(training.accumulate)]
        draws = [self.draw(part, images_seen, i) for i, part in enumerate(parts)]

        # One forward of the generator serves both steps. With several parts only one graph is kept at a time, so
        # each part is painted again for the generator's step, with the same draws and unmoved BatchNorm statistics.
        alone = len(parts) == 1
        for part, draw in zip(parts, draws):
            text = self.encode(part)
            with torch.set_grad_enabled(alone):
                painted = self.paint(text, draw)
            self.discriminate(part, draw, text, painted, keep_text=alone)
        self.update(players.d_optimizer, players.d_parameters, "d")

        players.discriminator.requires_grad_(False)
        for part, draw in zip(parts, draws):
            if not alone:
                with unmoved_statistics(players.generator):
                    text = self.encode(part)
                    painted = self.paint(text, draw)
            self.convince(part, draw, text, painted)
        self.update(players.g_optimizer, players.g_parameters, "g")
        players.discriminator.requires_grad_(True)
        players.update_average(images_seen + training.batch)

    def draw(self, part: Batch, images_seen: int, number: int) -> Draws:
        training, generator, device, b = self.training, self.players.generator, self.players.device, len(part)
        random = random_stream(training.seed, self.rank, images_seen, f"part {number}", device)
        size = generator.sizes[-1]
        # A central crop is not drawn, and neither is a mirror then.
        pictures = augment(part.images, size, random if training.crop == "random" else None, training.flip)
        noise = torch.randn(b, generator.noise_dim, generator=random, device=device)
        epsilon = torch.randn(2, b, generator.condition_dim, generator=random, device=device)
        return Draws(pictures, noise, epsilon[0], epsilon[1], random)

    def autocast(self) -> torch.autocast:
        enabled = self.training.precision == "bfloat16"
        return torch.autocast(self.players.device.type, torch.bfloat16, enabled=enabled)

    def encode(self, part: Batch) -> Tensor:
        with self.autocast():
            return self.players.generator.encode_text(part.captions, part.dialogues, part.rounds)

    def paint(self, text: Tensor, draw: Draws) -> Painted:
        generator = self.players.generator
        with self.autocast():
            if generator.stage == 1:
                return cast(Painted, generator.stage1(text, draw.noise, draw.epsilon))
            through = self.training.finetune_stage1 > 0
            return cast(Painted, generator.stage2(text, draw.noise, draw.epsilon, draw.epsilon1, through))

    def condition(self, text: Tensor, painted: Painted) -> Tensor:
        """What the discriminator is told of the text, (B, c).

        The generator's mean (StackGAN's code) or its sample (paper 4.1), both without gradient; or what the
        discriminator's own layer makes of the text, with gradient.
        """
        embed = self.players.discriminator.embed_text
        if embed is not None:
            return cast(Tensor, embed(text))
        return (painted.mu if self.training.d_condition == "mu" else painted.condition).detach()

    def discriminate(self, part: Batch, draw: Draws, text: Tensor, painted: Painted, keep_text: bool = True) -> None:
        """Gradients of the discriminator's loss on one part."""
        training, discriminator = self.training, self.players.discriminator
        others, found = wrong_rows(part.image_ids, training.wrong_candidates)
        with self.autocast():
            condition = self.condition(text, painted)
            real = discriminator(self.seen(draw.pictures, draw))
            fake = discriminator(self.seen(painted.picture.detach(), draw))
            r = discriminator.get_cond_logits(real, condition)
            w = discriminator.get_cond_logits(real, condition[self.hardest(others, real, condition)])
            f = discriminator.get_cond_logits(fake, condition)
            # Where a part holds one image only there is no wrong pair: its painted pair counts twice.
            w = torch.where(found, w, f)
            unconditional = None
            if discriminator.get_uncond_logits is not None:
                unconditional = discriminator.get_uncond_logits(real), discriminator.get_uncond_logits(fake)
        loss = losses.matching_aware(r, w, f, training.loss, unconditional)
        if self.labels is not None:
            loss = loss + training.auxiliary.weight * self.recognise(real, part)
        if training.penalties and self.iteration % training.penalties.every == 0:
            loss = loss + training.penalties.every * self.penalty(draw, painted, condition)
        # The generator's step still needs the text's graph.
        (loss / training.accumulate).backward(retain_graph=keep_text and condition.requires_grad)
        self.report({"d_loss": loss, "d_real": r, "d_wrong": w, "d_fake": f})

    def hardest(self, others: Tensor, real: Tensor, condition: Tensor) -> Tensor:
        """Of the rows `others` (B, k), for each row the one whose condition D finds most fitting, (B,).

        Most other texts differ from the right one in plain ways, and D, once it sees those, learns nothing from them.
        """
        if others.shape[1] == 1:
            return others[:, 0]
        with torch.no_grad():
            judge = self.players.discriminator.get_cond_logits
            logits = torch.stack([judge(real, condition[rows]) for rows in others.unbind(1)], 1)
        return others.gather(1, logits.argmax(1, keepdim=True))[:, 0]

    def convince(self, part: Batch, draw: Draws, text: Tensor, painted: Painted) -> None:
        """Gradients of the generator's loss on one part; the discriminator takes none."""
        training, discriminator = self.training, self.players.discriminator
        with self.autocast():
            features = discriminator(self.seen(painted.picture, draw))
            logits = discriminator.get_cond_logits(features, self.condition(text.detach(), painted))
            saturating = training.generator_loss == "saturating"
            loss = losses.generator(logits, training.loss, saturating)
            if discriminator.get_uncond_logits is not None:
                loss = loss + losses.generator(discriminator.get_uncond_logits(features), training.loss, saturating)
        divergence = losses.kl(painted.mu, painted.logvar)
        total = loss + training.kl_weight * divergence
        if self.labels is not None:
            total = total + training.auxiliary.weight * self.recognise(features, part)
        (total / training.accumulate).backward()
        # If the condition's mean hardly differs from text to text, the text is not used.
        spread = painted.mu.detach().std(0)
        self.report(
            {"g_loss": loss, "kl": divergence, "mu_spread": spread, "mu_active": (spread > 0.01).float().mean()}
        )

    def seen(self, pictures: Tensor, draw: Draws) -> Tensor:
        """Pictures as the discriminator gets them."""
        if self.training.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        return diffaugment(pictures, draw.random) if self.training.diffaugment else pictures

    def recognise(self, features: Tensor, part: Batch) -> Tensor:
        """How badly the discriminator names the objects of the image (paper section 6)."""
        classify = cast(nn.Module, self.players.discriminator.classify)
        with torch.autocast(features.device.type, enabled=False):
            logits = classify(features.float()).flatten(1)
            return F.binary_cross_entropy_with_logits(logits, cast(Labels, self.labels)(part.image_ids))

    def penalty(self, draw: Draws, painted: Painted, condition: Tensor) -> Tensor:
        """The configured gradient penalties, in float32 and never compiled, as neither survives a double backward."""
        weights, discriminator = self.training.penalties, self.players.discriminator

        def judge(pictures: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
            features = discriminator.forward(pictures)
            conditional = discriminator.get_cond_logits(features, condition)
            if discriminator.get_uncond_logits is None:
                return conditional, conditional
            return conditional, conditional + discriminator.get_uncond_logits(features)

        total = torch.zeros((), device=self.players.device)
        real = draw.pictures.detach().float().requires_grad_()
        condition = condition.detach().float().requires_grad_()
        if weights.r1 or weights.matching_aware:
            conditional, both = judge(real, condition)
            if weights.r1:
                total = total + weights.r1 * losses.r1(both, real)
            if weights.matching_aware:
                total = total + weights.matching_aware * losses.matching_aware_penalty(conditional, real, condition)
        if weights.gradient_penalty:
            share = torch.rand(len(real), 1, 1, 1, generator=draw.random, device=real.device)
            between = torch.lerp(real.detach(), painted.picture.detach(), share).requires_grad_()
            total = total + weights.gradient_penalty * losses.gradient_penalty(judge(between, condition)[1], between)
        self.report({"penalty": total})
        return total

    def update(self, optimizer: torch.optim.Adam, parameters: list[nn.Parameter], who: str) -> None:
        """Average gradients over the processes and step, unless a gradient is not finite: then skip, and count.

        The fused optimiser skips on the device, so nobody waits to find out.
        """
        average_gradients(parameters)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        bad = (~norm.isfinite()).float()
        optimizer.found_inf = bad  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.nonfinite += bad
        self.streak = (self.streak + bad) * bad
        self.report({f"{who}_grad_norm": norm})


def wrong_rows(image_ids: Tensor, number: int = 1) -> tuple[Tensor, Tensor]:
    """For each row the next `number` rows (cyclically) that show another image, (B, number), and whether there is one.

    Taking the whole row's condition gives another image's caption and dialogue together. Where fewer rows show another
    image, the first of them stands for the missing ones; where none does, its number means nothing.
    """
    b = len(image_ids)
    rows = torch.arange(b, device=image_ids.device)
    candidates = (rows[:, None] + rows[None, :]) % b  # column 0 is the row itself
    differs = image_ids[candidates] != image_ids[:, None]
    # Stable: those that differ first, each kind in the order of the rows.
    order = (~differs).int().argsort(stable=True, dim=1)[:, :number]
    others, differing = candidates.gather(1, order), differs.gather(1, order)
    return torch.where(differing, others, others[:, :1]), differs.any(1)


@contextmanager
def unmoved_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorm uses the batch as ever but leaves its running statistics alone."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before):
            norm.momentum = momentum


class Labels:
    """Which categories each image shows, on the device."""

    def __init__(self, image_ids: Tensor, labels: Tensor):
        order = image_ids.argsort()
        self.image_ids, self.labels = image_ids[order], labels[order].float()

    def __call__(self, image_ids: Tensor) -> Tensor:
        """image_ids (B,) → (B, classes) of 0 and 1."""
        return self.labels[torch.searchsorted(self.image_ids, image_ids)]
