"""The step to beat: one iteration the way StackGAN++'s trainer does it, eager, float32, on networks of its shape.

Probabilities behind a Sigmoid with BCELoss, upsampling followed by a convolution, three forwards of every
discriminator, an Adam of torch's default for each. Written from the layer table of that project, for birds.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.plain_stackgan import conv3x3, down_block


class Glu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return x[:, :half] * torch.sigmoid(x[:, half:])


def up_block(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv3x3(i, 2 * o), nn.BatchNorm2d(2 * o), Glu())


def same_block(i: int, o: int) -> list[nn.Module]:
    return [conv3x3(i, o), nn.BatchNorm2d(o), nn.LeakyReLU(0.2, inplace=True)]


class PlainResidual(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.block = nn.Sequential(conv3x3(c, 2 * c), nn.BatchNorm2d(2 * c), Glu(), conv3x3(c, c), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x


class PlainV2G(nn.Module):
    def __init__(self, gf: int, text: int, c: int, z: int, base: int, branches: int, blocks: int):
        super().__init__()
        doublings = base.bit_length() - 3
        self.wide, self.text = gf << doublings, nn.Sequential(nn.Linear(text, 4 * c), Glu())
        self.fc = nn.Sequential(nn.Linear(c + z, self.wide * 32, bias=False), nn.BatchNorm1d(self.wide * 32), Glu())
        self.first = nn.Sequential(*(up_block(self.wide >> n, self.wide >> n + 1) for n in range(doublings)))
        self.joints, self.next, self.pictures = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.pictures.append(nn.Sequential(conv3x3(gf, 3), nn.Tanh()))
        for n in range(branches - 1):
            f = gf >> n
            self.joints.append(nn.Sequential(conv3x3(c + f, 2 * f), nn.BatchNorm2d(2 * f), Glu()))
            self.next.append(nn.Sequential(*(PlainResidual(f) for _ in range(blocks)), up_block(f, f // 2)))
            self.pictures.append(nn.Sequential(conv3x3(f // 2, 3), nn.Tanh()))

    def forward(self, text: Tensor, noise: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        mu, logvar = self.text(text).chunk(2, 1)
        c = mu + logvar.mul(0.5).exp() * torch.randn_like(mu)
        h = self.first(self.fc(torch.cat([c, noise], 1)).view(len(c), self.wide, 4, 4))
        fakes = [self.pictures[0](h)]
        for joint, following, picture in zip(self.joints, self.next, self.pictures[1:]):
            tiled = c[:, :, None, None].repeat(1, 1, *h.shape[2:])
            h = following(joint(torch.cat([tiled, h], 1)))
            fakes.append(picture(h))
        return fakes, mu, logvar


class PlainV2D(nn.Module):
    def __init__(self, df: int, c: int, base: int, branch: int):
        super().__init__()
        f, layers = df * base // 8, [nn.Conv2d(3, df, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        trunk: list[nn.Module] = [*layers]
        for n in range(base.bit_length() - 4 + branch):
            trunk += down_block(df << n, df << n + 1)
        for n in reversed(range(branch)):
            trunk += same_block(f << n + 1, f << n)
        self.trunk = nn.Sequential(*trunk)
        self.joint = nn.Sequential(*same_block(f + c, f))
        self.told = nn.Sequential(nn.Conv2d(f, 1, 4, 4), nn.Sigmoid())
        self.plain = nn.Sequential(nn.Conv2d(f, 1, 4, 4), nn.Sigmoid())

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x)
        joint = self.joint(torch.cat([c[:, :, None, None].repeat(1, 1, 4, 4), x], 1))
        return self.told(joint).view(-1), self.plain(x).view(-1)


def stepper(
    g: PlainV2G, judges: list[PlainV2D], real: list[Tensor], wrong: list[Tensor], text: Tensor, z: int
) -> Callable[[], None]:
    """One iteration over and over; `real` and `wrong` are finished pictures, smallest side first."""
    bce, average = nn.BCELoss(), [p.detach().clone() for p in g.parameters()]
    settings: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999)}
    g_adam, d_adams = (
        torch.optim.Adam(g.parameters(), **settings),
        [torch.optim.Adam(judge.parameters(), **settings) for judge in judges],
    )
    ones, zeros = torch.ones(len(text), device=text.device), torch.zeros(len(text), device=text.device)

    def once() -> None:
        fakes, mu, logvar = g(text, torch.randn(len(text), z, device=text.device))
        for judge, adam, r, w, f in zip(judges, d_adams, real, wrong, fakes):
            adam.zero_grad()
            c, loss = mu.detach(), torch.zeros((), device=text.device)
            for pictures, told, plain in ((r, ones, ones), (w, zeros, ones), (f.detach(), zeros, zeros)):
                one, other = judge(pictures, c)
                loss = loss + bce(one, told) + bce(other, plain)
            loss.backward()
            adam.step()
        g_adam.zero_grad()
        loss = -0.5 * torch.mean(1 + logvar - mu.pow(2) - logvar.exp()) * 2.0
        for judge, f in zip(judges, fakes):
            one, other = judge(f, mu)
            loss = loss + bce(one, ones) + bce(other, ones)
        loss.backward()
        g_adam.step()
        for p, mean in zip(g.parameters(), average):
            mean.mul_(0.999).add_(p.data, alpha=0.001)

    return once
