"""Text as the generator was taught to read it: the encoders of its training, found again and checked."""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from painter.dialogue import Dialogue
from pipeline import encoders, texts
from pipeline.encoders import CharCnnRnnSettings, EncoderSettings, Kind, SkipThoughtSettings
from pipeline.texts import TextSettings
from store import params
from store.errors import ChatPainterError

REMEMBERED = 4096


@dataclass(frozen=True)
class Reading:
    """What the encoders made of a dialogue."""

    unknown: list[str]
    """Words that an encoder does not know, each once, in the order typed."""
    cut: bool
    """Some text was longer than its encoder reads."""


@dataclass(frozen=True)
class Vectors:
    """Of B dialogues: captions (B, dc); `dialogues` are turns (B, T, dd) with rounds (B,), or (B, dd), or None."""

    captions: np.ndarray
    dialogues: np.ndarray | None
    rounds: np.ndarray | None


class TextEncoders:
    """The caption encoder and, if the generator heard dialogues, the dialogue encoder. Safe to share among threads."""

    def __init__(self, stores: dict[str, Any], where: EncoderSettings):
        """
        Args:
            stores: what the generator was trained on: `{"captions": …, "turns" or "dialogues": …}`, each with the
                `encoder` identity and the `text` switches of its store.
            where: folders of the weight files, and the device; everything else follows from `stores`.

        Raises:
            ChatPainterError: weights are missing, or they are not those of the training.
        """
        self.heard = "turns" if "turns" in stores else "dialogues" if "dialogues" in stores else None
        self.settings = _settings(stores, self.heard, where)
        self.text = params.build(TextSettings, stores[self.heard]["text"], "text switches") if self.heard else None
        self.captions = _Remembering(_same(stores["captions"]["encoder"], "captions", self.settings))
        self.dialogue = self.captions
        if self.heard:
            self.dialogue = _Remembering(_same(stores[self.heard]["encoder"], "dialogue", self.settings))

    @property
    def trained(self) -> bool:
        """False where the vectors come from weights that nobody trained."""
        return all(bool(encoder.identity.get("trained", True)) for encoder in (self.captions, self.dialogue))

    def hashes(self) -> dict[str, str]:
        """sha256 of every weight file by its name."""
        return {
            name: digest
            for encoder in (self.captions, self.dialogue)
            for name, digest in encoder.identity.get("weights", {}).items()
        }

    def files(self) -> list[Path]:
        """The weight files, as the encoders found them."""
        folders = [Path(folder) for folder in (self.settings.weights, self.settings.untrained) if folder]
        return [next(folder / name for folder in folders if (folder / name).is_file()) for name in self.hashes()]

    def encode(self, dialogues: Sequence[Dialogue]) -> Vectors:
        """Vectors of the dialogues, float32. No round at all is a row of zeros, and 0 in `rounds`."""
        captions = self.captions.vectors([dialogue.caption for dialogue in dialogues])
        if self.heard is None:
            return Vectors(captions, None, None)
        strings = [self._strings(dialogue) for dialogue in dialogues]
        flat = self.dialogue.vectors([string for one in strings for string in one])
        rounds = np.array([len(one) for one in strings], np.int64)
        turns = np.zeros((len(dialogues), max(1, *rounds), self.dialogue.dim), np.float32)
        for row, end in enumerate(np.cumsum(rounds)):
            turns[row, : rounds[row]] = flat[end - rounds[row] : end]
        if self.heard == "dialogues":
            return Vectors(captions, turns[:, 0], None)
        return Vectors(captions, turns, rounds)

    def read(self, dialogue: Dialogue) -> Reading:
        """Which words of the dialogue mean nothing to the encoders, and whether all of it was read.

        A caption encoder that reads letters never meets an unknown word, so the caption's words are looked up in the
        dialogue encoder's dictionary as well.
        """
        said = [self.captions.notes(dialogue.caption)]
        if self.heard:
            said.append(Reading(self.dialogue.unknown(dialogue.caption), False))
            said += [self.dialogue.notes(string) for string in self._strings(dialogue)]
        unknown = dict.fromkeys(word for note in said for word in note.unknown)
        return Reading(list(unknown), any(note.cut for note in said))

    def _strings(self, dialogue: Dialogue) -> list[str]:
        assert self.text is not None
        if self.heard == "dialogues":
            whole = texts.collapse(dialogue.rounds, dialogue.caption, self.text)
            return [whole] if whole else []
        return [texts.turn(question, answer, self.text) for question, answer in dialogue.rounds]


