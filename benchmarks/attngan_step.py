"""One iteration of AttnGAN: ours beside a plain eager float32 step written as AttnGAN's trainer does it.

    python -m benchmarks.attngan_step                                       # CPU: tiny's sizes
    python -m benchmarks.attngan_step --device cuda --case birds:20 --case birds:20:inception

Same sizes, captions of 12 to 18 words, no dialogue, no feed; both are judged by the same untrained image encoder: the
small one of ours, or Inception v3 (torchvision), as published. The plain step is handed finished float pictures of
every side, ours crops, flips, normalises and makes the smaller ones itself. Contestants take turns and the table holds
medians.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks import contest
from tests.support.plain_attngan import PlainAttnG, stepper
from tests.support.plain_stackgan_v2 import PlainV2D
from trainer.distributed import Ranks
from trainer.feed.inputs import CAPTIONS, LENGTH, WORDS, Batch, stored_side
from trainer.networks.blocks import initialise_orthogonal
from trainer.systems.attngan.config import AttnGanConfig
from trainer.systems.attngan.networks import AttnGanGenerator, generator_settings
from trainer.systems.attngan.step import AttnGan
from trainer.systems.attngan.system import ATTNGAN, discriminators
from trainer.systems.damsm.image_encoders import ImageEncoder, InceptionEncoder, SmallEncoder

DIM, LONGEST, SHORTEST = 256, 18, 12  # of a word, and words of a caption


def settings(text: str) -> tuple[AttnGanConfig, Callable[[], ImageEncoder]]:
    """Of a case PRESET:BATCH[:inception]: the preset's sizes under the published objective, and the judge."""
    preset, batch, *judge = text.split(":")
    config = ATTNGAN.configure({"attngan": {"preset": preset, "dialogue": "none", "batch": int(batch)}}, text)
    config = replace(config, d_norm="batch", loss="bce", kl_weight=1.0, classes=False, standardise=False)
    if judge == ["inception"]:
        return config, lambda: InceptionEncoder(DIM)
    return config, lambda: SmallEncoder(DIM, config.sides[-1], 32)


def made_up(config: AttnGanConfig, device: torch.device) -> Batch:
    """Random pictures and texts."""
    random, rows = torch.Generator().manual_seed(0), config.batch
    side = stored_side(config.crop_side or config.sides[-1])
    lengths = torch.randint(SHORTEST, LONGEST + 1, (rows,), generator=random)
    lengths[0] = LONGEST
    return Batch(
        {
            "images": torch.randint(0, 256, (rows, side, side, 3), dtype=torch.uint8, generator=random),
            "image_id": torch.arange(rows),
            CAPTIONS.name: torch.randn(rows, DIM, generator=random).half(),
            WORDS.name: torch.randn(rows, LONGEST, DIM, generator=random).half(),
            WORDS.name + LENGTH: lengths,
        }
    ).to(device)


def plain_step(config: AttnGanConfig, judge: ImageEncoder, inputs: Batch) -> contest.Step:
    """The published trainer's."""
    device = inputs["images"].device
    torch.manual_seed(0)
    g = PlainAttnG(config.gf, DIM, DIM, config.condition_dim, config.noise_dim, config.size, config.branches,
                   config.residual_blocks)  # fmt: skip
    opponents = [PlainV2D(config.df, DIM, config.size, branch) for branch in range(config.branches)]
    for network in (g, *opponents):
        network.apply(initialise_orthogonal).to(device)
    judge = judge.to(device).eval().requires_grad_(False)
    whole = inputs["images"].permute(0, 3, 1, 2).float().div(127.5).sub(1)
    real = [torch.nn.functional.interpolate(whole, side).contiguous() for side in config.sides]
    words, lengths = inputs[WORDS.name].float(), inputs[WORDS.name + LENGTH].tolist()
    texts = inputs[CAPTIONS.name].float(), words, lengths
    return stepper(g, opponents, judge, real, *texts, config.noise_dim, config.damsm_weight)


def our_step(config: AttnGanConfig, judge: ImageEncoder, inputs: Batch) -> contest.Step:
    """Of `trainer.systems.attngan`."""
    device = inputs["images"].device
    torch.manual_seed(0)
    generator = AttnGanGenerator(generator_settings(config.model, DIM, DIM, None))
    generator.network.apply(initialise_orthogonal)
    gan = AttnGan(generator, discriminators(generator, config), judge, config, Ranks(0, 1, device))
    return contest.stepping(gan, inputs, config.batch, device)


def prepare(text: str, device: torch.device) -> tuple[contest.Make, int]:
    """The contestants of a case, and its batch."""
    config, judge = settings(text)
    inputs = made_up(config, device)

    def make(name: str) -> contest.Step:
        torch.manual_seed(1)
        if name == contest.PLAIN:
            return plain_step(config, judge(), inputs)
        return our_step(replace(config, **contest.switches(name)), judge(), inputs)

    return make, config.batch


main = contest.command(__doc__, prepare, "PRESET:BATCH[:inception]", "tiny:32", "birds:20", "attngan_step.json")

if __name__ == "__main__":
    main()
