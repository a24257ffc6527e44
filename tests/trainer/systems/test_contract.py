"""What the loop, the painter and the evaluation rely on, held against every system in `SYSTEMS` and all it can read."""

import functools
import itertools
import json
import math
import subprocess
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from store.errors import ChatPainterError
from tests.support.films import write_films
from tests.support.models import SMALL, SMALL_GENEVA, SMALL_ITERATIVE, SMALL_SG2IM, SMALL_STACKGAN_V2
from tests.support.same import assert_same, same
from tests.support.stores import KINDS, PREDICATES, write_graphs, write_training_stores
from tests.support.sums import SumsInAnyOrder
from trainer import checkpoints, generator_file, systems
from trainer.config import Config
from trainer.distributed import Ranks
from trainer.feed.data import TrainingData
from trainer.feed.inputs import LENGTH, OBJECTS, TRIPLES, Batch
from trainer.feed.sampler import rows_for
from trainer.logs.attention import attend
from trainer.systems.chatpainter.config import DialogueArm

BATCH = 6
ROUNDING = 5e-5  # of values in [-1, 1], summed in another order; pictures painted one from the other add it up
CPU = Ranks(0, 1, torch.device("cpu"))
ARMS = typing.get_args(DialogueArm)
TRAINING = {"epochs": None, "images": 60, "batch": BATCH, "seed": 3}
CHATPAINTER = {arm: {"model": {**SMALL, "dialogue": arm, "standardise": True}} for arm in ARMS}

GENEVA: dict[str, dict[str, Any]] = {
    "published": {"geneva": {"networks": SMALL_GENEVA}},
    "ours": {
        "geneva": {
            "preset": "tiny",
            "networks": {**SMALL_GENEVA, "caption": "first"},
            "own_pictures": 0.5,
            "auxiliary": 0.0,
        }
    },
}


def _v2(arm: str, **more: Any) -> dict[str, Any]:
    values = {**SMALL_STACKGAN_V2, "dialogue": arm, **more}
    if arm != "attended":
        del values["attention"]
    return values


STACKGAN_V2: dict[str, dict[str, Any]] = {
    **{arm: {"stackgan-v2": _v2(arm, other_class=False)} for arm in ARMS},
    "learning": {"stackgan-v2": _v2("attended", preset="tiny")},
}

# Other sections and arms than a system's own section alone, by system.
READS: dict[str, dict[str, dict[str, Any]]] = {
    "stage1": CHATPAINTER,
    "stage2": CHATPAINTER,
    "geneva": GENEVA,
    "stackgan-v2": STACKGAN_V2,
    "sg2im": {"": {}, "without masks": {"sg2im": {"mask_size": 0}}},
    "attngan": {arm: {"attngan": {"dialogue": arm}} for arm in ARMS},
}
# What a system's own section has beside TRAINING.
OWN: dict[str, dict[str, Any]] = {
    "damsm": {"preset": "tiny", "dim": 8, "width": 4},
    "sg2im": SMALL_SG2IM,
    "iterative": SMALL_ITERATIVE,
    "attngan": {**SMALL, "preset": "tiny", "crop_side": 32},
}
CASES = [(name, arm) for name in systems.SYSTEMS for arm in READS.get(name, {"": {}})]


