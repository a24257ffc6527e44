"""Checkpoints laid out as google/sg2im's scripts lay them out: in, painted with, and back."""

from argparse import Namespace
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store.errors import ChatPainterError
from tests.support import parity
from tests.support.models import RECORDED_SG2IM, RECORDED_SG2IM_ARCH, SMALL_SG2IM
from tests.support.pickles import Hostile
from tests.support.same import assert_same
from trainer import generator_file
from trainer.systems import published as every
from trainer.systems.sg2im import published
from trainer.systems.sg2im.config import Networks
from trainer.systems.sg2im.discriminators import CropDiscriminator, PatchDiscriminator
from trainer.systems.sg2im.networks import SceneGraphNetwork, Sg2imGenerator, generator_settings

SIZES = Networks(**RECORDED_SG2IM)
OBJECTS = ["__image__", "person", "NONE", "dog", "grass"]
PREDICATES = ["__in_image__", "left of", "right of", "above", "below", "inside", "surrounding"]


def arguments(sizes: Networks = SIZES, **changes: Any) -> dict[str, Any]:
    """model_kwargs as scripts/train.py makes them."""
    vocabulary = {
        "object_name_to_idx": {name: i for i, name in enumerate(OBJECTS) if name != "NONE"},
        "object_idx_to_name": OBJECTS,
        "pred_name_to_idx": {name: i for i, name in enumerate(PREDICATES)},
        "pred_idx_to_name": PREDICATES,
    }
    return {
        "vocab": vocabulary,
        "image_size": (sizes.side, sizes.side),
        "embedding_dim": sizes.embedding_dim,
        "gconv_dim": sizes.gconv_dim,
        "gconv_hidden_dim": sizes.gconv_hidden_dim,
        "gconv_num_layers": sizes.gconv_num_layers,
        "mlp_normalization": "none",
        "refinement_dims": sizes.refinement_dims,
        "normalization": "batch",
        "activation": "leakyrelu-0.2",
        "mask_size": sizes.mask_size or None,
        "layout_noise_dim": sizes.layout_noise_dim,
        "vec_noise_dim": 0,  # of an older version, which nothing reads
        **changes,
    }


def states(sizes: Networks = SIZES, prefix: str = "") -> dict[str, OrderedDict[str, torch.Tensor]]:
    """Of the three networks in float32, without counters, as torch 0.4.0 knew none."""
    networks = {
        "model": SceneGraphNetwork(len(OBJECTS), len(PREDICATES), sizes),
        "d_obj": CropDiscriminator(RECORDED_SG2IM_ARCH, len(OBJECTS), 24),
        "d_img": PatchDiscriminator(RECORDED_SG2IM_ARCH),
    }
    return {
        name: OrderedDict(
            (prefix + key, value.float())
            for key, value in parity.fill(network, "B").state_dict().items()
            if not key.endswith("num_batches_tracked")
        )
        for name, network in networks.items()
    }


