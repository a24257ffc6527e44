"""Both stages' generator and discriminator (paper 4.1, 4.2; StackGAN-Pytorch, code/model.py), and what paints.

Parameters below `stage1.` and `stage2.` bear the names of StackGAN-Pytorch's `netG`, the discriminator's of its `netD`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from store import params
from trainer.feed.inputs import CAPTIONS, COLLAPSED, LENGTH, TURNS, Input
from trainer.networks.blocks import (
    Logits,
    Norm,
    ResidualBlock,
    UpBlock,
    conv3x3,
    downs,
    initialise,
    same,
)
from trainer.networks.text import ConditioningAugmentation, DialogueEncoder, Standardise, sample
from trainer.systems.chatpainter.config import Dialogue, ModelConfig, Stage


def text_inputs(dialogue: Dialogue) -> tuple[Input, ...]:
    """What each arm of the paper reads: the caption, and one vector a turn, one a dialogue, or none."""
    said = {"none": (), "collapsed": (COLLAPSED,), "recurrent": (TURNS,)}
    return CAPTIONS, *said[dialogue]


class GeneratorOutput(NamedTuple):
    """What a stage's generator gives: the picture, its condition, and what that was drawn from."""

    picture: Tensor  # (B, 3, s, s) in [-1, 1]
    condition: Tensor  # (B, c)
    mu: Tensor  # (B, c)
    logvar: Tensor  # (B, c)
    stage1: Tensor | None = None  # (B, 3, s, s): what stage 2 started from


