"""One iteration of google/sg2im's scripts/train.py: the generator, then the objects' discriminator, then the picture's.

All three see the same painted pictures. True boxes and masks are laid out; what the generator makes of the graph alone
is compared with them.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.distributed import Ranks
from trainer.feed.augment import augment
from trainer.feed.inputs import BOXES, LENGTH, MASKS, OBJECTS, TRIPLES, Batch
from trainer.feed.sampler import Draws, microbatches
from trainer.networks import average, losses
from trainer.optimising import Checkpointed, Report, Updates, adam, autocast, rates_of, set_learning_rates
from trainer.systems.sg2im.config import Sg2imConfig, Weights
from trainer.systems.sg2im.discriminators import CropDiscriminator, PatchDiscriminator
from trainer.systems.sg2im.display import normalised
from trainer.systems.sg2im.graph import Graphs, draw_relations, join
from trainer.systems.sg2im.networks import Sg2imGenerator, Understood, graphs_of


class Microbatch(NamedTuple):
    """Some pictures of the batch and what is in them. o: objects of all, `__image__` of each picture included."""

    graphs: Graphs
    pictures: Tensor  # real (b, 3, s, s), as ImageNet's networks see them
    boxes: Tensor  # (o, 4)
    masks: Tensor | None  # (o, m, m), 0 or 1
    noise: Tensor  # (b, layout_noise_dim, s, s)

    @property
    def about(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the objects' discriminator is told: classes, boxes and pictures of the objects."""
        return self.graphs.objects, self.boxes, self.graphs.image


