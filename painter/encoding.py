"""Text as the generator was taught to read it: the encoders of its training, found again and checked."""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from painter.dialogue import Dialogue, check
from pipeline import encoders, texts, texts_of_rows
from pipeline.encoders import EncoderSettings
from pipeline.encoders.recorded import settings_of
from pipeline.texts import Kind, TextSettings
from pipeline.weights import recipe
from pipeline.worker import word_encoder
from store import params
from store.differences import difference
from store.errors import ChatPainterError

REMEMBERED = 4096
DIALOGUE_STORES: tuple[Kind, ...] = ("turns", "dialogues")
REMEDY = "train or export it again"
_WORD = re.compile(r"[^\s.,;:!?\"()]+")


@dataclass(frozen=True)
class Notes:
    """What the encoders could not read of a dialogue."""

    unknown: list[str]
    """Words that an encoder does not know, each once, in the order typed."""
    truncated: bool
    """Some text was longer than its encoder reads."""


class TextEncoders:
    """The caption encoder and, if the generator heard dialogues, the dialogue encoder. Safe to share among threads."""

    def __init__(self, stores: Any, where: EncoderSettings, file: str | Path = "generator"):
        """
        Args:
            stores: what the generator was trained on: `{"captions": …, "turns" or "dialogues": …}`, perhaps
                with "words", each with the `encoder` identity and the `text` switches of its store.
            where: folders of the weight files, and the device; everything else follows from `stores`.
            file: where `stores` was read, for messages.

        Raises:
            ChatPainterError: `stores` is not of that form, weights are missing, or they are not those of the training.
        """
        identities = _identities(stores, file)
        self.heard = next((name for name in DIALOGUE_STORES if name in identities), None)
        self.settings = where
        for kind, identity in identities.items():
            self.settings = settings_of(identity, kind, self.settings, f"{file}: stores.{kind}.encoder", REMEDY)
        self.text = _text_switches(self.heard, stores, file) if self.heard else None
        self.captions = _Remembering(_same(identities["captions"], "captions", self.settings))
        self.words = None
        if "words" in stores:
            self.words = word_encoder(self.captions.encoder)
            made = stores["words"].get("encoder") if isinstance(stores["words"], dict) else None
            if made != {**identities["captions"], "output": "words"}:
                raise ChatPainterError(f"{file}: its words are not of the encoder of its captions; train it again")
        self.dialogue = self.captions
        if self.heard:
            self.dialogue = _Remembering(_same(identities[self.heard], self.heard, self.settings))

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

    def files(self) -> dict[str, Path]:
        """Where each weight file of `hashes` lies.

        Raises:
            ChatPainterError: one is no longer there.
        """
        named = (getattr(self.settings, slot).partition(":")[2] for slot in ("captions", "dialogue"))
        folders = [Path(folder) for folder in (*named, self.settings.weights, self.settings.untrained) if folder]
        found = {}
        for name in self.hashes():
            paths = [folder / name for folder in folders if (folder / name).is_file()]
            if not paths:
                raise ChatPainterError(f"{self.settings.weights}: {name} is gone; name its folder with --weights")
            found[name] = paths[0]
        return found

    def encode(self, dialogues: Sequence[Dialogue]) -> dict[str, np.ndarray]:
        """What a generator reads of B dialogues, by the names of a `trainer.feed.inputs.Batch`.

        captions (B, dc) float32; words (B, L, dw) with words.length (B,) where they are read; and turns (B, T, dd)
        float32 with turns.length (B,) int64, or dialogues (B, dd), or neither. No round at all is zeros.

        Raises:
            ChatPainterError: a dialogue is empty, or more than an encoder should read.
        """
        from trainer.feed.inputs import LENGTH

        for dialogue in dialogues:
            check(dialogue)
        captions = [dialogue.caption for dialogue in dialogues]
        found = {"captions": self.captions.vectors(captions)}
        if self.words is not None:
            read = self.words.words(captions)
            found |= {"words": _padded(read.vectors, read.lengths), "words" + LENGTH: read.lengths}
        if self.heard is None:
            return found
        strings = [self._strings(dialogue) for dialogue in dialogues]
        flat = self.dialogue.vectors([string for one in strings for string in one])
        lengths = np.array([len(one) for one in strings], np.int64)
        rows = _padded(flat, lengths)
        if self.heard == "dialogues":
            return found | {self.heard: rows[:, 0]}
        return found | {self.heard: rows, self.heard + LENGTH: lengths}

    def read(self, dialogue: Dialogue) -> Notes:
        """Which words of the dialogue mean nothing to the encoders, and whether all of it was read.

        A caption encoder that reads letters never meets an unknown word, so the caption's words are looked up in the
        dialogue encoder's dictionary as well.
        """
        check(dialogue)
        said = [self.captions.notes(dialogue.caption)]
        if self.heard:
            said.append(Notes(self.dialogue.unknown(dialogue.caption), False))
            said += [self.dialogue.notes(string) for string in self._strings(dialogue)]
        unknown = dict.fromkeys(word for note in said for word in note.unknown)
        return Notes(list(unknown), any(note.truncated for note in said))

    def _strings(self, dialogue: Dialogue) -> list[str]:
        assert self.text is not None
        if self.heard == "dialogues":
            whole = texts.collapse(dialogue.rounds, dialogue.caption, self.text)
            return [whole] if whole else []
        return [texts.turn(question, answer, self.text) for question, answer in dialogue.rounds]


