"""The step to beat: one iteration the way AttnGAN's trainer does it, eager, float32, on networks of its shape.

Probabilities behind a Sigmoid with BCELoss, word attention as two bmm of repeated masks, the DAMSM's words loss caption
by caption, an Adam of torch's default for each. Written from the layer table of that project. Its discriminators are
those of StackGAN++ whose condition is the sentence (`PlainV2D`).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.plain_stackgan import conv3x3
from tests.support.plain_stackgan_v2 import Glu, PlainResidual, PlainV2D, up_block

Judge = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pictures (B, 3, s, s) → regions (B, D, h, w) and codes (B, D)."""


class PlainAttention(nn.Module):
    def __init__(self, gf: int, words: int):
        super().__init__()
        self.conv = nn.Conv2d(words, gf, 1, bias=False)

    def forward(self, h: Tensor, words: Tensor, missing: Tensor) -> Tensor:
        b, channels, height, width = h.shape
        source = self.conv(words.unsqueeze(3)).squeeze(3)
        attention = torch.bmm(h.view(b, channels, -1).transpose(1, 2), source).view(b * height * width, -1)
        attention = attention.masked_fill(missing.repeat_interleave(height * width, 0), -float("inf")).softmax(1)
        attention = attention.view(b, height * width, -1).transpose(1, 2)
        return torch.bmm(source, attention).view(b, channels, height, width)


class PlainAttnG(nn.Module):
    def __init__(self, gf: int, text: int, words: int, c: int, z: int, base: int, branches: int, blocks: int):
        super().__init__()
        doublings = base.bit_length() - 3
        self.wide, self.text = gf << doublings, nn.Sequential(nn.Linear(text, 4 * c), Glu())
        self.fc = nn.Sequential(nn.Linear(c + z, self.wide * 32, bias=False), nn.BatchNorm1d(self.wide * 32), Glu())
        self.first = nn.Sequential(*(up_block(self.wide >> n, self.wide >> n + 1) for n in range(doublings)))
        self.attend, self.next = nn.ModuleList(), nn.ModuleList()
        for _ in range(branches - 1):
            self.attend.append(PlainAttention(gf, words))
            self.next.append(nn.Sequential(*(PlainResidual(2 * gf) for _ in range(blocks)), up_block(2 * gf, gf)))
        self.pictures = nn.ModuleList(nn.Sequential(conv3x3(gf, 3), nn.Tanh()) for _ in range(branches))

    def forward(self, text: Tensor, words: Tensor, missing: Tensor, noise: Tensor) -> tuple[list[Tensor], Any, Any]:
        """text (B, D), words (B, D, L), missing (B, L) → pictures, mu, logvar."""
        mu, logvar = self.text(text).chunk(2, 1)
        c = mu + logvar.mul(0.5).exp() * torch.randn_like(mu)
        h = self.first(self.fc(torch.cat([c, noise], 1)).view(len(c), self.wide, 4, 4))
        fakes = [self.pictures[0](h)]
        for attend, following, picture in zip(self.attend, self.next, self.pictures[1:]):
            h = following(torch.cat([h, attend(h, words, missing)], 1))
            fakes.append(picture(h))
        return fakes, mu, logvar


def words_loss(regions: Tensor, words: Tensor, lengths: list[int], focus: float, pooling: float, scale: float) -> Any:
    """regions (B, D, h, w), words (B, D, L) → (), (): pictures that look for their text, texts for their picture."""
    b, places = len(regions), regions.flatten(2)
    columns = []
    for number, length in enumerate(lengths):
        word = words[number, :, :length].unsqueeze(0).repeat(b, 1, 1)
        attention = torch.bmm(places.transpose(1, 2), word).softmax(2).transpose(1, 2)
        context = torch.bmm(places, (attention * focus).softmax(2).transpose(1, 2))
        cosine = F.cosine_similarity(context.transpose(1, 2), word.transpose(1, 2), dim=2, eps=1e-8)
        columns.append((cosine * pooling).exp().sum(1, keepdim=True).log())
    alike, labels = torch.cat(columns, 1) * scale, torch.arange(b, device=regions.device)
    return F.cross_entropy(alike, labels), F.cross_entropy(alike.T, labels)


def sentence_loss(codes: Tensor, sentences: Tensor, scale: float) -> Any:
    """codes (B, D), sentences (B, D) → as `words_loss`."""
    norms = codes.norm(dim=1, keepdim=True) @ sentences.norm(dim=1, keepdim=True).T
    alike, labels = codes @ sentences.T / norms.clamp(min=1e-8) * scale, torch.arange(len(codes), device=codes.device)
    return F.cross_entropy(alike, labels), F.cross_entropy(alike.T, labels)


def stepper(
    g: PlainAttnG,
    opponents: list[PlainV2D],
    judge: Judge | None,
    real: list[Tensor],
    sentence: Tensor,
    words: Tensor,
    lengths: list[int],
    z: int,
    weight: float,
) -> Callable[[], None]:
    """One iteration over and over; `real` are finished pictures, smallest side first, words (B, L, D), weight λ."""
    bce, average = nn.BCELoss(), [p.detach().clone() for p in g.parameters()]
    settings: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999)}
    g_adam = torch.optim.Adam(g.parameters(), **settings)
    d_adams = [torch.optim.Adam(one.parameters(), **settings) for one in opponents]
    n, device, words = len(sentence), sentence.device, words.transpose(1, 2).contiguous()
    ones, zeros = torch.ones(n, device=device), torch.zeros(n, device=device)
    missing = torch.arange(words.shape[2], device=device) >= torch.tensor(lengths, device=device)[:, None]

    def told(one: PlainV2D, features: Tensor, text: Tensor) -> Tensor:
        tiled = text[:, :, None, None].repeat(1, 1, 4, 4)
        found: Tensor = one.told(one.joint(torch.cat([features, tiled], 1))).view(-1)
        return found

    def once() -> None:
        fakes, mu, logvar = g(sentence, words, missing, torch.randn(n, z, device=device))
        for one, adam, pictures, fake in zip(opponents, d_adams, real, fakes):
            adam.zero_grad()
            r, f = one.trunk(pictures), one.trunk(fake.detach())
            high = bce(told(one, r, sentence), ones) + bce(one.plain(r).view(-1), ones)
            low = bce(told(one, f, sentence), zeros) + bce(one.plain(f).view(-1), zeros)
            wrong = bce(told(one, r[:-1], sentence[1:]), zeros[1:])
            (high / 2 + (low + wrong) / 3).backward()
            adam.step()
        g_adam.zero_grad()
        loss = -0.5 * torch.mean(1 + logvar - mu.pow(2) - logvar.exp())
        for one, fake in zip(opponents, fakes):
            f = one.trunk(fake)
            loss = loss + bce(told(one, f, sentence), ones) + bce(one.plain(f).view(-1), ones)
        if judge is not None:
            regions, codes = judge(fakes[-1])
            for term in (*words_loss(regions, words, lengths, 4.0, 5.0, 10.0), *sentence_loss(codes, sentence, 10.0)):
                loss = loss + weight * term
        loss.backward()
        g_adam.step()
        for p, mean in zip(g.parameters(), average):
            mean.mul_(0.999).add_(p.data, alpha=0.001)

    return once
