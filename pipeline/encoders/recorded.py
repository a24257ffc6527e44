"""An encoder found again by what a store recorded of it: weights by their checksums, every switch."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from pipeline import encoders
from pipeline.encoders import CharCnnRnnSettings, EncoderSettings, SkipThoughtSettings
from pipeline.texts import KINDS, Kind
from store import params
from store.differences import difference
from store.errors import ChatPainterError

STATED_PLACE = ("sentence-transformers", "transformers", "damsm")
"""Encoders whose identity says which files, not where they lie: their name in params.yaml ends with that."""
_REMEDY = "make the store again"


def settings_of(
    identity: dict[str, Any], kind: Kind, where: EncoderSettings, file: str, remedy: str = _REMEDY
) -> EncoderSettings:
    """`where` with every switch of the encoder of `kind` set as its identity says.

    Args:
        file: where the identity was read, and `remedy`, what to do about a wrong one: for messages.

    Raises:
        ChatPainterError: no encoder has such an identity.
    """
    from pipeline import tokens

    name, slot = identity["name"], encoders.slot(kind)
    switches: dict[str, Any] = {}
    if name == "char-cnn-rnn":
        (weights,) = identity["weights"] if len(identity["weights"]) == 1 else ("",)
        named = weights if weights and (Path(where.weights) / weights).is_file() else None
        values = {"file": named, "lowercase": identity.get("lowercase"), "unknown": identity.get("unknown")}
        switches["char_cnn_rnn"] = params.build(CharCnnRnnSettings, values, file)
    elif name == "skip-thought":
        names = {tokens.identity(tokenizer): tokenizer for tokenizer in get_args(tokens.TokenizerName)}
        values = {key: identity.get(key) for key in ("variant", "eos", "normalise")}
        values["tokenizer"] = names.get(str(identity.get("tokenizer")), "treebank-3.2.5")
        switches["skip_thought"] = params.build(SkipThoughtSettings, values, file)
    elif name in STATED_PLACE:
        asked = str(getattr(where, slot))
        name = asked if asked.startswith(f"{name}:") else f"{name}:{where.weights}"
    elif name not in encoders.ENCODERS:
        raise ChatPainterError(f"{file}: no encoder is called {name[:60]!r}; {remedy}")
    precision = identity.get("precision")
    if precision not in get_args(get_type_hints(EncoderSettings)["precision"]):
        raise ChatPainterError(f"{file}.precision: {str(precision)[:60]!r} is none; {remedy}")
    return replace(where, **{slot: name, "precision": precision}, **switches)


def encode(
    text: str, kind: str, identity: Any, store: Path, params_file: Path, factory: str | None = None
) -> np.ndarray:
    """`text` as the rows of a store were encoded, (d,) float32: what `chatpainter-store search` asks.

    Args:
        kind, identity: of the store, as its manifest says.
        params_file: whose section `encoders` says where weights lie; the defaults where there is no such file.
        factory: a module of one's own encoders, as `chatpainter-embed --encoders`.

    Raises:
        ChatPainterError: the store has no vectors of texts, or its encoder is not to be had here.
    """
    from pipeline.worker import EncoderSource

    if kind not in KINDS:
        raise ChatPainterError(f"{store}: a row of {kind} is no text's vector; name a row to look for: --row")
    file = f"{store}: encoder"
    if not isinstance(identity, dict) or not isinstance(identity.get("name"), str):
        raise ChatPainterError(f"{file}: the manifest does not say which; name a row to look for: --row")
    values = params.load(params_file) if params_file.is_file() else {}
    settings = params.section(values, "encoders", EncoderSettings, str(params_file))
    if factory is None:
        if not isinstance(identity.get("weights"), dict):
            raise ChatPainterError(
                f"{file}: {identity['name'][:60]!r} is none of this program's; name its module with --encoders, or a "
                "row to look for: --row"
            )
        settings = settings_of(identity, kind, settings, file)
    source = EncoderSource.of(factory or "pipeline.encoders", kind, settings)
    if different := difference(identity, source.identity, "in the store", "here"):
        raise ChatPainterError(
            f"{store}: not the encoder that it was made with ({different}); name the folder of its weights in "
            f"{params_file} (encoders), or make the store again with these"
        )
    return source.encoder().encode([text]).vectors[0]