@dataclass
class Case:
    """One system with one configuration over small stores."""

    system: systems.System
    values: dict[str, Any]
    config: Config
    data: TrainingData
    start: Path | None

    def trainable(self, **training: Any) -> systems.Trainable:
        name = self.system.name
        config = self.system.configure({**self.values, name: {**self.values[name], **training}}, "params.yaml")
        return self.system.trainable(config, self.data, CPU, self.start)

    @functools.cached_property
    def generator(self) -> systems.Generator:
        """What a short training paints with, so that nothing has the values that it began with."""
        trainable = self.trainable()
        self.train(trainable, 0, 2)
        for parameter in trainable.average.parameters():
            parameter.requires_grad_(False)
            if parameter.ndim > 1:  # after so few steps little comes through, and a ReLU may be shut for all texts
                torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
        return trainable.average.eval()

    def batch(self, images_seen: int) -> Batch:
        return self.data.gather(rows_for(3, images_seen, BATCH, len(self.data)))

    def train(self, trainable: systems.Trainable, first: int, steps: int) -> dict[str, list[float]]:
        """Steps `first` and on; every figure that was reported."""
        found: dict[str, list[float]] = {}

        def report(values: Mapping[str, torch.Tensor]) -> None:
            for name, value in values.items():
                found.setdefault(name, []).extend(value.detach().reshape(-1).tolist())

        for number in range(first, first + steps):
            trainable.step(self.batch(number * BATCH), number * BATCH, number, report)
        return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small split with dialogues of 1 to 3 rounds and pictures of both sides."""
    embeddings, images = write_training_stores(
        tmp_path_factory.mktemp("data"),
        images=12,
        captions=(2, 3),
        rounds=(3, 1, 2),
        caption_dim=8,
        sizes=(38, 76, 304),
    )
    write_graphs(images, [1000 + 7 * image for image in range(12)])
    write_films(embeddings, images)
    return embeddings, images


@pytest.fixture(scope="module")
def make(stores: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """make(name, arm): the case, with the generator of the system before it where it starts from one."""
    made: dict[tuple[str, str], Case] = {}

    def case(name: str, arm: str) -> Case:
        if (name, arm) not in made:
            system = systems.find(name)
            reads = READS.get(name, {"": {}})[arm]
            values = {**reads, name: OWN.get(name, {}) | reads.get(name, {}) | TRAINING}
            config = system.configure(values, "params.yaml")
            start = None
            if system.starts_from is not None:
                start = tmp_path_factory.mktemp("start") / "generator.safetensors"
                before = arm if arm in READS.get(system.starts_from, {"": {}}) else ""
                generator_file.save(case(system.starts_from, before).generator, start)
            made[name, arm] = Case(system, values, config, TrainingData(system.inputs(config), *stores), start)
        return made[name, arm]

    return case


@pytest.fixture(params=CASES, ids=lambda case: "-".join(filter(None, case)))
def case(request: pytest.FixtureRequest, make: Any) -> Case:
    return make(*request.param)


def texts(case: Case, generator: systems.Generator, lengths: tuple[int, ...], padded: int) -> Batch:
    """Random texts for `generator`; ragged inputs have these lengths, padded with zeros to `padded` rows."""
    stream = torch.Generator().manual_seed(5)
    tensors = graphs(lengths, padded, stream) if systems.reads(generator, OBJECTS.name) else {}
    for one in generator.inputs:
        if one.name in tensors:
            continue
        ragged = case.data.longest(one.name) is not None
        shape = (len(lengths), *((max(lengths),) if ragged else ()), generator.dims[one.name])
        vectors = torch.randn(shape, generator=stream)
        if ragged:
            tensors[one.name + LENGTH] = torch.tensor(lengths)
            real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            vectors = vectors * real[:, :, None]
            vectors = torch.cat([vectors, torch.zeros(len(lengths), padded - max(lengths), shape[-1])], 1)
        tensors[one.name] = vectors
    return Batch(tensors)


def painter(case: Case) -> systems.Generator:
    """The case's generator; a system that paints nothing has no part in what pictures are held to."""
    if not case.generator.names:
        pytest.skip(f"{case.system.name} paints nothing")
    return case.generator


def graphs(lengths: tuple[int, ...], padded: int, stream: torch.Generator) -> dict[str, torch.Tensor]:
    """Graphs of so many objects and the image, every two of them related somehow; padded with zeros."""
    objects = torch.zeros(len(lengths), padded + 1, dtype=torch.int16)
    triples = torch.zeros(len(lengths), (padded + 1) ** 2, 3, dtype=torch.int16)
    related = [[(s, o) for s in range(n) for o in range(n + 1) if s != o] for n in lengths]
    for row, pairs in enumerate(related):
        objects[row, : lengths[row]] = torch.randint(1, KINDS, (lengths[row],), generator=stream)
        for number, (s, o) in enumerate(pairs):
            predicate = int(torch.randint(1, PREDICATES, (), generator=stream)) if o < lengths[row] else 0
            triples[row, number] = torch.tensor([s, predicate, o])
    return {
        OBJECTS.name: objects,
        OBJECTS.name + LENGTH: torch.tensor(lengths) + 1,
        TRIPLES.name: triples,
        TRIPLES.name + LENGTH: torch.tensor([len(pairs) for pairs in related]),
    }


