"""Keys, outputs and losses of google/sg2im's own networks, under weights by formula."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support import parity
from tests.support.models import RECORDED_SG2IM, RECORDED_SG2IM_ARCH
from trainer.networks import losses
from trainer.systems.sg2im import networks
from trainer.systems.sg2im.config import Networks, Sg2imConfig
from trainer.systems.sg2im.discriminators import CropDiscriminator, PatchDiscriminator
from trainer.systems.sg2im.display import normalised, shown
from trainer.systems.sg2im.graph import Graphs, GraphTripleConv, GraphTripleConvNet, mlp
from trainer.systems.sg2im.layout import crop, layout
from trainer.systems.sg2im.networks import RefinementNetwork, SceneGraphNetwork
from trainer.systems.sg2im.step import generator_terms

RECORDED = parity.load("sg2im")
GRAPH = RECORDED["graph"]
GRAPHS = Graphs(
    torch.tensor(GRAPH["objs"]), torch.tensor(GRAPH["triples"]), torch.tensor(GRAPH["obj_to_img"]), pictures=2
)
BOXES = torch.tensor(GRAPH["boxes_gt"], dtype=torch.float64)
SMALL = Networks(**RECORDED_SG2IM)
N = TypeVar("N", bound=nn.Module)
RECORDS = ("eval_A", "train_A", "eval_B", "train_B")


def masks() -> Tensor:
    """True masks of the graph."""
    found = (parity.wave(30, (7, 8, 8)) > -0.3).double()
    found[GRAPHS.objects == 0] = 1
    return found


def prepared(network: N, record: str) -> N:
    mode, kind = record.split("_")
    parity.fill(network, cast(parity.Fill, kind))
    return network.train(mode == "train")


def moved(network: nn.Module, recorded: dict[str, Any]) -> None:
    if "buffers_after" in recorded:
        parity.assert_buffers(network, recorded["buffers_after"])


def given(recorded: dict[str, Any]) -> Tensor:
    return parity.wave(recorded["j"], recorded["shape"])


def test_the_keys_are_those_of_the_published_files() -> None:
    ours = SceneGraphNetwork(184, 7, Networks())
    recorded = RECORDED["keys"]["Sg2ImModel"]
    assert parity.keys(ours) == recorded["keys"]
    assert sum(p.numel() for p in ours.parameters()) == recorded["params"] == 28_158_223
    assert len(ours.state_dict()) == recorded["entries"] == 154
    config = Sg2imConfig()
    for name, made in (
        ("PatchDiscriminator", PatchDiscriminator(config.arch)),
        ("AcCropDiscriminator", CropDiscriminator(config.arch, 184, config.crop_side)),
    ):
        recorded = RECORDED["keys"][name]
        assert parity.keys(made) == recorded["keys"]
        assert sum(p.numel() for p in made.parameters()) == recorded["params"]


def test_vg_would_have_as_many_parameters_as_is_said() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in SceneGraphNetwork(179, 46, Networks()).parameters()) == 28_182_582


NETWORKS = {  # sizes, whether true boxes are given, whether true masks are
    "Sg2ImModel": (SMALL, True, True),
    "Sg2ImModel_pred_masks": (SMALL, True, False),
    "Sg2ImModel_pred_boxes": (SMALL, False, False),
    "Sg2ImModel_no_mask_net_1_gconv": (replace(SMALL, mask_size=0, gconv_num_layers=1), True, False),
}


def recorded_as(*names: str) -> Any:
    """Every record of these networks."""
    cases = [(name, record) for name in names for record in RECORDS if record in RECORDED["networks"][name]]
    return pytest.mark.parametrize("name, record", cases)


@recorded_as(*NETWORKS)
def test_the_generator(name: str, record: str) -> None:
    sizes, boxes_given, masks_given = NETWORKS[name]
    recorded = RECORDED["networks"][name]
    ours = prepared(SceneGraphNetwork(11, 7, sizes), record)
    if name == "Sg2ImModel_pred_boxes":
        with torch.no_grad():
            last = cast(nn.Linear, ours.box_net[2])
            last.bias.copy_(torch.tensor([0.1, 0.2, 0.8, 0.9]).double())
            last.weight.copy_((0.05 * last.weight).float().double())
    if "keys" in recorded:
        assert parity.keys(ours) == recorded["keys"]
    seen: dict[str, Tensor] = {}
    ours.refinement_net.register_forward_pre_hook(lambda module, given: seen.update(layout_and_noise=given[0]))
    noise = parity.wave(50, (2, 4, 32, 32))
    found = ours.understand(GRAPHS, relations=True)
    laid = masks() if masks_given else None if found.masks is None else found.masks.sigmoid()
    image = ours.refine(GRAPHS, found.vectors, BOXES if boxes_given else found.boxes, laid, noise)
    out = recorded[record]["out"]
    parity.assert_recorded(image, out["image"])
    parity.assert_recorded(found.boxes, out["boxes_pred"])
    parity.assert_recorded(found.relations, out["rel_scores"])
    parity.assert_recorded(seen["layout_and_noise"], out["layout_and_noise"])
    if "masks_pred" in out:
        parity.assert_recorded(found.masks.sigmoid(), out["masks_pred"])
    moved(ours, recorded[record])


def test_forward_lays_out_what_is_given_and_what_is_found() -> None:
    ours = prepared(SceneGraphNetwork(11, 7, SMALL), "eval_B")
    noise = parity.wave(50, (2, 4, 32, 32))
    for name, given in (("Sg2ImModel", (BOXES, masks())), ("Sg2ImModel_pred_masks", (BOXES, None))):
        image, _ = ours(GRAPHS, noise, *given)
        parity.assert_recorded(image, RECORDED["networks"][name]["eval_B"]["out"]["image"])


@pytest.mark.parametrize("record", ["eval_A", "eval_B"])
@pytest.mark.parametrize("pooling", ["avg", "sum"])
def test_one_layer_of_graph_convolution(pooling: Any, record: str) -> None:
    out = RECORDED["networks"][f"GraphTripleConv_{pooling}"][record]["out"]
    ours = prepared(GraphTripleConv(10, 12, 20, pooling), record)
    subject, _, object_ = GRAPHS.triples.unbind(1)
    objects, predicates = ours(parity.wave(0, (7, 10)), parity.wave(1, (10, 10)), subject, object_)
    parity.assert_recorded(objects, out["obj"])
    parity.assert_recorded(predicates, out["pred"])


@pytest.mark.parametrize("record", ["eval_A", "eval_B"])
def test_two_layers_of_graph_convolution(record: str) -> None:
    recorded = RECORDED["networks"]["GraphTripleConvNet_2"]
    ours = prepared(GraphTripleConvNet(12, 2, 20), record)
    subject, _, object_ = GRAPHS.triples.unbind(1)
    objects, predicates = ours(parity.wave(0, (7, 12)), parity.wave(1, (10, 12)), subject, object_)
    parity.assert_recorded(objects, recorded[record]["out"]["obj"])
    parity.assert_recorded(predicates, recorded[record]["out"]["pred"])


@recorded_as("box_net", "mask_net", "RefinementNetwork")
def test_the_parts(name: str, record: str) -> None:
    recorded = RECORDED["networks"][name]
    parts: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
        "box_net": (lambda: mlp(12, 20, 4), (7, 12), "boxes"),
        "mask_net": (lambda: networks.mask_net(12, 8), (7, 12, 1, 1), "scores"),
        "RefinementNetwork": (lambda: RefinementNetwork(16, (16, 12, 8)), (2, 16, 32, 32), "image"),
    }
    made, given, out = parts[name]
    ours = prepared(made(), record)
    parity.assert_recorded(ours(parity.wave(0, given)), recorded[record]["out"][out])
    moved(ours, recorded[record])


@pytest.mark.parametrize("record", RECORDS)
def test_the_discriminator_of_pictures(record: str) -> None:
    recorded = RECORDED["networks"]["PatchDiscriminator"]
    ours = prepared(PatchDiscriminator(RECORDED_SG2IM_ARCH), record)
    assert parity.keys(ours) == recorded["keys"]
    scores = ours(parity.wave(0, (2, 3, 48, 48)))
    parity.assert_recorded(
        scores.reshape(recorded[record]["out"]["scores"]["shape"]), recorded[record]["out"]["scores"]
    )
    moved(ours, recorded[record])


@pytest.mark.parametrize("record", RECORDS)
def test_the_discriminator_of_objects(record: str) -> None:
    recorded = RECORDED["networks"]["AcCropDiscriminator"]
    ours = prepared(CropDiscriminator(RECORDED_SG2IM_ARCH, 11, 24), record)
    assert parity.keys(ours) == recorded["keys"]
    with torch.no_grad():
        real, named = ours(parity.wave(0, (2, 3, 48, 48)), GRAPHS.objects, BOXES, GRAPHS.image)
    parity.assert_recorded(real[:, None], recorded[record]["out"]["scores"])
    assert float(named) == pytest.approx(recorded[record]["out"]["ac_loss"]["mean"], rel=1e-5)
    moved(ours, recorded[record])


FUNCTIONS = RECORDED["functions"]


@pytest.mark.parametrize("name", ["graph_boxes", "odd_boxes"])
@pytest.mark.parametrize("masked", [False, True])
def test_layouts(name: str, masked: bool) -> None:
    recorded = FUNCTIONS[f"{'masks' if masked else 'boxes'}_to_layout.{name}"]
    drawn = (parity.wave(31, (7, 8, 8)) + 1) / 2 if masked else None
    boxes = torch.tensor(recorded["boxes"] if not masked else FUNCTIONS[f"boxes_to_layout.{name}"]["boxes"]).double()
    found = layout(GRAPHS, given(recorded["vecs"]), boxes, drawn, tuple(recorded["H,W"]))
    assert_close(recorded["align_corners_True"], found)


@pytest.mark.parametrize("name", ["graph_boxes", "odd_boxes"])
def test_crops(name: str) -> None:
    recorded = FUNCTIONS[f"crop.{name}"]
    boxes = torch.tensor(FUNCTIONS[f"boxes_to_layout.{name}"]["boxes"]).double()
    pictures = given(recorded["feats"])
    assert_close(recorded["align_corners_True"], crop(pictures, boxes, GRAPHS.image, tuple(recorded["HH,WW"])))
    if name == "graph_boxes":
        found = crop(pictures, boxes.flip(0), GRAPHS.image.flip(0), tuple(recorded["HH,WW"]))
        assert_close(FUNCTIONS["crop_unsorted"]["align_corners_True"], found)


def test_what_is_written_out_in_full() -> None:
    recorded = FUNCTIONS["layout_full"]
    alone = Graphs(torch.tensor([1]), torch.zeros(0, 3, dtype=torch.int64), torch.tensor([0]), 1)
    box, mask = torch.tensor([recorded["box"]]).double(), torch.tensor([recorded["mask"]]).double()
    found = layout(alone, torch.ones(1, 1).double(), box, mask, tuple(recorded["H,W"]))
    np.testing.assert_allclose(found.flatten(), recorded["align_corners_True"], atol=1e-6)
    recorded = FUNCTIONS["crop_full"]
    ramp = torch.arange(16.0).view(1, 1, 4, 4).double()
    found = crop(ramp, torch.tensor([recorded["box"]]).double(), torch.tensor([0]), tuple(recorded["HH,WW"]))
    np.testing.assert_allclose(found.flatten(), recorded["align_corners_True"], atol=1e-5)


@pytest.mark.parametrize("rescale", [True, False])
def test_display(rescale: bool) -> None:
    recorded = FUNCTIONS[f"deprocess.rescale_{rescale}"]["uint8"]
    given = parity.wave(0, (2, 3, 6, 6), scale=1.5)
    # sg2im cuts fractions off where this project rounds.
    bytes_ = ((shown(given, rescale) + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
    assert bytes_.flatten().tolist() == recorded
    inside = torch.rand(2, 3, 5, 5).double() * 2 - 1
    torch.testing.assert_close(shown(normalised(inside)), inside)


KINDS = {"gan": "bce", "wgan": "wgan", "lsgan": "lsgan"}


@pytest.mark.parametrize("theirs, ours", KINDS.items())
def test_the_game(theirs: str, ours: Any) -> None:
    recorded = RECORDED["losses"][f"gan_type.{theirs}"]
    i = torch.arange(7).double()
    real, fake = 2 * torch.sin(0.11 * i), 2 * torch.sin(0.11 * i + 1)
    assert float(losses.generator(fake, ours)) == pytest.approx(recorded["g_loss"], rel=1e-6)
    assert float(losses.unconditional(real, fake, ours)) == pytest.approx(recorded["d_loss"], rel=1e-6)


def test_cross_entropy_far_out() -> None:
    recorded = RECORDED["losses"]["bce_loss.large"]
    given, wanted = torch.tensor(recorded["input"]).double(), torch.tensor(recorded["target"]).double()
    each = [losses.real(x, "bce") if y else losses.fake(x, "bce") for x, y in zip(given, wanted)]
    assert float(torch.stack(each).mean()) == pytest.approx(recorded["value"], rel=1e-6)


@pytest.mark.parametrize("skip, mask, predicate", [(0, 0, 0), (0, 0.1, 0), (0, 0.1, 0.5), (1, 0.1, 0)])
def test_the_generators_own_terms(skip: int, mask: float, predicate: float) -> None:
    recorded = RECORDED["losses"][f"model.skip{skip}.mask{mask}.pred{predicate}"]
    config = Sg2imConfig(pixel_weight=0.0 if skip else 1.0, mask_weight=mask, predicate_weight=predicate)
    found = networks.Understood(
        torch.zeros(7, 12),
        boxes=0.5 + 0.4 * parity.wave(2, (7, 4)),  # the record names its loss in their place
        masks=(0.5 + 0.45 * parity.wave(3, (7, 8, 8))).logit(),
        relations=parity.wave(4, (10, 7)),
    )
    real, painted = (parity.wave(j, (2, 3, 32, 32)) for j in (0, 1))
    total, terms = generator_terms(config, GRAPHS, found, painted, real, BOXES, masks())
    assert float(total) == pytest.approx(recorded["total"], rel=2e-6)
    if not skip:
        assert float(terms["pixel"]) == pytest.approx(recorded["L1_pixel_loss"], rel=2e-6)
    if mask:
        assert mask * float(terms["masks"]) == pytest.approx(recorded["mask_loss"], rel=2e-6)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("record", RECORDS)
def test_the_discriminators_terms(record: str) -> None:
    recorded = RECORDED["losses"][f"step.{record}"]
    real, fake = (parity.wave(j, (2, 3, 48, 48)) for j in (0, 1))
    objects = prepared(CropDiscriminator(RECORDED_SG2IM_ARCH, 11, 24), record)
    pictures = prepared(PatchDiscriminator(RECORDED_SG2IM_ARCH), record)
    about = GRAPHS.objects, BOXES, GRAPHS.image

    def near(value: float) -> Any:
        return pytest.approx(value, rel=5e-6)

    assert float(losses.generator(pictures(fake), "bce")) == near(recorded["g_img"])
    assert float(losses.unconditional(pictures(real), pictures(fake), "bce")) == near(recorded["d_img"])
    (real_scores, named_real), (fake_scores, named_fake) = objects(real, *about), objects(fake, *about)
    assert float(losses.generator(fake_scores, "bce")) == near(recorded["g_obj"])
    assert float(losses.unconditional(real_scores, fake_scores, "bce")) == near(recorded["d_obj"])
    assert (float(named_real), float(named_fake)) == (near(recorded["ac_real"]), near(recorded["ac_fake"]))
    share = parity.wave(60, (2, 1, 1, 1))
    between = (share * real + (1 - share) * fake).requires_grad_()
    found = losses.gradient_penalty(pictures(between).mean(1), between)
    assert float(found) == near(recorded["gradient_penalty"])


def assert_close(recorded: dict[str, Any], found: Tensor) -> None:
    """Functions were recorded in float32 alone."""
    values = found.detach().numpy()
    assert list(values.shape) == recorded["shape"]
    for name, value in {
        "mean": values.mean(),
        "std": values.std(),
        "abs": np.abs(values).sum(),
        "first": values.reshape(-1)[:8],
        "last": values.reshape(-1)[-8:],
    }.items():
        np.testing.assert_allclose(value, recorded[name], rtol=3e-6, atol=2e-6, err_msg=name)
