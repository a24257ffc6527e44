"""AttnGAN's words: what a caption is cut into, and the published text encoder's keys and numbers."""

import pytest
import torch

from tests.support import parity
from words.text_encoder import TextEncoder
from words.vocabulary import END, Vocabulary, split

RECORDED = parity.load("attngan")


@pytest.mark.parametrize(
    "text, words",
    [
        ("A red Bird's 2 wings.", ["a", "red", "bird", "s", "2", "wings"]),
        ("white-throated\tbird", ["white", "throated", "bird"]),
        ("caf\u00e9 \u00e9 na\u00efve", ["caf", "nave"]),  # what is not ASCII is dropped, and with it a whole word
        ("one\ufffd\ufffdtwo", ["one", "two"]),
        ("snake_case", ["snake_case"]),
        ("...", []),
    ],
)
def test_captions_are_cut_as_attngan_cuts_them(text: str, words: list[str]) -> None:
    assert split(text) == words


def test_numbers_stand_for_words_and_unknown_ones_are_left_out() -> None:
    vocabulary = Vocabulary.of(["a red bird", "A bird, red."])
    assert vocabulary.words == (END, "a", "bird", "red")
    found = vocabulary.number("the red, red bird")
    assert (found.ids, found.words, found.unknown) == ([3, 3, 2], 4, 1)
    assert vocabulary.text(found.ids) == "red red bird"
    nothing = vocabulary.number("the")
    assert (nothing.ids, nothing.unknown) == ([0], 1)  # so that every caption has a word


def test_a_vocabulary_that_cannot_number_is_refused() -> None:
    with pytest.raises(ValueError, match="word 0 must be <end>"):
        Vocabulary(("a", END))
    with pytest.raises(ValueError, match="twice"):
        Vocabulary((END, "a", "a"))
    assert Vocabulary((END, "a", "b")).sha256 != Vocabulary((END, "b", "a")).sha256


@pytest.mark.parametrize("size", ["published", "small"])
def test_keys_are_those_of_the_published_file(size: str) -> None:
    with torch.device("meta"):
        network = TextEncoder(27_297) if size == "published" else TextEncoder(23, 12, 8)
    record = RECORDED["keys"]["RNN_ENCODER"] if size == "published" else RECORDED["networks"]["RNN_ENCODER"]
    assert sorted(parity.keys(network)) == sorted(record["keys"])
    if size == "published":
        assert sum(parameter.numel() for parameter in network.parameters()) == record["params"] == 8_629_420


@pytest.mark.parametrize("fill", ["A", "B"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_vectors_are_the_published_ones(mode: str, fill: str) -> None:
    record = RECORDED["networks"]["RNN_ENCODER"]
    network = TextEncoder(23, 12, 8)
    parity.fill(network, fill)  # type: ignore[arg-type]
    ids = (7 * torch.arange(10) % 23).view(2, 5)
    kept = torch.sin(0.11 * torch.arange(2 * 5 * 12, dtype=torch.float64) + 70).view(2, 5, 12) > 0
    words, sentence = network(ids, torch.tensor(record["inputs"]["lengths"]), kept if mode == "train" else None)
    parity.assert_recorded(words.transpose(1, 2), record[f"{mode}_{fill}"]["out"]["words"])
    parity.assert_recorded(sentence, record[f"{mode}_{fill}"]["out"]["sentence"])


def test_lengths_need_no_order_and_padding_has_no_say() -> None:
    torch.manual_seed(0)
    network = TextEncoder(23, 12, 8).double()
    ids, lengths = torch.randint(23, (3, 6)), torch.tensor([2, 6, 1])
    words, sentence = network(ids, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, whole = network(ids[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(words[row, :length], alone[0])
        torch.testing.assert_close(sentence[row], whole[0])
        assert not words[row, length:].any()
