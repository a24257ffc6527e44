"""Who learns from whose loss, what dialogues that have ended bring, and films that keep what was painted."""

from typing import Any

import pytest
import torch
from torch import Tensor

from store import params
from store.errors import ParamsError
from tests.support.films import write_films
from tests.support.models import SMALL_GENEVA
from tests.support.same import assert_same
from tests.support.stores import write_training_stores
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData
from trainer.feed.inputs import CAPTIONS, LENGTH, PRESENCE, TURN_PICTURES, TURNS, Batch
from trainer.feed.sampler import rows_for
from trainer.optimising import Updates
from trainer.systems.geneva.config import GenevaConfig, Networks
from trainer.systems.geneva.networks import GenevaGenerator, generator_settings
from trainer.systems.geneva.step import Geneva
from trainer.systems.geneva.system import GENEVA

CPU = Ranks(0, 1, torch.device("cpu"))
BATCH = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    embeddings, images = write_training_stores(
        tmp_path_factory.mktemp("data"), images=8, rounds=(3, 1, 2), turn_dim=5, sizes=(76,)
    )
    write_films(embeddings, images)
    return TrainingData(GENEVA.inputs(config()), embeddings, images)


def config(**training: Any) -> GenevaConfig:
    values = {"networks": SMALL_GENEVA, "batch": BATCH, "epochs": None, "images": 40, **training}
    return GENEVA.configure({"geneva": values}, "params.yaml")


def trainable(data: TrainingData, **training: Any) -> Geneva:
    return GENEVA.trainable(config(**training), data, CPU, None)


def batch(data: TrainingData, images_seen: int = 0) -> Batch:
    return data.gather(rows_for(0, images_seen, BATCH, len(data)))


def gradients(it: Geneva, given: Batch) -> tuple[dict[str, list[Tensor]], list[dict[str, Tensor]]]:
    """What each optimiser was given by one step, by name, turn by turn; no weight moves."""
    found: dict[str, list[Tensor]] = {name: [] for name in it.optimizers}
    names = {id(optimizer): name for name, optimizer in it.optimizers.items()}

    class Noted(Updates):
        def __call__(self, optimizer: Any, parameters: Any, longest: float | None = None) -> Tensor:
            grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
            found[names[id(optimizer)]].append(torch.cat([grad.flatten() for grad in grads]))
            optimizer.zero_grad(set_to_none=True)
            return torch.zeros(())

    it.updates = Noted(torch.device("cpu"))
    figures: list[dict[str, Tensor]] = []
    it.step(given, 0, 0, lambda values: figures.append(dict(values)))
    return found, figures


def test_turns_are_read_by_the_discriminators_gradient_alone(data: TrainingData) -> None:
    """Against the way that the original goes: one graph over all turns, the losses' sum taken back through it."""
    it = trainable(data, ended="repeated")
    it.discriminator.eval()  # or its spectral norms would move from look to look
    given = batch(data)
    recorded: list[tuple[Any, Tensor, Tensor, Any]] = []
    real_loss = it.discriminator_loss

    def noted(turn: Any, said: Tensor, painted: Tensor, before: Tensor, others: Any) -> Any:
        recorded.append((turn, painted.clone(), before.clone(), others))
        return real_loss(turn, said, painted, before, others)

    it.discriminator_loss = noted  # type: ignore[method-assign]
    found, _ = gradients(it, given)
    rounds = given[TURNS.name + LENGTH]
    last = torch.minimum(torch.arange(int(rounds.max())), rounds[:, None] - 1)
    turns = given[TURNS.name].float()[torch.arange(BATCH)[:, None], last]
    said = it.generator.said(turns)
    total = sum(
        real_loss(turn, said[:, number], painted, before, others)[0]
        for number, (turn, painted, before, others) in enumerate(recorded)
    )
    assert isinstance(total, Tensor)
    for name in ("rnn", "features"):
        expected = torch.autograd.grad(total, it.parameters[name], retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(it.parameters[name], expected)]
        mine = found[name][0]
        if name == "features":  # the picture's encoder has another teacher
            text = {id(p) for p in it.generator.condition_encoder.parameters()}
            spans = torch.cat([torch.full((p.numel(),), id(p) in text) for p in it.parameters[name]])
            mine, flat = mine[spans], [g for p, g in zip(it.parameters[name], flat) if id(p) in text]
        torch.testing.assert_close(mine, torch.cat([g.flatten() for g in flat]), rtol=1e-4, atol=1e-6)
        assert float(mine.abs().max()) > 1e-4
    assert len(found["d"]) == len(found["g"]) == len(recorded) == 3
    assert len(found["rnn"]) == len(found["features"]) == 1


