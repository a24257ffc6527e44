"""The weight files as they were published: names, sizes, hashes, places; and which of them lie here."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.weights import WeightsError, shown
from pipeline.weights.hashing import remembered_sha256, sha256

COMMAND = "chatpainter-prepare weights-status"
MARKER = "WEIGHTS.json"  # lies beside weights that are not the published ones and says whether they are trained


@dataclass(frozen=True)
class PublishedFile:
    """One file of the original release. Sizes and hashes as nlg-eval's README publishes them; None where nobody did."""

    name: str
    size: int | None
    sha256: str | None
    holds: str


SKIP_THOUGHT = {
    file.name: file
    for file in (
        PublishedFile(
            "uni_skip.npz",
            663_989_216,
            "7f40ff16ff5c54ce9b02bd1a3eb24db3e6adaf7712a7a714f160af3a158899c8",
            "forward GRU, 2400",
        ),
        PublishedFile(
            "bi_skip.npz",
            289_340_074,
            "8ab7965d2db5d146a907956d103badfa723b57e0acffb75e10198ba9f124edb0",
            "forward and reverse GRU, 1200 each",
        ),
        PublishedFile(
            "utable.npy",
            2_342_138_474,
            "790951d4b08e843e3bca0563570f4134ffd17b6bd4ab8d237d2e5ae15e4febb3",
            "word vectors of uni_skip",
        ),
        PublishedFile(
            "btable.npy",
            2_342_138_474,
            "4a4ed9d7560bb87f91f241739a8f80d8f2ba787a871da96e1119e913ccd61c53",
            "word vectors of bi_skip",
        ),
        PublishedFile(
            "dictionary.txt",
            7_996_547,
            "4dc5622978a30cddea8c975c871ea8b6382423efb107d27248ed7b6cfa490c7c",
            "the words, one a line",
        ),
    )
}
TABLES = ("utable.npy", "btable.npy")
COCO_CHAR_CNN_RNN = PublishedFile(
    "coco_gru18_bs64_cls0.5_ngf128_ndf128_a10_c512_80_net_T.t7", None, None, "char-CNN-RNN trained on COCO"
)
KNOWN_T7 = {
    file.name: file
    for file in (
        COCO_CHAR_CNN_RNN,
        PublishedFile(
            "lm_sje_nc4_cub_hybrid_gru18_a1_c512_0.00070_1_10_trainvalids.txt_iter30000.t7",
            None,
            None,
            "char-CNN-RNN trained on birds",
        ),
        PublishedFile(
            "lm_sje_flowers_c10_hybrid_0.00070_1_10_trainvalids.txt_iter16400.t7",
            None,
            None,
            "char-CNN-RNN trained on flowers",
        ),
    )
}


def skip_thought_names(variant: str) -> tuple[str, ...]:
    """The files that a Skip-Thought variant reads."""
    uni, bi = ("uni_skip.npz", "utable.npy"), ("bi_skip.npz", "btable.npy")
    return {"combined": uni + bi, "uni": uni, "bi": bi}[variant] + ("dictionary.txt",)


@dataclass(frozen=True)
class FoundFiles:
    """One encoder's files, all from one folder."""

    paths: dict[str, Path]
    trained: bool
    marked: bool  # the folder says in WEIGHTS.json what it holds: not the published files
    about: dict[str, str] = field(default_factory=dict)  # of weights trained here: their origin and license


def find_skip_thought(variant: str, weights: str, untrained: str | None) -> FoundFiles:
    """The published files where the folder `weights` holds any of them, else those of `untrained`.

    Raises:
        WeightsError: no folder holds the files, or one holds only some: two sources are never mixed.
    """
    names = skip_thought_names(variant)
    for folder in _folders(weights, untrained):
        paths = {name: folder / name for name in names}
        here = [name for name in names if os.path.isfile(paths[name])]
        if len(here) == len(names):
            return _found(paths, folder, "skip-thought")
        if here:
            missing = ", ".join(sorted(set(names) - set(here)))
            raise WeightsError(
                f"{folder}: holds {', '.join(here)} of Skip-Thought but not {missing}; add what is missing or take "
                f"the others away (`{COMMAND}` says what each should be)"
            )
    raise _absent("Skip-Thought", ", ".join(names), weights, untrained)