class Stage1Generator(nn.Module):
    """Text and noise to 64 x 64, or another `size` (paper 4.1; STAGE1_G)."""

    def __init__(self, model: ModelConfig, text_dim: int):
        super().__init__()
        channels = model.gf * model.size // 8
        self.channels = channels
        self.ca_net = ConditioningAugmentation(text_dim, model.condition_dim, model.condition_activation)
        self.fc = nn.Sequential(
            nn.Linear(model.noise_dim + model.condition_dim, channels * 16, bias=False),
            nn.BatchNorm1d(channels * 16),
            nn.ReLU(inplace=True),
        )
        self.doublings = [f"upsample{number}" for number in range(1, model.doublings + 1)]
        for name in self.doublings:
            self.add_module(name, UpBlock(channels, channels // 2))
            channels //= 2
        self.img = nn.Sequential(conv3x3(channels, 3), nn.Tanh())

    def forward(self, text: Tensor, noise: Tensor, epsilon: Tensor | None = None) -> GeneratorOutput:
        """text (B, T), noise (B, z), epsilon (1 or more, B, c), of which the last is used, or None for the mean."""
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, None if epsilon is None else epsilon[-1])
        x = self.fc(torch.cat([noise, condition], 1)).view(-1, self.channels, 4, 4)
        for name in self.doublings:
            x = getattr(self, name)(x)
        return GeneratorOutput(self.img(x).to(mu.dtype), condition, mu, logvar)


class Stage2Generator(nn.Module):
    """Stage 1's picture and the text again, to 256 x 256 (paper 4.2; STAGE2_G).

    Holds stage 1's generator as `STAGE1_G`, the name in StackGAN's files. Noise enters through it only.

    Attributes:
        through_stage1: let gradients into stage 1; StackGAN and the paper never do.
    """

    def __init__(self, model: ModelConfig, text_dim: int):
        super().__init__()
        gf = model.gf
        self.through_stage1 = False
        self.refine = model.refine
        self.STAGE1_G = Stage1Generator(model, text_dim)
        self.ca_net = ConditioningAugmentation(text_dim, model.condition_dim, model.condition_activation)
        self.encoder = nn.Sequential(
            conv3x3(3, gf),
            nn.ReLU(True),
            nn.Conv2d(gf, 2 * gf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * gf),
            nn.ReLU(True),
            nn.Conv2d(2 * gf, 4 * gf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * gf),
            nn.ReLU(True),
        )
        self.hr_joint = nn.Sequential(
            conv3x3(4 * gf + model.condition_dim, 4 * gf), nn.BatchNorm2d(4 * gf), nn.ReLU(True)
        )
        self.residual = nn.Sequential(*(ResidualBlock(4 * gf) for _ in range(model.residual_blocks)))
        self.upsample1 = UpBlock(4 * gf, 2 * gf)
        self.upsample2 = UpBlock(2 * gf, gf)
        self.upsample3 = UpBlock(gf, gf // 2)
        self.upsample4 = UpBlock(gf // 2, gf // 4)
        self.img = nn.Sequential(conv3x3(gf // 4, 3), nn.Tanh())

    def forward(self, text: Tensor, noise: Tensor, epsilon: Tensor | None = None) -> GeneratorOutput:
        """text (B, T), noise (B, z), epsilon (2, B, c): draws of this stage's condition, of stage 1's; None: means."""
        with torch.set_grad_enabled(self.through_stage1 and torch.is_grad_enabled()):
            stage1 = self.STAGE1_G(text, noise, epsilon).picture
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, None if epsilon is None else epsilon[0])
        encoded = self.encoder(stage1)
        tiled = condition[:, :, None, None].expand(-1, -1, *encoded.shape[2:]).to(encoded.dtype)
        x = self.residual(self.hr_joint(torch.cat([encoded, tiled], 1)))
        x = self.upsample4(self.upsample3(self.upsample2(self.upsample1(x))))
        convolution, tanh = self.img
        x = convolution(x).to(mu.dtype)
        if self.refine:
            enlarged = F.interpolate(stage1.to(mu.dtype), scale_factor=4, mode="bilinear", align_corners=False)
            x = x + enlarged.clamp(-0.99, 0.99).atanh()
        return GeneratorOutput(tanh(x), condition, mu, logvar, stage1)


class Discriminator(nn.Module):
    """Either stage's: pictures (B, 3, s, s) → features (B, f, 4, 4); logits from features, with and without condition.

    f is 8 df for pictures of 64 and 256 (STAGE1_D, STAGE2_D). Stage 1 has no unconditional logits.

    Args:
        classes: object categories to name (paper section 6), 0 for none.
        text_dim: width of the text that D's own layer makes its condition from; None where it is told G's.
    """

    def __init__(self, model: ModelConfig, stage: Stage, norm: Norm, classes: int = 0, text_dim: int | None = None):
        super().__init__()
        features = model.df * model.size // 8
        trunk = downs(model.df, model.doublings + (2 if stage == 2 else 0), norm)
        if stage == 2:
            trunk += [*same(4 * features, 2 * features, norm), *same(2 * features, features, norm)]
        self.encode_img = nn.Sequential(*trunk)
        self.get_cond_logits = Logits(features, model.condition_dim, norm)
        self.get_uncond_logits = Logits(features, None, norm) if stage == 2 else None
        self.classify = nn.Conv2d(features, classes, 4) if classes else None
        self.embed_text = nn.Linear(text_dim, model.condition_dim) if text_dim else None

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, s, s) → (B, f, 4, 4)."""
        return self.features(pictures)

    def features(self, pictures: Tensor) -> Tensor:
        """The same, never compiled: `Module.compile` replaces calls of the module alone."""
        return self.encode_img(pictures)


class Generator(nn.Module):
    """Everything from text vectors and noise to pictures: of stage 1, and of stage 2 when it holds one.

    `settings` is plain JSON: `stage` (1 or 2), `model` (ModelConfig), `caption_dim`, `dialogue_dim`, and whatever the
    training adds (stores' identities, training configuration, images seen).
    """

    stage1: Stage1Generator  # or
    stage2: Stage2Generator
    dialogue_encoder: DialogueEncoder | None

    def __init__(self, settings: dict[str, Any]):
        super().__init__()
        self.settings = settings
        model = params.build(ModelConfig, settings["model"], "model")
        self.model = model
        self.noise_dim, self.condition_dim = model.noise_dim, model.condition_dim
        self.inputs = text_inputs(model.dialogue)
        if type(settings["stage"]) is not int or settings["stage"] not in (1, 2):
            raise ValueError(f"stage is {settings['stage']!r}, not 1 or 2")
        self.stage: Stage = 2 if settings["stage"] == 2 else 1
        caption_dim, dialogue_dim = settings["caption_dim"], settings["dialogue_dim"]
        self.dims = {one.name: dim for one, dim in zip(self.inputs, (caption_dim, dialogue_dim))}
        heard = {"none": 0, "collapsed": dialogue_dim, "recurrent": 2 * model.lstm_hidden}[model.dialogue]
        self.text_dim = caption_dim + heard
        self.standardise = nn.ModuleDict()
        if model.standardise:
            self.standardise["captions"] = Standardise(caption_dim)
            if model.dialogue != "none":
                self.standardise["dialogues"] = Standardise(dialogue_dim)
        self.dialogue_encoder = (
            DialogueEncoder(dialogue_dim, model.lstm_hidden) if model.dialogue == "recurrent" else None
        )
        network: Stage1Generator | Stage2Generator
        network = (Stage1Generator if self.stage == 1 else Stage2Generator)(model, self.text_dim)
        network.apply(initialise)
        self.add_module(f"stage{self.stage}", network)

    @property
    def network(self) -> "Stage1Generator | Stage2Generator":
        """The stage's own network."""
        return getattr(self, f"stage{self.stage}")

    @property
    def first(self) -> Stage1Generator:
        """Stage 1's network, also inside stage 2's."""
        return self.stage1 if self.stage == 1 else self.stage2.STAGE1_G

    @property
    def names(self) -> dict[int, str]:
        """What the pictures of each side are called, smallest first."""
        return {side: f"stage{number}" for number, side in enumerate(self.model.sides[: self.stage], 1)}

    @property
    def silence(self) -> dict[str, Tensor]:
        """Vectors that stand for nothing said, of inputs that always have one: the average dialogue, or zeros."""
        if self.model.dialogue != "collapsed":
            return {}
        if self.model.standardise:
            average: Tensor = self.standardise["dialogues"].get_buffer("mean")
            return {COLLAPSED.name: average}
        return {COLLAPSED.name: torch.zeros(self.settings["dialogue_dim"])}

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs by name, any float dtype: captions (B, dc), turns (B, T, dd) or dialogues (B, dd) → text (B, T)."""
        captions = texts[CAPTIONS.name]
        captions = self.standardise["captions"](captions) if self.model.standardise else captions.float()
        if self.model.dialogue == "none":
            return {"text": captions}
        said = texts[self.inputs[1].name]
        said = self.standardise["dialogues"](said) if self.model.standardise else said.float()
        if self.dialogue_encoder is not None:
            said = self.dialogue_encoder(said, texts[TURNS.name + LENGTH])
        return {"text": torch.cat([captions, said.float()], 1)}

    def condition(self, texts: Mapping[str, Tensor]) -> Tensor:
        """The mean condition μ (B, c) that stage 1 makes of texts, which are as in `encode`."""
        mu: Tensor = self.first.ca_net(self.encode(texts)["text"])[0]
        return mu

    def draw(
        self,
        encoded: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """`paint` from what `encode` gave."""
        text = encoded["text"]
        epsilon = None if condition_noise is None else condition_noise.expand(2, -1, -1)
        if self.stage == 1 or (sides is not None and max(sides) == self.model.size):
            return {self.model.size: self.first(text, noise, epsilon).picture}
        painted = self.stage2(text, noise, epsilon)
        return dict(zip(self.model.sides, (painted.stage1, painted.picture)))

    def paint(
        self,
        texts: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """Pictures by side, smallest first, each (B, 3, s, s) in [-1, 1].

        Args:
            texts: as in `encode`.
            noise: (B, noise_dim).
            condition_noise: (B, condition_dim), used in each stage, or None to paint the mean condition.
            sides: which are asked for; larger ones may be left out, smaller ones are made on the way.
        """
        return self.draw(self.encode(texts), noise, condition_noise, sides)


def settings(stage: int, model: ModelConfig, caption_dim: int, dialogue_dim: int | None, **more: Any) -> dict[str, Any]:
    """The least that builds a Generator, and `more` beside it."""
    return {"stage": stage, "model": asdict(model), "caption_dim": caption_dim, "dialogue_dim": dialogue_dim, **more}