def checkpoint(path: Path, sizes: Networks = SIZES, prefix: str = "", zipped: bool = False, **changes: Any) -> dict:
    """A stripped one."""
    made = states(sizes, prefix)
    about = {"arch": RECORDED_SG2IM_ARCH, "normalization": "batch", "activation": "leakyrelu-0.2", "padding": "valid"}
    content = {
        "args": {"dataset": "coco", "image_size": (sizes.side, sizes.side), "learning_rate": 1e-4, "restore": None},
        "model_state": made["model"],
        "model_kwargs": arguments(sizes),
        "d_img_state": made["d_img"],
        "d_img_kwargs": about,
        "d_obj_state": made["d_obj"],
        "d_obj_kwargs": {**about, "vocab": {}, "object_size": 24},
        **changes,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return content


GRAPH = {
    "objects": torch.tensor([[1, 3, 0], [4, 0, 0]]),
    "objects.length": torch.tensor([3, 2]),
    "triples": torch.tensor([[[0, 1, 1], [0, 0, 2], [1, 0, 2]], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]]),
    "triples.length": torch.tensor([3, 1]),
}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layers, mask", [(3, 8), (1, 0), (0, 8)])
def test_it_paints_and_goes_back_to_the_bit(tmp_path: Path, prefix: str, zipped: bool, layers: int, mask: int) -> None:
    sizes = Networks(**{**vars(SIZES), "gconv_num_layers": layers, "mask_size": mask})
    content = checkpoint(tmp_path / "coco64.pt", sizes, prefix, zipped)
    generator = every.read_generator("sg2im", tmp_path / "coco64.pt")
    assert isinstance(generator, Sg2imGenerator)
    assert generator.sizes == sizes
    assert generator.settings["vocabulary"] == {"objects": OBJECTS, "predicates": PREDICATES}
    for name, value in content["model_state"].items():
        assert torch.equal(generator.network.state_dict()[name.removeprefix("module.")], value)
    painted = generator.paint(GRAPH, torch.randn(2, generator.noise_dim))[32]
    assert painted.shape == (2, 3, 32, 32)
    assert painted.isfinite().all()
    assert painted.std() > 0.01

    generator_file.save(generator, tmp_path / "generator.safetensors")
    every.write_generator(generator_file.load(tmp_path / "generator.safetensors"), tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert_same(dict(back["model_state"]), dict(content["model_state"]))
    assert list(back["model_state"]) == list(content["model_state"])
    assert back["model_kwargs"]["vocab"] == content["model_kwargs"]["vocab"]
    assert back["args"] == {**content["args"], "image_size": [32, 32]}
    again = published.read_generator(tmp_path / "back.pt")
    assert again.sizes == sizes


def test_the_discriminators_come_too(tmp_path: Path) -> None:
    content = checkpoint(tmp_path / "coco64.pt")
    objects, pictures = published.read_discriminators(tmp_path / "coco64.pt")
    assert (objects.side, objects.training, pictures.training) == (24, False, False)
    for found, name in ((objects, "d_obj"), (pictures, "d_img")):
        for key, value in content[f"{name}_state"].items():
            assert torch.equal(found.state_dict()[key], value)
    checkpoint(tmp_path / "alone.pt", d_obj_state=None, d_obj_kwargs={})
    objects, pictures = published.read_discriminators(tmp_path / "alone.pt")
    assert objects is None
    assert pictures is not None


def test_a_full_one_of_its_time_is_read(tmp_path: Path) -> None:
    """With histories in a defaultdict and numbers of numpy's; nothing of the file's choice is called."""
    losses: defaultdict[str, list] = defaultdict(list)
    losses["L1_pixel_loss"].append(np.float64(0.25))
    checkpoint(tmp_path / "full.pt", losses=losses, best_t=[3], optim_state={"state": {}}, args={"mask_size": 8})
    assert published.read_generator(tmp_path / "full.pt").settings["published"]["args"] == {"mask_size": 8}


def test_ours_goes_out_as_theirs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = Networks(**{name: SMALL_SG2IM[name] for name in SMALL_SG2IM if name in Networks.__dataclass_fields__})
    sizes = Networks(**{**vars(sizes), "refinement_dims": tuple(sizes.refinement_dims)})
    ours = Sg2imGenerator(generator_settings(sizes, {"objects": OBJECTS, "predicates": PREDICATES}))
    published.write_generator(ours, tmp_path / "ours.pt")
    content = torch.load(tmp_path / "ours.pt", weights_only=True)
    expected = arguments(sizes, gconv_pooling="avg")
    del expected["vec_noise_dim"]
    assert content["model_kwargs"] == expected
    assert not any(name.endswith("num_batches_tracked") for name in content["model_state"])
    again = published.read_generator(tmp_path / "ours.pt")
    assert again.sizes == sizes
    noise = torch.randn(2, ours.noise_dim)
    assert_same(again.paint(GRAPH, noise)[32], ours.eval().paint(GRAPH, noise)[32])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_kwargs": arguments(image_size=(64, 128))}, "image_size is 64 x 128, and only squares"),
        ({"model_kwargs": arguments(activation="relu")}, "activation is 'relu', and only 'leakyrelu-0.2'"),
        ({"model_kwargs": arguments(normalization="instance")}, "normalization is 'instance'"),
        ({"model_kwargs": {}}, "it lacks vocab"),
        ({"model_kwargs": arguments(vocab={"object_idx_to_name": OBJECTS[:-1]})}, "should be 5 names"),
        ({"model_state": {}}, "it lacks box_net.0.weight"),
        ({"model_state": None}, "expected a state_dict"),
        ({"model_state": states(Networks(**{**vars(SIZES), "mask_size": 0}))["d_img"]}, "it lacks"),
        ({"args": {"t": torch.zeros(1)}}, "one is Tensor"),
        ({"args": Namespace(a=1)}, "one is Namespace"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    checkpoint(tmp_path / "other.pt", **changes)
    with pytest.raises(ChatPainterError, match=message) as refused:
        published.read_generator(tmp_path / "other.pt")
    assert "\n" not in refused.value.message
    assert "other.pt" in refused.value.message


def test_files_that_would_run_something_do_not(tmp_path: Path) -> None:
    hostile = Hostile(tmp_path / "ran")
    checkpoint(tmp_path / "hostile.pt", losses=hostile)
    with pytest.raises(ChatPainterError, match=r"which is refused"):
        published.read_generator(tmp_path / "hostile.pt")
    assert not hostile.ran
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ChatPainterError, match="expected model_state and model_kwargs"):
        published.read_generator(tmp_path / "list.pt")
    with pytest.raises(ChatPainterError, match="cannot be read"):
        published.read_generator(tmp_path / "none.pt")
