"""StackGAN++'s generator (StackGAN-v2, code/model.py), and what paints with it.

Parameters below `network.` bear the names of its `netG`; what a dialogue adds has names of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from store import params
from trainer.networks.attention import Listening, Tokens
from trainer.networks.blocks import ResidualBlock, UpBlock, conv_block, tiled
from trainer.networks.stages import GetImage, InitStage
from trainer.networks.text import ConditioningAugmentation, sample
from trainer.systems import Generator
from trainer.systems.stackgan_v2.config import NAME, StackGanV2Model
from trainer.systems.text_reader import TextReader


class GeneratorOutput(NamedTuple):
    """What the generator gives: a picture a branch, its condition, and what that was drawn from."""

    pictures: dict[int, Tensor]  # by side, smallest first, (B, 3, s, s) in [-1, 1]
    condition: Tensor  # (B, c); the noise where there is no text
    mu: Tensor  # (B, c); (B, 0) where there is no text
    logvar: Tensor  # as mu
    attention: Mapping[int, Tensor] = {}  # by side, (B, T, side, side): each token's share of what a place listens to


class NextStage(nn.Module):
    """Features and condition to features of twice the side: NEXT_STAGE_G. The condition comes first."""

    def __init__(self, channels: int, condition_dim: int, residual_blocks: int) -> None:
        super().__init__()
        self.jointConv = conv_block(channels + condition_dim, channels, "glu")
        self.residual = nn.Sequential(*(ResidualBlock(channels, "glu") for _ in range(residual_blocks)))
        self.upsample = UpBlock(channels, channels // 2, "glu")

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """features (B, c, s, s), condition (B, e) → (B, c / 2, 2s, 2s)."""
        joint = self.jointConv(torch.cat([tiled(condition, features), features], 1))
        return cast(Tensor, self.upsample(self.residual(joint)))


class Network(nn.Module):
    """Text and noise to one picture a branch: G_NET.

    Args:
        caption_dim: width of a caption's vector; 0 where no text is read.
        beside: of what the dialogue puts beside it.
        token_dims: of what places of the picture listen to, if they do.
    """

    def __init__(
        self, model: StackGanV2Model, caption_dim: int, beside: int = 0, token_dims: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.sides, self.ca_net = model.sides, None
        condition = model.noise_dim
        if model.conditional:
            condition = model.condition_dim
            self.ca_net = ConditioningAugmentation(caption_dim, condition, "glu", beside)
        inputs = condition + model.noise_dim if model.conditional else model.noise_dim
        self.h_net1, self.img_net1 = InitStage(inputs, model.gf, model.size), GetImage(model.gf)
        for branch in range(1, model.branches):
            channels = model.gf >> branch - 1
            self.add_module(f"h_net{branch + 1}", NextStage(channels, condition, model.residual_blocks))
            self.add_module(f"img_net{branch + 1}", GetImage(channels // 2))
        self.listening = None
        wide = {side: model.gf * model.size // side for side in model.attention.sides}
        if token_dims is not None and wide:
            self.listening = Listening(wide, token_dims, model.attention.width)

    def forward(
        self,
        text: Tensor | None,
        noise: Tensor,
        epsilon: Tensor | None = None,
        tokens: Mapping[str, Tokens] | None = None,
        branches: int | None = None,
    ) -> GeneratorOutput:
        """text (B, T) or None, noise (B, z), epsilon (B, c) or None for the mean condition; the first `branches`.

        tokens: what is said, where places listen: to features of any side before a picture or the next branch is made
            of them.
        """
        if self.ca_net is None or text is None:
            condition, mu = noise, noise.new_zeros(len(noise), 0)
            code, logvar = noise, mu
        else:
            mu, logvar = self.ca_net(text)
            condition = sample(mu, logvar, epsilon)
            code = torch.cat([condition, noise], 1)
        maps: dict[int, Tensor] = {}
        listening, heard = self.listening, None
        if listening is not None and tokens is not None:
            heard = listening.hear(tokens)

        def listen(x: Tensor) -> Tensor:
            return x if listening is None or heard is None else cast(Tensor, listening(x, heard, maps))

        features, pictures = self.h_net1(code, listen), {}
        for number, side in enumerate(self.sides[:branches], 1):
            if number > 1:
                features = listen(self.get_submodule(f"h_net{number}")(features, condition))
            pictures[side] = self.get_submodule(f"img_net{number}")(features)
        return GeneratorOutput(pictures, condition, mu, logvar, maps)


class StackGanV2Generator(TextReader, Generator):
    """Everything from text vectors and noise to pictures.

    `settings` is plain JSON: `model` (StackGanV2Model), `caption_dim` (0 where no text is read), `dialogue_dim`, and
    whatever the training adds (stores' identities, training configuration, images seen).
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        model = params.build(StackGanV2Model, settings["model"], "model")
        super().__init__(model, settings["caption_dim"], settings["dialogue_dim"])
        self.settings, self.model = settings, model
        self.noise_dim, self.condition_dim = model.noise_dim, model.condition_dim
        if not model.conditional:
            self.inputs, self.dims, self.text_dim, self.condition_dim = (), {}, 0, 0
        caption_dim = settings["caption_dim"]
        self.network = Network(model, caption_dim, self.text_dim - caption_dim, self.token_dims)

    @property
    def names(self) -> dict[int, str]:
        """What the pictures of each side are called, smallest first."""
        return {side: f"branch{number}" for number, side in enumerate(self.model.sides, 1)}

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `TextReader.encode`; nothing where no text is read."""
        return super().encode(texts) if self.model.conditional else {}

    def draw(
        self,
        encoded: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """`paint` from what `encode` gave."""
        branches = None if sides is None else 1 + self.model.sides.index(max(sides))
        return self.network(encoded.get("text"), noise, condition_noise, self.tokens(encoded), branches).pictures

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
    model: StackGanV2Model, caption_dim: int, dialogue_dim: int | None, **more: Any
) -> dict[str, Any]:
    """The least that builds a StackGanV2Generator, and `more` beside it."""
    about = {"model": asdict(model), "caption_dim": caption_dim, "dialogue_dim": dialogue_dim}
    return {"system": NAME, **about, **more}


def silence_dialogue(generator: StackGanV2Generator) -> None:
    """Let nothing come of the dialogue at first: then the same is painted, to the bit, as by the caption alone."""
    network = generator.network
    with torch.no_grad():
        if network.ca_net is not None and network.ca_net.beside is not None:
            network.ca_net.beside.weight.zero_()
        if network.listening is not None:
            for place in network.listening.places.values():
                place.out.weight.zero_()  # type: ignore[union-attr, operator]
                place.out.bias.zero_()  # type: ignore[union-attr, operator]
