"""Rounds as strings, under every switch."""

import pytest

from pipeline.texts import TextSettings, collapse, turn

ROUNDS = [("is it sunny", "yes"), ("Is it big ?", "no, small."), ("and who", "")]


@pytest.mark.parametrize(
    "settings, expected",
    [
        (TextSettings(), "is it sunny? yes. Is it big ? no, small. and who?"),
        (TextSettings(punctuation=False), "is it sunny yes Is it big ? no, small. and who"),
        (TextSettings(lowercase=True), "is it sunny? yes. is it big ? no, small. and who?"),
        (TextSettings(turn="question"), "is it sunny? Is it big ? and who?"),
        (TextSettings(turn="answer"), "yes. no, small."),
        (TextSettings(caption_in_dialogue=True), "A dog. is it sunny? yes. Is it big ? no, small. and who?"),
        (TextSettings(caption_in_dialogue=True, lowercase=True, turn="answer"), "a dog. yes. no, small."),
    ],
)
def test_collapse(settings, expected):
    assert collapse(ROUNDS, "A dog", settings) == expected


def test_turn():
    assert turn(" is it sunny ", "yes\n", TextSettings()) == "is it sunny? yes."
    assert turn("is it sunny?", "yes!", TextSettings()) == "is it sunny? yes!"
    assert turn("is it sunny", "", TextSettings(turn="answer")) == ""
    assert turn("", "", TextSettings()) == ""


def test_a_dialogue_of_nothing():
    assert collapse([], "A dog", TextSettings()) == ""
    assert collapse([("", "")], "A dog", TextSettings(caption_in_dialogue=True)) == "A dog."
