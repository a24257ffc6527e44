"""One iteration of StackGAN++: ours beside a plain eager float32 step written as StackGAN-v2's trainer does it.

    python -m benchmarks.stackgan_v2_step                               # CPU: tiny's sizes
    python -m benchmarks.stackgan_v2_step --device cuda --case birds:24

Same sizes, captions alone, no feed: the plain step is handed finished float pictures of every side, ours crops, flips,
normalises and makes the smaller ones itself. Contestants take turns and the table holds medians; the floor is the time
that the plain step's multiplications would take at the rate of a large matrix product here.
"""

from dataclasses import replace

import torch

from benchmarks import contest
from tests.support.plain_stackgan_v2 import PlainV2D, PlainV2G, stepper
from trainer.distributed import Ranks
from trainer.feed.inputs import CAPTIONS, Batch, stored_side
from trainer.networks.blocks import initialise_orthogonal
from trainer.systems.stackgan_v2.config import StackGanV2Config
from trainer.systems.stackgan_v2.networks import StackGanV2Generator, generator_settings
from trainer.systems.stackgan_v2.step import StackGanV2
from trainer.systems.stackgan_v2.system import STACKGAN_V2, discriminators

CAPTION_DIM = 1024


def settings(text: str) -> StackGanV2Config:
    """Of a case PRESET:BATCH: the preset's sizes, and the published objective, as the plain step knows no other."""
    preset, batch = text.split(":")
    config = STACKGAN_V2.configure({"stackgan-v2": {"preset": preset, "dialogue": "none", "batch": int(batch)}}, text)
    published = {"d_norm": "batch", "loss": "bce", "d_condition": "mu", "kl_weight": 2.0, "ema_decay": 0.999}
    return replace(config, standardise=False, other_class=False, **published)  # type: ignore[arg-type]


def plain_step(config: StackGanV2Config, inputs: Batch) -> contest.Step:
    device = inputs["images"].device
    torch.manual_seed(0)
    model = config.model
    g = PlainV2G(model.gf, CAPTION_DIM, model.condition_dim, model.noise_dim, model.size, model.branches,
                 model.residual_blocks)  # fmt: skip
    judges = [PlainV2D(config.df, model.condition_dim, model.size, branch) for branch in range(model.branches)]
    for network in (g, *judges):
        network.apply(initialise_orthogonal).to(device)
    real, wrong = [
        [
            torch.nn.functional.interpolate(whole[:, :, : model.sides[-1], : model.sides[-1]], side).contiguous()
            for side in model.sides
        ]
        for whole in (inputs[name].permute(0, 3, 1, 2).float().div(127.5).sub(1) for name in ("images", "wrong_images"))
    ]
    return stepper(g, judges, real, wrong, inputs[CAPTIONS.name].float(), model.noise_dim)


def our_step(config: StackGanV2Config, inputs: Batch) -> contest.Step:
    device = inputs["images"].device
    torch.manual_seed(0)
    generator = StackGanV2Generator(generator_settings(config.model, CAPTION_DIM, None))
    generator.network.apply(initialise_orthogonal)
    gan = StackGanV2(generator, discriminators(generator, config), config, Ranks(0, 1, device))
    return contest.stepping(gan, inputs, config.batch, device)


def prepare(text: str, device: torch.device) -> tuple[contest.Make, int]:
    """The contestants of a case, and its batch."""
    config, random = settings(text), torch.Generator().manual_seed(0)
    side = stored_side(config.sides[-1])
    shape = (config.batch, side, side, 3)
    made = {
        name: torch.randint(0, 256, shape, dtype=torch.uint8, generator=random) for name in ("images", "wrong_images")
    }
    made[CAPTIONS.name] = torch.randn(config.batch, CAPTION_DIM, generator=random).half()
    inputs = Batch({**made, "image_id": torch.arange(config.batch)}).to(device)

    def make(name: str) -> contest.Step:
        if name == contest.PLAIN:
            return plain_step(config, inputs)
        return our_step(replace(config, **contest.switches(name)), inputs)

    return make, config.batch


main = contest.command(__doc__, prepare, "PRESET:BATCH", "tiny:32", "birds:24", "stackgan_v2_step.json")

if __name__ == "__main__":
    main()
