"""Both stages' generators (paper 4.1, 4.2; StackGAN-Pytorch, code/model.py), and what paints with them.

Parameters below `stage1.` and `stage2.` bear the names of StackGAN-Pytorch's `netG`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from store import params
from trainer.networks.attention import Listening, Tokens
from trainer.networks.blocks import ResidualBlock, UpBlock, conv3x3, conv_block, initialise, tiled
from trainer.networks.text import ConditioningAugmentation, sample
from trainer.systems import Generator
from trainer.systems.chatpainter.config import ModelConfig, Stage
from trainer.systems.text_reader import TextReader


class GeneratorOutput(NamedTuple):
    """What a stage's generator gives: the picture, its condition, and what that was drawn from."""

    picture: Tensor  # (B, 3, s, s) in [-1, 1]
    condition: Tensor  # (B, c)
    mu: Tensor  # (B, c)
    logvar: Tensor  # (B, c)
    stage1: Tensor | None = None  # (B, 3, s, s): what stage 2 started from
    attention: Mapping[int, Tensor] = {}  # by side, (B, T, side, side): each token's share of what a place listens to


class Stage1Generator(nn.Module):
    """Text and noise to 64 x 64, or another `size` (paper 4.1; STAGE1_G)."""

    def __init__(self, model: ModelConfig, text_dim: int, token_dims: Mapping[str, int] | None = None):
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
        self.listening = None
        wide = {side: model.gf * model.size // 2 // side for side in model.attention.sides}
        if token_dims is not None and wide:
            self.listening = Listening(wide, token_dims, model.attention.width)

    def forward(
        self, text: Tensor, noise: Tensor, epsilon: Tensor | None = None, tokens: Mapping[str, Tokens] | None = None
    ) -> GeneratorOutput:
        """text (B, T), noise (B, z), epsilon (1 or more, B, c), of which the last is used, or None for the mean.

        tokens: what is said, where places listen.
        """
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, None if epsilon is None else epsilon[-1])
        x = self.fc(torch.cat([noise, condition], 1)).view(-1, self.channels, 4, 4)
        heard = self.listening.hear(tokens) if self.listening is not None and tokens is not None else None
        maps: dict[int, Tensor] = {}
        for name in self.doublings:
            x = getattr(self, name)(x)
            if self.listening is not None and heard is not None:
                x = self.listening(x, heard, maps)
        return GeneratorOutput(self.img(x).to(mu.dtype), condition, mu, logvar, attention=maps)