class _Remembering:
    """An encoder that encodes a text once; a dialogue grows by one turn at a time."""

    def __init__(self, encoder: encoders.Encoder):
        self._encoder = encoder
        self._known: OrderedDict[str, tuple[np.ndarray, Reading]] = OrderedDict()
        self._words: OrderedDict[str, bool] = OrderedDict()
        self._lock = threading.Lock()
        self.dim = encoder.dim
        self.identity = encoder.identity

    def vectors(self, strings: Sequence[str]) -> np.ndarray:
        found = [vector for vector, _ in self._look_up(strings)]
        return np.stack(found) if found else np.zeros((0, self.dim), np.float32)

    def notes(self, string: str) -> Reading:
        return self._look_up([string])[0][1]

    def unknown(self, string: str) -> list[str]:
        """Words of the string that are unknown as they stand and in lower case."""
        with self._lock:
            return self._respell(string)[1]

    def _look_up(self, strings: Sequence[str]) -> list[tuple[np.ndarray, Reading]]:
        with self._lock:
            new = [string for string in dict.fromkeys(strings) if string not in self._known]
            fresh: dict[str, tuple[np.ndarray, Reading]] = {}
            if new:
                fresh = dict(zip(new, self._encode(new)))
            result = [fresh.get(string) or self._known[string] for string in strings]
            self._known.update(fresh)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return result

    def _encode(self, strings: list[str]) -> list[tuple[np.ndarray, Reading]]:
        encoded = self._encoder.encode(strings)
        found = []
        for row, string in enumerate(strings):
            vector, cut = encoded.vectors[row], bool(encoded.truncated[row])
            unknown: list[str] = []
            if encoded.unknown[row]:
                spelt, unknown = self._respell(string)
                if spelt != string:
                    vector = self._encoder.encode([spelt]).vectors[0]
            found.append((vector.astype(np.float32), Reading(unknown, cut)))
        return found

    def _respell(self, string: str) -> tuple[str, list[str]]:
        """The string with unknown words in lower case where that makes them known; and the words still unknown."""
        unknown = []

        def lower(match: re.Match[str]) -> str:
            word = match[0]
            if self._knows(word):
                return word
            if self._knows(word.lower()):
                return word.lower()
            unknown.append(word)
            return word

        return re.sub(r"[^\s.,;:!?\"()]+", lower, string), unknown

    def _knows(self, word: str) -> bool:
        if word not in self._words:
            self._words[word] = not self._encoder.encode([word]).unknown[0]
            while len(self._words) > REMEMBERED:
                self._words.popitem(last=False)
        return self._words[word]


def _settings(stores: dict[str, Any], heard: str | None, where: EncoderSettings) -> EncoderSettings:
    """`where` with every switch set as the identities say."""
    from pipeline import tokens

    captions = stores["captions"]["encoder"]
    dialogue = stores[heard]["encoder"] if heard else captions
    settings = replace(where, captions=captions["name"], precision=captions["precision"])
    if heard:
        settings = replace(settings, dialogue=dialogue["name"])
    for identity in (captions, dialogue):
        if identity["name"] == "char-cnn-rnn":
            (file,) = identity["weights"]
            named = file if (Path(where.weights) / file).is_file() else None
            switches = CharCnnRnnSettings(named, identity["lowercase"], identity["unknown"])
            settings = replace(settings, char_cnn_rnn=switches)
        elif identity["name"] == "skip-thought":
            names = {tokens.identity(name): name for name in get_args(tokens.Name)}
            settings = replace(
                settings,
                skip_thought=SkipThoughtSettings(
                    identity["variant"],
                    names.get(identity["tokenizer"], "treebank-3.2.5"),
                    identity["eos"],
                    identity["normalise"],
                ),
            )
    return settings


def _same(wanted: dict[str, Any], kind: Kind, settings: EncoderSettings) -> encoders.Encoder:
    """The encoder, built once its identity is known to be the one of the training."""
    found = encoders.identity(kind, settings)
    if different := _difference(wanted, found):
        raise ChatPainterError(
            f"{settings.weights}: not the {kind} encoder that the generator was trained with ({different}); "
            "name the folder with those weight files (--weights), or train again with these"
        )
    return encoders.build(kind, settings)


def _difference(wanted: Any, found: Any, name: str = "") -> str:
    """The first place where two identities differ, in words; "" if they do not."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            if different := _difference(wanted.get(key), found.get(key), f"{name}.{key}" if name else key):
                return different
        return ""
    return "" if wanted == found else f"{name}: {str(wanted)[:16]} in training, {str(found)[:16]} here"


def places(folder: Path, weights: str | None) -> EncoderSettings:
    """Where the weight files of a run or an exported model lie.

    In order: the folder asked for, `encoders/` beside the generator (an exported model), what params.yaml in the
    working folder says, the places that it would say by default.
    """
    cache = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatpainter")
    if weights is not None:
        return EncoderSettings(weights=weights, untrained=None, converted=cache)
    if (folder / "encoders").is_dir():
        return EncoderSettings(weights=str(folder / "encoders"), untrained=None, converted=cache)
    if Path("params.yaml").is_file():
        return params.section(params.load(), "encoders", EncoderSettings)
    return EncoderSettings()