def _padded(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Runs one after the other (sum of lengths, dim) → (n, longest, dim) with zeros after each; at least one row."""
    rows = np.zeros((len(lengths), max(1, *lengths), flat.shape[1]), np.float32)
    for row, end in enumerate(np.cumsum(lengths)):
        rows[row, : lengths[row]] = flat[end - lengths[row] : end]
    return rows


class _Remembering:
    """An encoder that encodes a text once; a dialogue grows by one turn at a time."""

    def __init__(self, encoder: encoders.Encoder):
        self.encoder = encoder
        self._known: OrderedDict[str, tuple[np.ndarray, Notes]] = OrderedDict()
        self._words: OrderedDict[str, bool] = OrderedDict()
        self._lock = threading.Lock()
        self.dim = encoder.dim
        self.identity = encoder.identity

    def vectors(self, strings: Sequence[str]) -> np.ndarray:
        found = [vector for vector, _ in self._look_up(strings)]
        return np.stack(found) if found else np.zeros((0, self.dim), np.float32)

    def notes(self, string: str) -> Notes:
        return self._look_up([string])[0][1]

    def unknown(self, string: str) -> list[str]:
        """Words of the string that are unknown as they stand and in lower case."""
        with self._lock:
            return self._respell(string)[1]

    def _look_up(self, strings: Sequence[str]) -> list[tuple[np.ndarray, Notes]]:
        with self._lock:
            new = [string for string in dict.fromkeys(strings) if string not in self._known]
            fresh: dict[str, tuple[np.ndarray, Notes]] = {}
            if new:
                fresh = dict(zip(new, self._encode(new)))
            result = [fresh.get(string) or self._known[string] for string in strings]
            self._known.update(fresh)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return result

    def _encode(self, strings: list[str]) -> list[tuple[np.ndarray, Notes]]:
        encoded = self.encoder.encode(strings)
        found = []
        for row, string in enumerate(strings):
            vector, truncated = encoded.vectors[row], bool(encoded.truncated[row])
            unknown: list[str] = []
            if encoded.unknown[row]:
                spelt, unknown = self._respell(string)
                if spelt != string:
                    vector = self.encoder.encode([spelt]).vectors[0]
            found.append((vector.astype(np.float32), Notes(unknown, truncated)))
        return found

    def _respell(self, string: str) -> tuple[str, list[str]]:
        """The string with unknown words in lower case where that makes them known; and the words still unknown."""
        words = list(dict.fromkeys(_WORD.findall(string)))
        known = self._knows([*words, *(word.lower() for word in words)])
        lowered = {word: word if known[word] or not known[word.lower()] else word.lower() for word in words}
        unknown = [word for word in _WORD.findall(string) if not known[lowered[word]]]
        return _WORD.sub(lambda match: lowered[match[0]], string), unknown

    def _knows(self, words: list[str]) -> dict[str, bool]:
        new = [word for word in dict.fromkeys(words) if word not in self._words]
        fresh: dict[str, bool] = {}
        if new:
            fresh = dict(zip(new, (not count for count in self.encoder.encode(new).unknown)))
        found = {word: fresh[word] if word in fresh else self._words[word] for word in words}
        self._words.update(fresh)
        while len(self._words) > REMEMBERED:
            self._words.popitem(last=False)
        return found


def _identities(stores: Any, file: str | Path) -> dict[Kind, dict[str, Any]]:
    """The identity of the encoder of each text store, captions first; the file is not trusted."""
    if not isinstance(stores, dict) or "captions" not in stores:
        raise ChatPainterError(f"{file}: does not say which encoders it was trained with; train or export it again")
    found = {}
    for name in ("captions", *(name for name in DIALOGUE_STORES if name in stores)):
        where = f"{file}: stores.{name}.encoder"
        identity = stores[name].get("encoder") if isinstance(stores[name], dict) else None
        if not isinstance(identity, dict) or not isinstance(identity.get("name"), str):
            raise ChatPainterError(f"{where}: expected an encoder with its name, found {str(identity)[:60]!r}")
        weights = identity.get("weights")
        if not isinstance(weights, dict) or not weights or not all(map(_is_checksum, weights.items())):
            raise ChatPainterError(f"{where}.weights: expected a sha256 for each file, found {str(weights)[:60]!r}")
        found[name] = identity
    return found


def _is_checksum(entry: tuple[Any, Any]) -> bool:
    """Whether a file (below the folder of weights, never beside it) stands with its sha256."""
    name, digest = entry
    inside = isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts and bool(name)
    return inside and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None


def _text_switches(kind: Kind, stores: dict[Kind, Any], file: str | Path) -> TextSettings:
    text, where = stores[kind].get("text"), f"{file}: stores.{kind}"
    settings = params.build(TextSettings, text, f"{where}.text")
    # A default would read other text than the training did. A store records those that its kind of text depends on.
    if missing := texts_of_rows.switches(kind, settings).keys() - set(text or {}):
        raise ChatPainterError(f"{where}.text: {', '.join(sorted(missing))} not recorded; train or export it again")
    return settings


def _same(wanted: dict[str, Any], kind: Kind, settings: EncoderSettings) -> encoders.Encoder:
    """The encoder, built once its identity is known to be the one of the training."""
    found = encoders.identity(kind, settings)
    if different := difference(wanted, found, "in training", "here"):
        raise ChatPainterError(
            f"{settings.weights}: not the {kind} encoder that the generator was trained with ({different}); "
            "name the folder with those weight files (--weights), or train again with these"
        )
    return encoders.build(kind, settings)


def places(folder: Path, weights: str | None) -> EncoderSettings:
    """Where the weight files of a run or an exported model lie.

    In order: the folder asked for, `encoders/` beside the generator (an exported model), what params.yaml in the
    working folder says, the places that it would say by default.
    """
    cache = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatpainter")
    if weights is not None:
        return EncoderSettings(weights=weights, untrained=None, converted=cache)
    if (own := folder / "encoders").is_dir():
        return EncoderSettings(weights=str(recipe.whole(own)), untrained=None, converted=cache)
    if Path("params.yaml").is_file():
        return params.section(params.load(), "encoders", EncoderSettings)
    return EncoderSettings()
