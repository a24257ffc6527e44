"""DAMSM: the published image encoder's keys and numbers, its training's rules, and that it learns."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from store.errors import ChatPainterError, ParamsError
from tests.support import parity
from tests.support.same import assert_same
from tests.support.stores import WORDS
from trainer import generator_file
from trainer.distributed import Ranks
from trainer.evaluation import damsm as judging
from trainer.feed.augment import augment
from trainer.feed.inputs import LENGTH, Batch
from trainer.networks.words import sentence_scores
from trainer.systems.damsm.config import DamsmConfig
from trainer.systems.damsm.image_encoders import InceptionEncoder, SmallEncoder
from trainer.systems.damsm.networks import DamsmEncoders, drawn_words
from trainer.systems.damsm.published import read_image_encoder, write_image_encoder
from trainer.systems.damsm.step import Damsm
from trainer.systems.damsm.system import DAMSM, adopt_inception

RECORDED = parity.load("attngan")
CPU = Ranks(0, 1, torch.device("cpu"))


def test_keys_are_those_of_the_published_file() -> None:
    network = InceptionEncoder(256)
    record = RECORDED["keys"]["CNN_ENCODER"]
    assert sorted(parity.keys(network)) == sorted(record["keys"])
    assert sum(parameter.numel() for parameter in network.parameters()) == record["params"] == 22_506_720
    learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learned == {"emb_features.weight", "emb_cnn_code.weight", "emb_cnn_code.bias"}


@pytest.mark.parametrize(
    "case",
    [
        "True eval_B",
        *(pytest.param(case, marks=pytest.mark.slow) for case in ("True eval_A", "True train_B", "False eval_B")),
    ],
)
def test_regions_and_codes_are_the_published_ones(case: str) -> None:
    aligned, name = case.split()
    record = RECORDED["networks"][f"CNN_ENCODER_align_corners_{aligned}"]
    network = InceptionEncoder(record["inputs"]["nef"], align_corners=aligned == "True")
    parity.fill(network, name[-1])  # type: ignore[arg-type]
    network.train(name.startswith("train"))
    with torch.no_grad():
        seen = network(parity.given(record["inputs"]["image"]))
    parity.assert_recorded(seen.regions, record[name]["out"]["features"])
    parity.assert_recorded(seen.code, record[name]["out"]["code"])
    if "buffers_after" in record[name]:
        parity.assert_buffers(network, record[name]["buffers_after"])


def published_file(path: Path, *, prefix: str = "", without: str = "", **more: Tensor) -> dict[str, Tensor]:
    """An image_encoder*.pth as AttnGAN's trainer left it in 2018: torch's old layout, its order, no counters."""
    ours = InceptionEncoder(8).state_dict()
    names = [name for name, _ in RECORDED["keys"]["CNN_ENCODER"]["keys"] if not name.endswith("num_batches_tracked")]
    state = {prefix + name: ours[name] for name in names if name != without} | more
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return {name.removeprefix(prefix): value for name, value in state.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_file_is_read_and_goes_back_to_the_bit(tmp_path: Path, prefix: str) -> None:
    state = published_file(tmp_path / "image_encoder200.pth", prefix=prefix)
    network = read_image_encoder(tmp_path / "image_encoder200.pth")
    found = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert_same(found, state)
    assert not any(module.training for module in network.modules())
    assert network.align_corners
    write_image_encoder(network, tmp_path / "again.pth")
    assert_same(torch.load(tmp_path / "again.pth", weights_only=True), state)


def test_a_published_file_judges(tmp_path: Path) -> None:
    """Evaluation and AttnGAN's training take the file where a run's folder could stand."""
    state = published_file(tmp_path / "image_encoder200.pth")
    judge = judging.load(tmp_path / "image_encoder200.pth", "cpu")
    pictures = torch.randint(256, (2, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network = InceptionEncoder(8).eval()
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        code = network(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1).code
    torch.testing.assert_close(torch.from_numpy(judge.measure(pictures.numpy())["codes"]), F.normalize(code))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"without": "Mixed_7c.branch_pool.bn.running_var"}, "lacks Mixed_7c.branch_pool.bn.running_var"),
        ({"without": "emb_cnn_code.weight"}, "lacks emb_cnn_code.weight"),
        ({"emb_cnn_code.weight": torch.zeros(8, 7)}, "emb_cnn_code.weight"),
        ({"rnn.weight_ih_l0": torch.zeros(2, 2)}, "unknown rnn.weight_ih_l0"),
    ],
    ids=str,
)
def test_what_is_no_image_encoder_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    published_file(tmp_path / "image_encoder.pth", **changes)
    with pytest.raises(ChatPainterError, match=words) as refused:
        read_image_encoder(tmp_path / "image_encoder.pth")
    assert "not DAMSM's image encoder" in refused.value.message
    assert "\n" not in refused.value.message


def test_a_frozen_trunk_keeps_its_statistics() -> None:
    network = InceptionEncoder(4, frozen=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()(torch.rand(2, 3, 32, 32))
    assert_same(dict(network.state_dict()), before)


def test_the_small_encoder_takes_pictures_of_any_side() -> None:
    network = SmallEncoder(6, 32, 4)
    for side in (16, 32, 64):
        seen = network(torch.rand(2, 3, side, side))
        assert seen.regions.shape == (2, 6, 4, 4)
        assert seen.code.shape == (2, 6)


def test_long_captions_lose_random_words_and_keep_their_order() -> None:
    ids = torch.arange(1, 7).repeat(200, 1)
    lengths = torch.tensor([6, 3] * 100)
    ids = ids * (torch.arange(6) < lengths[:, None])
    draws = torch.rand(200, 6, generator=torch.Generator().manual_seed(0))
    found, left = drawn_words(ids, lengths, 4, draws)
    assert left.tolist() == [4, 3] * 100
    long, short = found[::2], found[1::2]
    assert (short == torch.tensor([1, 2, 3, 0])).all()
    assert (long.diff(dim=1) > 0).all()
    assert long.max() <= 6
    counts = torch.bincount(long.flatten(), minlength=7)[1:]
    assert counts.min() > 45  # each of the six is kept in two of three captions
    same, unchanged = drawn_words(ids, lengths, 6, draws)
    assert same is ids
    assert unchanged is lengths


def test_the_rate_falls_until_it_is_no_longer_above_the_lowest() -> None:
    config = DamsmConfig()
    assert [config.rate(epoch) for epoch in (0, 1, 2)] == pytest.approx([2e-3, 2e-3 * 0.98, 2e-3 * 0.98**2])
    epochs = math.ceil(math.log(0.1) / math.log(0.98))
    assert config.rate(epochs) == config.rate(10_000) == pytest.approx(2e-3 * 0.98**epochs)
    assert config.rate(epochs) <= 2e-4 < config.rate(epochs - 1)


def small(**changes: Any) -> tuple[Damsm, DamsmConfig]:
    values = {"preset": "tiny", "dim": 8, "width": 4, "side": 16, "batch": 6, "word_dim": 6, **changes}
    config = DAMSM.configure({"damsm": values}, "params.yaml")
    torch.manual_seed(0)
    settings = {name: getattr(config, name) for name in ("image_encoder", "side", "dim", "word_dim", "words", "width")}
    encoders = DamsmEncoders({"system": "damsm", **settings, "vocabulary": WORDS})
    return Damsm(encoders, config, CPU), config


def scenes() -> Batch:
    """Six pictures of one colour each, and captions that name it."""
    stream = torch.Generator().manual_seed(1)
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255], [255, 0, 255]])
    noise = torch.randint(20, (6, 19, 19, 3), generator=stream)
    pictures = (colours[:, None, None] - noise).clamp(min=0).to(torch.uint8)
    tokens = torch.tensor([[1, 2 + n, 1] for n in range(6)])[..., None]
    lengths = torch.full((6,), 3)
    return Batch({"images": pictures, "tokens": tokens, "tokens" + LENGTH: lengths, "image_id": torch.arange(6)})


def run(damsm: Damsm, steps: int, epochs: list[int] | None = None) -> list[float]:
    found: list[float] = []
    for number in range(steps):
        damsm.step(scenes(), 6 * number, (epochs or [0] * steps)[number], lambda values: found.extend(
            [float(values["loss"].detach())] if "loss" in values else []
        ))  # fmt: skip
    return found


def test_it_learns_which_caption_is_whose() -> None:
    damsm, _ = small(lr=5e-3, clip=10.0, crop="centre")
    losses = run(damsm, 150)
    chance = 4 * math.log(6)
    assert losses[0] > chance / 2
    assert losses[-1] < losses[0] / 4
    texts = scenes()
    with torch.no_grad():
        told = damsm.average.text_features(texts["tokens"][..., 0], texts["tokens" + LENGTH])
        seen = damsm.average.image(augment(texts["images"], 16))
    assert sentence_scores(seen.code, told.sentence).argmax(1).tolist() == list(range(6))


def test_adam_forgets_after_an_epoch_as_published() -> None:
    steps: dict[bool, Tensor] = {}
    for restart in (True, False):
        damsm, _ = small(restart_adam=restart)
        run(damsm, 3, [0, 0, 1])
        (state, *_) = damsm.optimizer.state.values()
        steps[restart] = state["step"]
    assert (float(steps[True]), float(steps[False])) == (1, 3)


def test_only_the_text_encoder_is_clipped() -> None:
    damsm, _ = small(clip=1e-6)
    before = {name: value.clone() for name, value in damsm.average.named_parameters()}
    norms: list[float] = []

    def report(values: Any) -> None:
        norms.extend(float(values[name]) for name in ("text_grad_norm", "grad_norm") if name in values)

    damsm.step(scenes(), 0, 0, report)
    text, every = norms
    assert text > 1e-3  # before it was clipped
    assert every > 1e-3  # the image encoder's gradient, whole
    assert not torch.equal(before["image.emb_cnn_code.weight"], damsm.average.image.emb_cnn_code.weight)


def test_bad_configurations_are_refused_in_one_line() -> None:
    for values, message in (
        ({"dim": 7}, "dim must be even"),
        ({"image_encoder": "small", "side": 299}, "side must be a power of two"),
        ({"diffaugment": True}, "diffaugment is for discriminators"),
        ({"focus": 0.0}, "must be above 0"),
    ):
        with pytest.raises(ParamsError, match=message):
            DAMSM.configure({"damsm": values}, "params.yaml")


def test_inception_comes_from_its_published_file_or_not_at_all(tmp_path: Path) -> None:
    encoder = SmallEncoder(4, 16, 4)
    with pytest.raises(ChatPainterError, match=r"is not there .*; or set damsm.image_encoder: small"):
        adopt_inception(encoder, tmp_path, "inception_v3_google-0cc3c7bd.pth")


def test_what_paints_nothing_is_neither_painted_with_nor_evaluated(tmp_path: Path) -> None:
    from painter.painter import Painter
    from trainer.evaluation.evaluate import EvaluateSettings, Paths, evaluate

    generator_file.save(small()[0].average, tmp_path / "generator.safetensors")
    with pytest.raises(ChatPainterError, match="made by damsm, which paints nothing"):
        Painter.from_run(tmp_path)
    paths = Paths(tmp_path / "generator.safetensors", tmp_path, tmp_path, tmp_path, tmp_path, tmp_path)
    with pytest.raises(ChatPainterError, match="made by damsm, which paints nothing"):
        evaluate(paths, EvaluateSettings(), CPU)