def noise(generator: systems.Generator, rows: int) -> torch.Tensor:
    return torch.randn(rows, generator.noise_dim, generator=torch.Generator().manual_seed(6))


def test_it_is_found_by_its_name(case: Case) -> None:
    system = case.system
    assert systems.find(system.name) is system
    assert system.about.endswith(".")
    assert "\n" not in system.about
    assert systems.lineage(system.name)[-1] == system.name
    live = {f"{section}.{key}" for section, keys in case.config.plain().items() for key in keys}
    assert not live & set(system.retired)


def test_an_unknown_key_is_refused_in_one_line(case: Case) -> None:
    for name in case.config.plain():
        section = case.values.get(name, {})
        with pytest.raises(ChatPainterError) as refused:
            case.system.configure({**case.values, name: {**section, "no_such_key": 1}}, "there.yaml")
        message = refused.value.message
        assert "\n" not in message
        assert "there.yaml" in message
        assert "no_such_key" in message
        assert name in message


def test_the_configuration_is_plain_and_complete(case: Case) -> None:
    plain = json.loads(json.dumps(case.config.plain()))
    assert case.system.name in plain
    assert plain[case.system.name]["batch"] == case.config.training.batch == BATCH
    again = case.system.configure(plain, "config.json")
    assert again == case.config
    sections = case.config.defaults()
    assert {name: set(keys) for name, keys in sections.items()} == {name: set(keys) for name, keys in plain.items()}


def test_inputs_can_be_had_and_fit_the_generator(case: Case) -> None:
    inputs = case.system.inputs(case.config)
    assert len({one.name for one in inputs}) == len(inputs)
    assert any(one.where == "images" for one in inputs)
    batch = case.batch(0)
    assert {one.name for one in inputs} <= set(batch)
    generator = case.trainable().average
    assert {one for one in inputs if one.where == "embeddings"} <= set(generator.inputs) <= set(inputs)
    vectors = [one for one in generator.inputs if one.where == "embeddings"]
    assert generator.dims == {one.name: case.data.dim(one.name) for one in vectors}
    sides = list(generator.names)
    assert sides == sorted(sides)
    assert len(set(generator.names.values())) == len(sides)


def test_silence_is_a_vector_of_an_input_that_always_has_one(case: Case) -> None:
    generator = case.trainable().average
    always = {one.name for one in generator.inputs if case.data.longest(one.name) is None and one.pick == "first"}
    assert set(generator.silence) == always
    for name, vector in generator.silence.items():
        assert vector.shape == (generator.dims[name],)


def test_the_same_seed_builds_the_same_networks(case: Case) -> None:
    torch.manual_seed(1)
    first = case.trainable()
    torch.manual_seed(2)  # nothing may hang on what the process drew before
    again = case.trainable()
    assert_same(again.state_dict(), first.state_dict())
    assert not same(case.trainable(seed=4).state_dict(), first.state_dict())
    known = {id(module) for module in first.networks}
    assert id(first.average) in known


def test_one_step_changes_weights_and_reports_what_is_shown(case: Case) -> None:
    trainable = case.trainable()
    before = [{name: value.clone() for name, value in one.state_dict().items()} for one in trainable.networks]
    figures = case.train(trainable, 0, 1)
    for network, old in zip(trainable.networks, before):
        assert not same(dict(network.state_dict()), old)
    rates = trainable.learning_rates()
    assert all(math.isfinite(value) for values in figures.values() for value in values)
    assert all(rate >= 0 for rate in rates.values())
    shown = {name for _, names in trainable.shown for name in names}
    assert shown <= set(figures) | set(rates)
    assert float(trainable.updates.nonfinite) == float(trainable.updates.streak) == 0


def test_a_step_depends_on_the_images_seen(case: Case) -> None:
    """Draws follow from them: the same batch after other images is another step."""
    first, again, later = case.trainable(), case.trainable(), case.trainable()
    first.step(case.batch(0), 0, 0, lambda values: None)
    again.step(case.batch(0), 0, 0, lambda values: None)
    later.step(case.batch(0), 5 * BATCH, 0, lambda values: None)
    assert_same(again.state_dict(), first.state_dict())
    assert not same(later.state_dict(), first.state_dict())