class Stage2Generator(nn.Module):
    """Stage 1's picture and the text again, to 256 x 256 (paper 4.2; STAGE2_G).

    Holds stage 1's generator as `STAGE1_G`, the name in StackGAN's files. Noise enters through it only.

    Attributes:
        through_stage1: let gradients into stage 1; StackGAN and the paper never do.
    """

    def __init__(self, model: ModelConfig, text_dim: int, token_dims: Mapping[str, int] | None = None):
        super().__init__()
        gf = model.gf
        self.through_stage1 = False
        self.refine = model.refine
        self.STAGE1_G = Stage1Generator(model, text_dim, token_dims)
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
        self.hr_joint = conv_block(4 * gf + model.condition_dim, 4 * gf)
        self.residual = nn.Sequential(*(ResidualBlock(4 * gf) for _ in range(model.residual_blocks)))
        self.upsample1 = UpBlock(4 * gf, 2 * gf)
        self.upsample2 = UpBlock(2 * gf, gf)
        self.upsample3 = UpBlock(gf, gf // 2)
        self.upsample4 = UpBlock(gf // 2, gf // 4)
        self.img = nn.Sequential(conv3x3(gf // 4, 3), nn.Tanh())
        self.listening = None
        if token_dims is not None:
            self.listening = Listening({model.size // 4: 4 * gf}, token_dims, model.attention.width)

    def forward(
        self, text: Tensor, noise: Tensor, epsilon: Tensor | None = None, tokens: Mapping[str, Tokens] | None = None
    ) -> GeneratorOutput:
        """text (B, T), noise (B, z), epsilon (2, B, c): draws of this stage's condition, of stage 1's; None: means.

        tokens: what is said, where places listen.
        """
        with torch.set_grad_enabled(self.through_stage1 and torch.is_grad_enabled()):
            before = self.STAGE1_G(text, noise, epsilon, tokens)
        stage1 = before.picture
        mu, logvar = self.ca_net(text)
        condition = sample(mu, logvar, None if epsilon is None else epsilon[0])
        encoded = self.encoder(stage1)
        x = self.hr_joint(torch.cat([encoded, tiled(condition, encoded)], 1))
        maps = dict(before.attention)
        if self.listening is not None and tokens is not None:
            x = self.listening(x, self.listening.hear(tokens), maps)
        x = self.residual(x)
        x = self.upsample4(self.upsample3(self.upsample2(self.upsample1(x))))
        convolution, tanh = self.img
        x = convolution(x).to(mu.dtype)
        if self.refine:
            enlarged = F.interpolate(stage1.to(mu.dtype), scale_factor=4, mode="bilinear", align_corners=False)
            x = x + enlarged.clamp(-0.99, 0.99).atanh()
        return GeneratorOutput(tanh(x), condition, mu, logvar, stage1, maps)


class ChatPainterGenerator(TextReader, Generator):
    """Everything from text vectors and noise to pictures: of stage 1, and of stage 2 when it holds one.

    `settings` is plain JSON: `stage` (1 or 2), `model` (ModelConfig), `caption_dim`, `dialogue_dim`, and whatever the
    training adds (stores' identities, training configuration, images seen).
    """

    stage1: Stage1Generator  # or
    stage2: Stage2Generator

    def __init__(self, settings: dict[str, Any]):
        model = params.build(ModelConfig, settings["model"], "model")
        super().__init__(model, settings["caption_dim"], settings["dialogue_dim"])
        self.settings, self.model = settings, model
        self.noise_dim, self.condition_dim = model.noise_dim, model.condition_dim
        if type(settings["stage"]) is not int or settings["stage"] not in (1, 2):
            raise ValueError(f"stage is {settings['stage']!r}, not 1 or 2")
        self.stage: Stage = 2 if settings["stage"] == 2 else 1
        network: Stage1Generator | Stage2Generator
        network = (Stage1Generator if self.stage == 1 else Stage2Generator)(model, self.text_dim, self.token_dims)
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
        """`paint` from what `encode` gave; each stage uses the condition's noise, smaller sides are made on the way."""
        text, tokens = encoded["text"], self.tokens(encoded)
        epsilon = None if condition_noise is None else condition_noise.expand(2, -1, -1)
        if self.stage == 1 or (sides is not None and max(sides) == self.model.size):
            return {self.model.size: self.first(text, noise, epsilon, tokens).picture}
        painted = self.stage2(text, noise, epsilon, tokens)
        return dict(zip(self.model.sides, (painted.stage1, painted.picture)))

    @property
    def listens_to(self) -> tuple[str, ...]:
        """Inputs whose vectors are what places listen to, in the order of `listen`."""
        return () if self.network.listening is None else tuple(self.token_dims or ())

    def listen(self, encoded: Mapping[str, Tensor], noise: Tensor) -> dict[int, Tensor]:
        """Which token each place listens to while the mean condition is painted, by side, (B, 1 + T, side, side).

        The first token is the caption, then the turns; what is missing to 1 listens to nothing. {} where no place does.
        """
        tokens = self.tokens(encoded)
        return dict(self.network(encoded["text"], noise, None, tokens).attention) if tokens else {}


def generator_settings(
    stage: int, model: ModelConfig, caption_dim: int, dialogue_dim: int | None, **more: Any
) -> dict[str, Any]:
    """The least that builds a ChatPainterGenerator, and `more` beside it."""
    return {"stage": stage, "model": asdict(model), "caption_dim": caption_dim, "dialogue_dim": dialogue_dim, **more}