def test_the_previous_pictures_encoder_learns_and_nothing_moves_what_was_said(data: TrainingData) -> None:
    it = trainable(data)
    kl_alone = trainable(data, auxiliary=10.0, r1=0.0, wrong=0.0, fake=0.0)
    found, _ = gradients(it, batch(data))
    pictures = sum(p.numel() for p in it.generator.image_encoder.parameters())
    assert float(found["features"][0][:pictures].abs().max()) > 0
    other, _ = gradients(kl_alone, batch(data))
    # The discriminator's other terms change what turns are taught, and never what the picture's encoder is.
    torch.testing.assert_close(found["features"][0][:pictures], other["features"][0][:pictures], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(found["rnn"][0], other["rnn"][0])
    assert it.generator.layer_norm.weight.grad is None  # in no optimiser, as in the original


def test_what_lies_after_a_dialogues_end_is_not_read(data: TrainingData) -> None:
    given = batch(data)
    rounds = given[TURNS.name + LENGTH]
    after = torch.arange(given[TURNS.name].shape[1]) >= rounds[:, None]
    assert after.any()
    stream = torch.Generator().manual_seed(3)
    noise = {
        TURNS.name: torch.randn(given[TURNS.name].shape, generator=stream).half(),
        TURN_PICTURES.name: torch.randint(0, 256, given[TURN_PICTURES.name].shape, generator=stream).byte(),
        PRESENCE.name: torch.randint(0, 2, given[PRESENCE.name].shape, generator=stream).byte(),
    }
    spoilt = {
        name: torch.where(after.view(*after.shape, *[1] * (values.ndim - 2)), values, given[name])
        for name, values in noise.items()
    }
    first, again = trainable(data, ended="repeated"), trainable(data, ended="repeated")
    first.step(given, 0, 0, lambda values: None)
    again.step(Batch({**given, **spoilt}), 0, 0, lambda values: None)
    assert_same(again.state_dict(), first.state_dict())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_goes_on_from_its_own_pictures(data: TrainingData, share: float) -> None:
    it = trainable(data, own_pictures=share, pixel_noise=0.0)
    befores, painted = [], []
    really = it.generator.next_picture

    def noted(before: Tensor, *rest: Any) -> Any:
        befores.append(before)
        painted.append(really(before, *rest))
        return painted[-1]

    it.generator.next_picture = noted  # type: ignore[assignment]
    given = batch(data)
    it.step(given, 0, 0, lambda values: None)
    assert (befores[0] == 1).all()  # the white first picture
    longer = given[TURNS.name + LENGTH] > 1
    shown = given[TURN_PICTURES.name][longer, 0, 0, 0, 0].float() / 127.5 - 1
    true = shown[:, None, None, None].expand(-1, 3, 64, 64)
    torch.testing.assert_close(befores[1][longer], painted[0].picture.detach()[longer] if share else true)


def test_a_dialogue_that_goes_on_keeps_its_pictures(data: TrainingData) -> None:
    networks = params.build(Networks, SMALL_GENEVA, "networks")
    torch.manual_seed(0)
    generator = GenevaGenerator(generator_settings(networks, {CAPTIONS.name: 4, TURNS.name: 5}, 0)).eval()
    stream = torch.Generator().manual_seed(1)
    turns, noise = torch.randn(2, 5, 5, generator=stream), torch.randn(2, 3, generator=stream)
    whole = {TURNS.name: turns, TURNS.name + LENGTH: torch.tensor([5, 3])}
    with torch.no_grad():
        film = generator.film(whole, noise)
        assert film.shape == (2, 5, 3, 64, 64)
        assert torch.equal(film[1, 2], film[1, 4])  # it stands still after its end
        for rounds in range(6):
            some = {TURNS.name: turns[:, :rounds], TURNS.name + LENGTH: torch.tensor([rounds, min(3, rounds)])}
            last = generator.paint(some, noise)[64]
            expected = film[:, rounds - 1] if rounds else generator.background.expand(2, -1, -1, -1)
            torch.testing.assert_close(last, expected, rtol=0, atol=2e-5)
    assert not torch.allclose(film[:, 0], film[:, 1])


def test_a_films_own_first_picture_takes_the_backgrounds_place() -> None:
    networks = params.build(Networks, SMALL_GENEVA, "networks")
    torch.manual_seed(0)
    generator = GenevaGenerator(generator_settings(networks, {CAPTIONS.name: 4, TURNS.name: 5}, 0)).eval()
    said = {TURNS.name: torch.ones(2, 1, 5), TURNS.name + LENGTH: torch.tensor([0, 1])}
    white = torch.full((2, 76, 76, 3), 255, dtype=torch.uint8)
    with torch.no_grad():
        plain = generator.paint(said, torch.ones(2, 3))[64]
        shown = generator.paint(said | {"first_pictures": white}, torch.ones(2, 3))[64]
    assert (plain[0] == 0).all()
    assert (shown[0] == 1).all()
    assert not torch.allclose(plain[1], shown[1])


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"networks": {"words": 300}}, "networks.words is of published weights"),
        ({"networks": {"size": 64}}, "networks.up: 64 x 64 takes 5 widths"),
        ({"networks": {"down": [64, 128, 256, 512, 1024, 512]}}, "the last two alike"),
        ({"networks": {"features": [64] * 5}}, "takes 1 to 4 widths"),
        ({"accumulate": 2}, "networks move at every turn"),
        ({"own_pictures": -0.1}, "own_pictures is a share"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParamsError, match=complaint):
        GENEVA.configure({"geneva": values}, "params.yaml")