def find_char_cnn_rnn(file: str | None, weights: str, untrained: str | None) -> FoundFiles:
    """The .t7 file: `file` if named, else COCO's published name, else the folder's only char-CNN-RNN-like .t7.

    Raises:
        WeightsError: no file, or several and none of them named.
    """
    if file is not None:
        for path in (Path(weights) / file, Path(file)):
            if os.path.isfile(path):  # whatever the name: too long for the disk is absent, too
                return _found({path.name: path}, path.parent, "char-cnn-rnn")
        raise WeightsError(
            f"{shown(Path(weights) / file)}: no such file; encoders.char_cnn_rnn.file in params.yaml names it"
        )
    for folder in _folders(weights, untrained):
        path = folder / COCO_CHAR_CNN_RNN.name
        others = sorted(other for other in folder.glob("*.t7") if other.name != "val_captions.t7")
        if not os.path.isfile(path) and len(others) > 1:
            names = ", ".join(other.name for other in others)
            raise WeightsError(f"{folder}: holds {names}; say which in params.yaml: encoders.char_cnn_rnn.file")
        if os.path.isfile(path) or others:
            path = path if os.path.isfile(path) else others[0]
            return _found({path.name: path}, folder, "char-cnn-rnn")
    raise _absent("char-CNN-RNN", COCO_CHAR_CNN_RNN.name, weights, untrained)


def _found(paths: dict[str, Path], folder: Path, encoder: str) -> FoundFiles:
    marker = folder / MARKER
    if not os.path.isfile(marker):
        return FoundFiles(paths, trained=True, marked=False)
    try:
        content = json.loads(marker.read_bytes())
        trained = content["trained"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        trained = None
    if not isinstance(trained, bool):
        raise WeightsError(f'{marker}: expected a JSON object with "trained": true or false')
    return FoundFiles(paths, trained, marked=True, about=_about(content, encoder))


def _about(marker: dict[str, Any], encoder: str) -> dict[str, str]:
    """Origin and license of weights that `chatpainter-encoders train` wrote; nothing of others."""
    try:
        about = marker["encoders"][encoder]
        of = about["trained_on"]
        texts = sorted({**of.get("files", {}), **(of.get("corpus") or {}), **(of.get("features") or {})})
        return {"origin": shown(f"{marker['made_by']}: {', '.join(texts)}"), "license": shown(about["license"])}
    except (LookupError, TypeError, AttributeError):
        return {}


def hashes(found: FoundFiles, known: Path) -> dict[str, str]:
    """sha256 by file name; a file under a published name must be the published file, unless its folder is marked.

    Hashing costs less than reading does (1 s a gigabyte), so what an encoder reads whole is hashed each time. Of the
    tables of word vectors, gigabytes of which a few rows are used, the hash is remembered in `known`: `tables` checks
    every row that is used.

    Raises:
        WeightsError: the file is cut short, damaged or another one.
    """
    result = {}
    for name, path in sorted(found.paths.items()):
        expected = None if found.marked else SKIP_THOUGHT.get(name)
        size = path.stat().st_size
        if expected and size != expected.size:
            raise WeightsError(
                f"{path}: has {size:,} bytes, the published file has {expected.size:,} (sha256 {expected.sha256}); "
                f"fetch it again, or mark a folder of other weights with {MARKER}"
            )
        result[name] = remembered_sha256(path, known) if name in TABLES else sha256(path)
        if expected and result[name] != expected.sha256:
            raise WeightsError(
                f"{path}: sha256 is {result[name]}, the published file of {expected.size:,} bytes has "
                f"{expected.sha256}; the download is damaged: fetch it again"
            )
    return result


def refuse_untrained(path: Path, untrained: bool, found: FoundFiles) -> None:
    """A file that says of itself that nobody trained it must not lie in a folder that says otherwise.

    Raises:
        WeightsError: it does.
    """
    if untrained and found.trained:
        raise WeightsError(f"{path}: says of itself that it is untrained; take {MARKER} along with it")


def _folders(weights: str, untrained: str | None) -> Iterable[Path]:
    return [Path(folder) for folder in (weights, untrained) if folder]


def _absent(encoder: str, names: str, weights: str, untrained: str | None) -> WeightsError:
    hint = f", or run `chatpainter-prepare weights` to make untrained ones in {shown(untrained)}" if untrained else ""
    return WeightsError(
        f"{shown(weights)}: no weights for {encoder}; put {names} there (`{COMMAND}` says what they are and where they "
        f"were published){hint}"
    )
