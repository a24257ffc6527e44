"""Words: frozen rules against tables taken from the NLTK releases that they are named after."""

import re

import pytest

from pipeline import tokens
from store.errors import ChatPainterError

# What word_tokenize of NLTK 3.0.4 (2015) and 3.2.5 (2017) returned; None: as 3.0.4.
DRIFT = [
    ("don't", "do n't", None),
    ("man's", "man 's", None),
    ("can't", "ca n't", None),
    ("cannot", "can not", None),
    ("gonna", "gon na", None),
    ("wanna", "wan na", None),
    ("it\u2019s sunny.", "it\u2019s sunny .", "it \u2019 s sunny ."),
    ("\u201chi\u201d", "\u201chi\u201d", "\u201c hi \u201d"),
    ("'stop'", "'stop '", None),
    ("*barking*", "*barking*", None),
    ("yes.. maybe", "yes.. maybe", None),
    ("get 'em", "get 'em", None),
    ("'tis red", "'t is red", None),
    ('"quoted" word', "`` quoted '' word", None),
    ("well... ok", "well ... ok", None),
    ("a, b", "a , b", None),
    ("3,000", "3,000", None),
    ("10:30", "10:30", None),
    ("it's a dog--big", "it 's a dog -- big", None),
    ("(yes)", "( yes )", None),
    ("i'd say it'd", "i 'd say it 'd", None),
    ("dogs' toys", "dogs ' toys", None),
    ("U.S. flag.", "U.S. flag .", None),
    ("$5 & 10%", "$ 5 & 10 %", None),
    ("yes?!", "yes ? !", None),
    ('he said "no."', "he said `` no . ''", None),
    ("two''s", "two '' s", None),
]


@pytest.mark.parametrize("text, old, new", DRIFT)
def test_drift_table(text, old, new):
    assert tokens.tokenizer("treebank-3.0.4")(text) == old.split()
    assert tokens.tokenizer("treebank-3.2.5")(text) == (new or old).split()


def test_installed_nltk_where_it_drifted():
    pytest.importorskip("nltk")
    installed = tokens.tokenizer("nltk-installed")
    assert installed("*barking*") == ["*", "barking", "*"]
    assert installed("yes.. maybe") == ["yes", "..", "maybe"]
    assert re.fullmatch(r"nltk-3\.[\d.]+\+sentences-1", tokens.identity("nltk-installed"))


def test_installed_nltk_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nltk.tokenize.destructive", None)
    with pytest.raises(ChatPainterError, match="pip install nltk"):
        tokens.tokenizer("nltk-installed")


def test_names_are_versioned():
    assert tokens.identity("treebank-3.2.5") == "treebank-3.2.5+sentences-1"
    assert tokens.identity("treebank-3.0.4") == "treebank-3.0.4+sentences-1"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        (" \n\t ", []),
        ("is it sunny? yes.", ["is it sunny?", "yes."]),
        ("no. it is not. maybe", ["no.", "it is not.", "maybe"]),
        ("it is at 5 p.m. in the park.", ["it is at 5 p.m. in the park."]),
        ("Mr. Smith sits. He waits.", ["Mr. Smith sits.", "He waits."]),
        ("the U.S. flag. It waves.", ["the U.S. flag.", "It waves."]),
        ("there are 2. are they red?", ["there are 2. are they red?"]),
        ("there are 2. Are they red?", ["there are 2.", "Are they red?"]),
        ("it is 7:45. is it day?", ["it is 7:45. is it day?"]),
        ("well... maybe. yes", ["well... maybe.", "yes"]),
        ("well... Maybe", ["well...", "Maybe"]),
        ('he says "no." she nods.', ['he says "no."', "she nods."]),
        ("(yes.) next one.", ["(yes.)", "next one."]),
        ("yes! no", ["yes!", "no"]),
        ("a 3.5 m tree.", ["a 3.5 m tree."]),
    ],
)
def test_sentences(text, expected):
    assert tokens.sentences(text) == expected


def test_sentences_are_those_of_punkt(shared_data):
    """NLTK's own algorithm with the same abbreviations, on real turns; it needs no download that way."""
    punkt = pytest.importorskip("nltk.tokenize.punkt")
    parameters = punkt.PunktParameters()
    parameters.abbrev_types = set(tokens.ABBREVIATIONS)
    splitter = punkt.PunktSentenceTokenizer(parameters)
    dialogues = __import__("json").loads((shared_data / "visdial" / "visdial_1.0_val_text_2064.json").read_text())
    texts = [" ".join(f"{turn}." for turn in dialogue["dialog"]) for dialogue in dialogues[:400]]
    texts += [turn for dialogue in dialogues for turn in dialogue["dialog"]]
    differing = [text for text in texts if tokens.sentences(text) != splitter.tokenize(text)]
    assert len(texts) > 20_000
    assert len(differing) <= 5, differing


@pytest.mark.parametrize("name", ["treebank-3.2.5", "treebank-3.0.4"])
def test_remembered_words_are_those_of_the_rules(name, shared_data):
    rules = tokens._Treebank(tokens.RULES[name])
    dialogues = __import__("json").loads((shared_data / "visdial" / "visdial_1.0_val_text_2064.json").read_text())
    for dialogue in dialogues[:500]:
        for turn in dialogue["dialog"]:
            for sentence in tokens.sentences(turn):
                assert rules(sentence) == rules.apply(sentence)
    for sentence in ("wanna go", "i wanna", "gonna, cannot", "3, 4", "it's, he's", "don't", "well,", "mor'n that."):
        assert tokens.PLAIN.match(sentence)
        assert rules(sentence) == rules(sentence) == rules.apply(sentence)


def test_memory_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr(tokens, "MOST_REMEMBERED", 10)
    rules = tokens._Treebank(tokens.RULES["treebank-3.2.5"])
    for i in range(100):
        assert rules(f"w{i} v{i}.") == [f"w{i}", f"v{i}", "."]
    assert len(rules.inside) + len(rules.last) <= 12


def test_very_long_and_odd_texts():
    tokenize = tokens.tokenizer("treebank-3.2.5")
    assert len(tokenize("is it red? yes. " * 2000)) == 12_000
    assert tokenize("\U0001f600 smile \u30c6\u30b9\u30c8") == ["\U0001f600", "smile", "\u30c6\u30b9\u30c8"]