def test_threads_add_in_one_order(case: Case) -> None:
    """`rows[index]` passes gradients back by atomic sums, which two threads make otherwise each time; `index_select`
    does not."""
    with SumsInAnyOrder() as found:
        case.trainable().step(case.batch(0), 0, 0, lambda values: None)
    assert not found.places


def test_weights_that_are_no_numbers_are_noticed(case: Case) -> None:
    trainable = case.trainable()
    assert trainable.finite()
    with torch.no_grad():
        weight = next(trainable.networks[0].parameters())
        weight[(0,) * weight.ndim] = math.nan
    assert not trainable.finite()


def test_a_training_continues_to_the_bit(case: Case, tmp_path: Path) -> None:
    straight, half, rest = case.trainable(), case.trainable(), case.trainable(seed=3)
    case.train(straight, 0, 3)
    case.train(half, 0, 2)
    path = checkpoints.Checkpoints(tmp_path, keep=1).save({"trainable": half.state_dict(), "images_seen": 12}, 12, None)
    rest.load_state_dict(checkpoints.load(path)["trainable"])
    case.train(rest, 2, 1)
    assert_same(rest.state_dict(), straight.state_dict())


def test_the_saved_file_builds_it_again(case: Case, tmp_path: Path) -> None:
    generator = case.generator
    assert systems.named_in(generator.settings) == case.system.name
    written = json.loads(json.dumps(generator.settings))
    fresh = case.system.generator(written)
    shapes = {name: value.shape for name, value in generator.state_dict().items()}
    assert {name: value.shape for name, value in fresh.state_dict().items()} == shapes
    generator_file.save(generator, tmp_path / "generator.safetensors")
    loaded = generator_file.load(tmp_path / "generator.safetensors")
    assert loaded.settings == written
    assert (loaded.names, loaded.inputs, loaded.dims) == (generator.names, generator.inputs, generator.dims)
    said, drawn = texts(case, generator, (2, 0, 3), 3), noise(generator, 3)
    with torch.no_grad():
        for side, pictures in loaded.paint(said, drawn).items():
            # Weights lie in memory otherwise than in training, so sums are taken in another order.
            torch.testing.assert_close(pictures, generator.paint(said, drawn)[side], atol=ROUNDING, rtol=0)


def test_pictures_are_as_named(case: Case) -> None:
    generator = painter(case)
    said, drawn = texts(case, generator, (2, 1, 3), 3), noise(generator, 3)
    painted = generator.paint(said, drawn)
    assert list(painted) == list(generator.names)
    for side, pictures in painted.items():
        assert pictures.shape == (3, 3, side, side)
        assert pictures.dtype == torch.float32
        assert pictures.abs().max() <= 1
        assert pictures.std(0).max() > 0  # other texts, other pictures
    smallest = min(generator.names)
    few = generator.paint(said, drawn, sides=[smallest])
    assert list(few) == [smallest]
    assert_same(few[smallest], painted[smallest])
    shaken = generator.paint(said, drawn, condition_noise=torch.randn(3, generator.condition_dim))
    assert {side: pictures.shape for side, pictures in shaken.items()} == {
        side: pictures.shape for side, pictures in painted.items()
    }
    assert generator.condition_dim == 0 or not same(shaken, painted)


