"""One iteration of sg2im, and its layout beside the one that google/sg2im writes.

    python -m benchmarks.graph_step                                     # tiny, and the published sizes, on the CPU
    python -m benchmarks.graph_step --device cuda --case sg2im:32 --case sg2im-128:32

A batch of made-up graphs of 8 objects and the image, as COCO's largest have. The original samples every object's vector
through its mask (o, d, m, m), and adds up what comes out; ours samples masks alone, and a product of matrices adds up.
The floor is the time that the step's multiplications would take at the rate of a large matrix product here.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from store import machine
from tests.support.stores import write_graphs, write_training_stores
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData
from trainer.feed.inputs import stored_side
from trainer.feed.sampler import microbatches, rows_for
from trainer.systems.sg2im.graph import Graphs
from trainer.systems.sg2im.layout import layout, places
from trainer.systems.sg2im.step import SceneGraphGan
from trainer.systems.sg2im.system import SG2IM

OBJECTS = 8


def original_layout(graphs: Graphs, vectors: Tensor, boxes: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """masks_to_layout of google/sg2im: a picture of every channel of every object."""
    drawn = F.grid_sample(
        vectors[:, :, None, None] * masks[:, None], places(boxes, size), "bilinear", "zeros", align_corners=True
    )
    summed = drawn.new_zeros(graphs.pictures, vectors.shape[1], *size)
    return summed.index_add(0, graphs.image, drawn)


def median(run: Callable[[], Any], seconds: float, device: torch.device) -> float:
    """Seconds of one run; one more warms up."""
    times: list[float] = []
    run()
    while not times or sum(times) < seconds:
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def matrix_rate(device: torch.device) -> float:
    """FLOP/s of a product of matrices of 2,048."""
    a = torch.randn(2048, 2048, device=device)
    return 2 * 2048**3 / median(lambda: a @ a, 1.0, device)


def measure(case: str, device: torch.device, seconds: float, rate: float) -> dict[str, Any]:
    """Times of the step of `preset:batch` and of both layouts."""
    preset, batch = case.split(":")
    config = SG2IM.configure({"sg2im": {"preset": preset, "batch": int(batch)}}, "params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        embeddings, images = write_training_stores(Path(folder), images=int(batch), sizes=(stored_side(config.side),))
        write_graphs(images, [1000 + 7 * image for image in range(int(batch))], counts=(OBJECTS,))
        data = TrainingData(SG2IM.inputs(config), embeddings, images)
        trainable: SceneGraphGan = SG2IM.trainable(config, data, Ranks(0, 1, device), None)
        rows = data.gather(rows_for(0, 0, int(batch), len(data))).to(device)
    with FlopCounterMode(display=False) as counted:
        trainable.step(rows, 0, 0, lambda values: None)
    step = median(lambda: trainable.step(rows, 0, 0, lambda values: None), seconds, device)
    part = trainable.microbatch(*next(microbatches(rows, config, 0, trainable.ranks)))
    vectors = torch.randn(len(part.boxes), config.gconv_dim, device=device)
    masks = torch.rand(len(part.boxes), 16, 16, device=device)
    size = (config.side, config.side)
    with torch.inference_mode():
        ours = median(lambda: layout(part.graphs, vectors, part.boxes, masks, size), seconds / 4, device)
        theirs = median(lambda: original_layout(part.graphs, vectors, part.boxes, masks, size), seconds / 4, device)
    flop = counted.get_total_flops()
    return {
        "case": case,
        "objects": OBJECTS,
        "step_ms": 1e3 * step,
        "img_per_s": int(batch) / step,
        "gflop_per_image": flop / int(batch) / 1e9,
        "share_of_floor": flop / rate / step,
        "layout_ms": 1e3 * ours,
        "original_layout_ms": 1e3 * theirs,
    }


@click.command()
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--case", "cases", multiple=True, default=("tiny:32", "sg2im:8"), show_default=True,
              metavar="PRESET:BATCH", help="Repeatable.")  # fmt: skip
@click.option("--seconds", default=20.0, show_default=True, help="Time to measure a case's step.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "graph_step.json",
              show_default=True)  # fmt: skip
def main(device: str, cases: tuple[str, ...], seconds: float, out: Path) -> None:
    """Measure one iteration of sg2im; see the module's first lines."""
    place = torch.device(device)
    torch.backends.cudnn.benchmark = True  # as the loop has it
    rate = matrix_rate(place)
    results = []
    for case in cases:
        found = measure(case, place, seconds, rate)
        speed = (
            f"{found['step_ms']:9.1f} ms {found['img_per_s']:9.1f} img/s {found['gflop_per_image']:6.2f} GFLOP an image"
        )
        both = f"layout {found['layout_ms']:.1f} ms, as the original's {found['original_layout_ms']:.1f} ms"
        print(f"{case:14} {speed}, {found['share_of_floor']:.0%} of the floor; {both}", flush=True)
        results.append(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine.describe(), "matrix_gflops": rate / 1e9, "cases": results}
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
