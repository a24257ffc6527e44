"""The step to beat: networks and one iteration the way StackGAN-Pytorch's trainer does them, eager, float32.

Probabilities behind a Sigmoid with BCELoss, one forward for real and one for painted pictures, upsampling followed by a
convolution, torch's default Adam. Written from the layer table of that project; `tests/trainer/systems/chatpainter`
holds our networks and gradients against these.
"""

from typing import Any

import torch
from torch import Tensor, nn


def conv3x3(i: int, o: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, 1, 1, bias=False)


def up_block(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv3x3(i, o), nn.BatchNorm2d(o), nn.ReLU(True))


def down_block(i: int, o: int) -> list[nn.Module]:
    return [nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2, inplace=True)]


class PlainResidual(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.block = nn.Sequential(conv3x3(c, c), nn.BatchNorm2d(c), nn.ReLU(True), conv3x3(c, c), nn.BatchNorm2d(c))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.block(x) + x)


class PlainCondition(nn.Module):
    def __init__(self, text: int, c: int):
        super().__init__()
        self.fc = nn.Linear(text, 2 * c)
        self.c = c

    def forward(self, text: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.relu(self.fc(text))
        mu, logvar = x[:, : self.c], x[:, self.c :]
        return logvar.mul(0.5).exp() * epsilon + mu, mu, logvar


class PlainLogits(nn.Module):
    def __init__(self, df: int, c: int, conditional: bool = True):
        super().__init__()
        self.conditional = conditional
        layers: list[nn.Module] = []
        if conditional:
            layers = [conv3x3(8 * df + c, 8 * df), nn.BatchNorm2d(8 * df), nn.LeakyReLU(0.2, inplace=True)]
        self.outlogits = nn.Sequential(*layers, nn.Conv2d(8 * df, 1, 4, 4), nn.Sigmoid())

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.conditional:
            assert condition is not None
            features = torch.cat([features, condition.view(len(condition), -1, 1, 1).repeat(1, 1, 4, 4)], 1)
        return self.outlogits(features).view(-1)


class PlainStage1G(nn.Module):
    def __init__(self, gf: int, text: int, c: int, z: int):
        super().__init__()
        n = gf * 8
        self.n = n
        self.ca_net = PlainCondition(text, c)
        self.fc = nn.Sequential(nn.Linear(z + c, n * 16, bias=False), nn.BatchNorm1d(n * 16), nn.ReLU(True))
        self.upsample1 = up_block(n, n // 2)
        self.upsample2 = up_block(n // 2, n // 4)
        self.upsample3 = up_block(n // 4, n // 8)
        self.upsample4 = up_block(n // 8, n // 16)
        self.img = nn.Sequential(conv3x3(n // 16, 3), nn.Tanh())

    def forward(self, text: Tensor, noise: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c, mu, logvar = self.ca_net(text, epsilon)
        x = self.fc(torch.cat((noise, c), 1)).view(-1, self.n, 4, 4)
        x = self.upsample4(self.upsample3(self.upsample2(self.upsample1(x))))
        return self.img(x), mu, logvar


class PlainStage1D(nn.Module):
    def __init__(self, df: int, c: int):
        super().__init__()
        self.encode_img = nn.Sequential(
            nn.Conv2d(3, df, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            *down_block(df, 2 * df),
            *down_block(2 * df, 4 * df),
            *down_block(4 * df, 8 * df),
        )
        self.get_cond_logits = PlainLogits(df, c)
        self.get_uncond_logits = None

    def forward(self, pictures: Tensor) -> Tensor:
        return self.encode_img(pictures)


class PlainStage2G(nn.Module):
    def __init__(self, gf: int, text: int, c: int, z: int, blocks: int):
        super().__init__()
        self.STAGE1_G = PlainStage1G(gf, text, c, z)
        for p in self.STAGE1_G.parameters():
            p.requires_grad_(False)
        self.ca_net = PlainCondition(text, c)
        self.encoder = nn.Sequential(
            conv3x3(3, gf), nn.ReLU(True),
            nn.Conv2d(gf, gf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(gf * 2), nn.ReLU(True),
            nn.Conv2d(gf * 2, gf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(gf * 4), nn.ReLU(True),
        )  # fmt: skip
        self.hr_joint = nn.Sequential(conv3x3(c + gf * 4, gf * 4), nn.BatchNorm2d(gf * 4), nn.ReLU(True))
        self.residual = nn.Sequential(*[PlainResidual(gf * 4) for _ in range(blocks)])
        self.upsample1 = up_block(gf * 4, gf * 2)
        self.upsample2 = up_block(gf * 2, gf)
        self.upsample3 = up_block(gf, gf // 2)
        self.upsample4 = up_block(gf // 2, gf // 4)
        self.img = nn.Sequential(conv3x3(gf // 4, 3), nn.Tanh())

    def forward(self, text: Tensor, noise: Tensor, epsilon: Tensor, epsilon1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.STAGE1_G(text, noise, epsilon1)[0].detach()
        encoded = self.encoder(first)
        c, mu, logvar = self.ca_net(text, epsilon)
        x = torch.cat([encoded, c.view(len(c), -1, 1, 1).repeat(1, 1, 16, 16)], 1)
        x = self.residual(self.hr_joint(x))
        x = self.upsample4(self.upsample3(self.upsample2(self.upsample1(x))))
        return self.img(x), mu, logvar


class PlainStage2D(nn.Module):
    def __init__(self, df: int, c: int):
        super().__init__()
        self.encode_img = nn.Sequential(
            nn.Conv2d(3, df, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            *down_block(df, 2 * df),
            *down_block(2 * df, 4 * df),
            *down_block(4 * df, 8 * df),
            *down_block(8 * df, 16 * df),
            *down_block(16 * df, 32 * df),
            conv3x3(32 * df, 16 * df), nn.BatchNorm2d(16 * df), nn.LeakyReLU(0.2, inplace=True),
            conv3x3(16 * df, 8 * df), nn.BatchNorm2d(8 * df), nn.LeakyReLU(0.2, inplace=True),
        )  # fmt: skip
        self.get_cond_logits = PlainLogits(df, c)
        self.get_uncond_logits = PlainLogits(df, c, conditional=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.encode_img(pictures)


class PlainDialogue(nn.Module):
    """The paper's recurrent encoder, as a packed bidirectional LSTM."""

    def __init__(self, turn_dim: int, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(turn_dim, hidden, batch_first=True, bidirectional=True)

    def forward(self, turns: Tensor, rounds: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(turns, rounds.cpu(), batch_first=True, enforce_sorted=False)
        _, (final, _) = self.lstm(packed)
        return torch.cat([final[0], final[1]], 1)


def d_loss(netd: Any, real: Tensor, fake: Tensor, mu: Tensor) -> Tensor:
    """compute_discriminator_loss: wrong pairs are image i with condition i + 1."""
    bce, cond, b = nn.BCELoss(), mu.detach(), len(real)
    ones, zeros = real.new_ones(b), real.new_zeros(b)
    real_features, fake_features = netd(real), netd(fake.detach())
    err_real = bce(netd.get_cond_logits(real_features, cond), ones)
    err_wrong = bce(netd.get_cond_logits(real_features[: b - 1], cond[1:]), zeros[1:])
    err_fake = bce(netd.get_cond_logits(fake_features, cond), zeros)
    if netd.get_uncond_logits is None:
        return err_real + (err_fake + err_wrong) * 0.5
    uncond_real = bce(netd.get_uncond_logits(real_features), ones)
    uncond_fake = bce(netd.get_uncond_logits(fake_features), zeros)
    return (err_real + uncond_real) / 2.0 + (err_fake + err_wrong + uncond_fake) / 3.0


def g_loss(netd: Any, fake: Tensor, mu: Tensor, logvar: Tensor, kl_weight: float = 2.0) -> Tensor:
    """compute_generator_loss and KL_loss."""
    bce, ones = nn.BCELoss(), fake.new_ones(len(fake))
    features = netd(fake)
    loss = bce(netd.get_cond_logits(features, mu.detach()), ones)
    if netd.get_uncond_logits is not None:
        loss = loss + bce(netd.get_uncond_logits(features), ones)
    kl = mu.pow(2).add(logvar.exp()).mul(-1).add(1).add(logvar).mean().mul(-0.5)
    return loss + kl * kl_weight


def step(
    netg: Any,
    netd: Any,
    dialogue: PlainDialogue | None,
    g_optimizer: torch.optim.Optimizer,
    d_optimizer: torch.optim.Optimizer,
    real: Tensor,
    captions: Tensor,
    turns: Tensor | None,
    rounds: Tensor | None,
    z: int,
    c: int,
) -> None:
    """One iteration: paint, train the discriminator, train the generator."""
    b, device = len(real), real.device
    text = captions if dialogue is None else torch.cat([captions, dialogue(turns, rounds)], 1)
    draws = [torch.randn(b, c, device=device) for _ in range(2 if hasattr(netg, "STAGE1_G") else 1)]
    fake, mu, logvar = netg(text, torch.randn(b, z, device=device), *draws)
    netd.zero_grad()
    d_loss(netd, real, fake, mu).backward()
    d_optimizer.step()
    netg.zero_grad()
    if dialogue is not None:
        dialogue.zero_grad()
    g_loss(netd, fake, mu, logvar).backward()
    g_optimizer.step()