def test_painting_is_drawing_what_was_encoded(case: Case) -> None:
    generator = painter(case)
    said, drawn = texts(case, generator, (2, 1, 3), 3), noise(generator, 3)
    encoded = generator.encode(said)
    assert {len(rows) for rows in encoded.values()} == {3}
    assert_same(generator.draw(encoded, drawn), generator.paint(said, drawn))
    two = {name: rows[1:] for name, rows in encoded.items()}
    for side, pictures in generator.draw(two, drawn[1:]).items():
        torch.testing.assert_close(pictures, generator.paint(said, drawn)[side][1:], atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("lengths", [(2, 1, 3), (0, 5, 1), (0, 0, 0)], ids=str)
def test_a_picture_depends_on_its_own_row_alone(case: Case, lengths: tuple[int, ...]) -> None:
    """Not on its neighbours, not on the padding that they bring, with any number of rounds."""
    generator = painter(case)
    said, drawn = texts(case, generator, lengths, 7), noise(generator, 3)
    together = generator.paint(said, drawn)
    for row in range(3):
        mine = slice(row, row + 1)
        shorter = {}
        for name, rows in said.rows(mine).items():
            ragged = name + LENGTH in said
            shorter[name] = rows[:, : max(1, int(said[name + LENGTH][row]))] if ragged else rows
        for alone in (said.rows(mine), Batch(shorter)):
            for side, pictures in generator.paint(alone, drawn[mine]).items():
                torch.testing.assert_close(pictures, together[side][mine], atol=ROUNDING, rtol=0)


LISTENING = [("attngan", "none"), *((name, "attended") for name in ("stage1", "stage2", "stackgan-v2", "attngan"))]


@pytest.mark.parametrize(("name", "arm"), LISTENING)
def test_every_token_of_what_places_listen_to_has_a_name(make: Any, name: str, arm: str) -> None:
    case = make(name, arm)
    lengths = (2, 1, 3)
    heard = attend(case.generator, texts(case, case.generator, lengths, 4), noise(case.generator, 3))
    for one, length in zip(heard, lengths, strict=True):
        words = [f"word {number + 1}" for number in range(length)] if name == "attngan" else ["caption"]
        rounds = [f"round {number + 1}" for number in range(length)] if arm == "attended" else []
        assert list(one.tokens) == words + rounds
        assert all(shares.shape == (len(one.tokens), side, side) for side, shares in one.maps.items())
        assert len(one.words()) == 4


DEAF = [
    ("stage1", {"model": {**SMALL, "dialogue": "attended", "attention": {"sides": []}}}),
    ("stackgan-v2", {"stackgan-v2": _v2("attended", attention={"sides": []}, other_class=False)}),
    ("attngan", {"attngan": {**OWN["attngan"], "dialogue": "recurrent", "branches": 1, "crop_side": None}}),
    ("iterative", {"iterative": SMALL_ITERATIVE}),
]


@pytest.mark.parametrize(("name", "values"), DEAF, ids=[name for name, _ in DEAF])
def test_of_places_that_listen_to_nothing_nothing_is_shown(make: Any, name: str, values: dict[str, Any]) -> None:
    case = make(name, "" if name == "iterative" else "attended")
    system = case.system
    config = system.configure({**values, name: values.get(name, {}) | TRAINING}, "params.yaml")
    generator = system.trainable(config, case.data, CPU, case.start).average
    assert attend(generator, texts(case, generator, (2, 1, 3), 4), noise(generator, 3)) == []


def test_what_describes_a_run_is_plain(case: Case) -> None:
    generator = case.trainable().average
    about = case.system.describe(case.config, generator)
    assert json.loads(json.dumps(about)) == about
    assert not set(about) & set(case.config.plain())


def test_sizes_are_counted_without_a_draw(case: Case) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    sizes = case.system.parameters(case.config, case.data)
    assert_same(torch.rand(1), expected)
    assert all(isinstance(size, int) and size > 0 for size in sizes.values())
    painter = sum(p.numel() for p in case.trainable().average.parameters())
    parts = (some for n in range(1, len(sizes) + 1) for some in itertools.combinations(sizes.values(), n))
    assert painter in map(sum, parts)


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_help_and_configuration_import_no_torch(name: str) -> None:
    code = (
        "import sys\n"
        "from trainer import systems\n"
        f"system = systems.find({name!r})\n"
        f"system.configure({{}}, 'params.yaml')\n"
        "from trainer.cli import main\n"
        f"try: main([{name!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = sorted({'torch', 'numpy', 'pyarrow', 'h5py'} & set(sys.modules))\n"
        "sys.exit(' '.join(heavy) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert systems.find(name).about in " ".join(done.stdout.split())


def test_an_unknown_system_is_named_with_those_there_are() -> None:
    with pytest.raises(ChatPainterError, match=r"no system 'gan9'; known: .*stage1"):
        systems.find("gan9")
    with pytest.raises(ChatPainterError, match=r"a system that is not known here: 'gan9'"):
        systems.named_in({"system": "gan9"})