class SceneGraphGan(Checkpointed):
    """The three networks and their optimisers: a `trainer.systems.Trainable`."""

    checkpointed = (
        *("generator", "object_discriminator", "image_discriminator", "average"),
        *("g_optimizer", "object_optimizer", "image_optimizer"),
    )
    shown = (
        ("D", ("d_real", "d_fake", "d_object_real", "d_object_fake")),
        ("G", ("pixel", "boxes", "g_image", "g_object")),
        ("lr", ("lr_g", "lr_d")),
    )

    def __init__(
        self,
        generator: Sg2imGenerator,
        objects: CropDiscriminator,
        pictures: PatchDiscriminator,
        training: Sg2imConfig,
        ranks: Ranks,
    ) -> None:
        self.training, self.ranks, self.device = training, ranks, ranks.device
        self.generator = generator.to(self.device).train()
        self.object_discriminator = objects.to(self.device).train()
        self.image_discriminator = pictures.to(self.device).train()
        self.average = Sg2imGenerator(generator.settings).to(self.device)
        self.average.eval().requires_grad_(False).load_state_dict(generator.state_dict())
        self.networks = (self.generator, self.object_discriminator, self.image_discriminator, self.average)
        self.g_optimizer, self.object_optimizer, self.image_optimizer = (
            adam([{"params": list(network.parameters()), "lr": rate}], training.betas)
            for network, rate in zip(self.networks, (training.g_lr, training.d_lr, training.d_lr))
        )
        self.updates = Updates(self.device)

    def step(self, batch: Batch, images_seen: int, epoch: int, report: Report) -> None:
        """Train all three once on one process's share of a batch.

        Args:
            images_seen, epoch: those before this iteration.
            report: takes figures by name, tensors that stay on the device.
        """
        training = self.training
        set_learning_rates(training, epoch, self.g_optimizer, self.object_optimizer, self.image_optimizer)
        self.fix_statistics(images_seen)
        parts = [
            self.microbatch(texts, draws) for texts, draws in microbatches(batch, training, images_seen, self.ranks)
        ]

        self.object_discriminator.requires_grad_(False)
        self.image_discriminator.requires_grad_(False)
        painted = []
        for part in parts:
            loss, pictures, figures = self.generator_loss(part)
            (loss / training.accumulate).backward()
            painted.append(pictures.detach())
            report(figures)
        report({"g_grad_norm": self.updates(self.g_optimizer, list(self.generator.parameters()))})

        self.object_discriminator.requires_grad_(True)
        for part, pictures in zip(parts, painted):
            loss, figures = self.object_loss(part, pictures)
            (loss / training.accumulate).backward()
            report(figures)
        parameters = list(self.object_discriminator.parameters())
        report({"d_object_grad_norm": self.updates(self.object_optimizer, parameters)})

        self.image_discriminator.requires_grad_(True)
        for part, pictures in zip(parts, painted):
            loss, figures = self.image_loss(part, pictures)
            (loss / training.accumulate).backward()
            report(figures)
        report({"d_grad_norm": self.updates(self.image_optimizer, list(self.image_discriminator.parameters()))})
        seen = images_seen + training.batch
        average.update_average(self.average, self.generator, training.ema_half_life, seen, training.batch)

    def fix_statistics(self, images_seen: int) -> None:
        """From some number of pictures on BatchNorm stands still in the generator, whose Adam begins anew there."""
        after = self.training.fixed_statistics_after
        if after is None or images_seen < after:
            return
        self.generator.eval()
        if images_seen - self.training.batch < after:
            self.g_optimizer.state.clear()

    def microbatch(self, texts: Batch, draws: Draws) -> Microbatch:
        """Some rows of the batch, and everything that is drawn for them."""
        training, sizes = self.training, self.generator.sizes
        objects, lengths = texts[OBJECTS.name], texts[OBJECTS.name + LENGTH]
        if training.relations == "drawn":
            triples, there = texts[TRIPLES.name], texts[TRIPLES.name + LENGTH]
            told = torch.arange(triples.shape[1], device=self.device) < there[:, None]
            drawn = draws.uniform("relations", objects.shape[1], 2)
            graphs = join(objects, lengths, *draw_relations(triples, told, lengths, drawn))
        else:
            graphs = graphs_of(texts)
        stored = texts["images"].shape[1]
        pictures = normalised(augment(texts["images"], sizes.side))
        real = torch.arange(objects.shape[1], device=self.device) < lengths[:, None]
        boxes = in_the_middle(texts[BOXES.name][real], sizes.side / stored)
        masks = texts[MASKS.name][real].float() if sizes.mask_size else None
        noise = draws.normal("noise", sizes.layout_noise_dim, sizes.side, sizes.side)
        return Microbatch(graphs, pictures, boxes, masks, noise)

    def generator_loss(self, part: Microbatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(), the painted pictures, and the figures to report; the discriminators take no gradient."""
        training, network = self.training, self.generator.network
        with autocast(self.training, self.device):
            found = network.understand(part.graphs, relations=training.predicate_weight > 0)
            painted = network.refine(part.graphs, found.vectors, part.boxes, part.masks, part.noise).float()
            scores, named = self.object_discriminator(painted, *part.about)
            whole = self.image_discriminator(painted)
        total, terms = generator_terms(training, part.graphs, found, painted, part.pictures, part.boxes, part.masks)
        game = {
            "g_class": named,
            "g_object": losses.generator(scores.float(), training.loss),
            "g_image": losses.generator(whole.float(), training.loss),
        }
        weights = training.class_weight, training.object_weight, training.image_weight
        total = total + sum(weight * term for weight, term in zip(weights, game.values()))
        return total, painted, {"g_loss": total, **terms, **game}

    def object_loss(self, part: Microbatch, painted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """() of real and painted objects, both to be named, and the figures to report."""
        with autocast(self.training, self.device):
            real, named = self.object_discriminator(part.pictures, *part.about)
            fake, misnamed = self.object_discriminator(painted, *part.about)
        loss = losses.unconditional(real.float(), fake.float(), self.training.loss) + named + misnamed
        figures = {"d_object_real": real, "d_object_fake": fake, "d_class_real": named, "d_class_fake": misnamed}
        return loss, figures

    def image_loss(self, part: Microbatch, painted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """() of real and painted pictures, and the figures to report."""
        with autocast(self.training, self.device):
            real, fake = self.image_discriminator(part.pictures), self.image_discriminator(painted)
        loss = losses.unconditional(real.float(), fake.float(), self.training.loss)
        return loss, {"d_real": real.mean(1), "d_fake": fake.mean(1)}

    def learning_rates(self) -> dict[str, float]:
        """Of the generator and of the discriminators, now."""
        return rates_of(lr_g=self.g_optimizer, lr_d=self.object_optimizer)


def in_the_middle(boxes: Tensor, kept: float) -> Tensor:
    """Boxes (o, 4) of pictures as boxes of their middle, which is `kept` of the side; what lies outside is cut off."""
    return (0.5 + (boxes - 0.5) / kept).clamp(0, 1)


def generator_terms(
    weights: Weights,
    graphs: Graphs,
    found: Understood,
    painted: Tensor,
    real: Tensor,
    boxes: Tensor,
    masks: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """() how far the generator is from the truth, and each term unweighted; one whose weight is 0 is left out."""
    terms: dict[str, tuple[float, Tensor]] = {}
    if weights.pixel_weight:
        terms["pixel"] = weights.pixel_weight, F.l1_loss(painted, real)
    if weights.box_weight:
        terms["boxes"] = weights.box_weight, F.mse_loss(found.boxes.float(), boxes.to(real.dtype))
    if weights.mask_weight and masks is not None and found.masks is not None:
        logits = found.masks.to(real.dtype)
        terms["masks"] = weights.mask_weight, F.binary_cross_entropy_with_logits(logits, masks.to(real.dtype))
    if weights.predicate_weight and found.relations is not None:
        scores = found.relations.to(real.dtype)
        terms["relations"] = weights.predicate_weight, F.cross_entropy(scores, graphs.triples[:, 1])
    total = torch.stack([weight * term for weight, term in terms.values()]).sum()
    return total, {name: term for name, (_, term) in terms.items()}
