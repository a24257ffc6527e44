"""What lies in the weights folders, in words."""

from pathlib import Path

from pipeline.weights import WeightsError, published, reed
from pipeline.weights.hashing import sha256
from store.errors import ChatPainterError


def skip_thought(folder: Path, quick: bool) -> list[str]:
    """A line for each published file of Skip-Thought: whether it is here and right, and what it should be."""
    marked = (folder / published.MARKER).is_file()
    lines = []
    for file in published.SKIP_THOUGHT.values():
        path = folder / file.name
        if not path.is_file():
            state = "missing"
        elif marked:
            state = f"here, not the published one ({published.MARKER})"
        elif path.stat().st_size != file.size:
            state = f"WRONG: {path.stat().st_size:,} bytes"
        elif quick:
            state = "here, size right"
        else:
            state = "here, hash right" if sha256(path) == file.sha256 else "WRONG: damaged"
        lines.append(f"{file.name:15} {state}; {file.holds}: {file.size:,} bytes, sha256 {file.sha256}")
    return lines


def char_cnn_rnn(folder: Path) -> list[str]:
    """A line for each .t7 file: which variant of char-CNN-RNN it holds, or what is wrong with it."""
    lines = []
    for path in sorted(folder.glob("*.t7")) if folder.is_dir() else []:
        known = published.KNOWN_T7.get(path.name)
        try:
            weights = reed.load(path)
            holds = f"{weights.variant}, {weights.dim} values a text" + (", UNTRAINED" if weights.untrained else "")
        except WeightsError as error:
            holds = f"not usable: {error.message.removeprefix(f'{path}: ')}"
        lines.append(f"{path.name}: {holds}" + (f"; {known.holds}" if known else ""))
    if not any(line.startswith(published.COCO_CHAR_CNN_RNN.name) for line in lines):
        lines.append(f"{published.COCO_CHAR_CNN_RNN.name}: missing; {published.COCO_CHAR_CNN_RNN.holds}")
    return lines


def minilm() -> str:
    """Whether the packaged model is installed, whole, and what it is."""
    from pipeline.encoders import EncoderSettings, modern

    package = modern.PACKAGES[modern.MINILM]
    try:
        modern.identity(modern.MINILM, EncoderSettings())
        state = "installed, hashes right"
    except ChatPainterError as error:
        state = error.message.removeprefix("params.yaml: encoder 'minilm' is ")
    return f"minilm: {state}; {package.origin}, {package.license}, from {package.distribution} on PyPI"


def sources(folder: Path, trained: Path, untrained: Path) -> list[str]:
    """Every source of encoders side by side: where, which encoders it has, what it is, under which terms."""
    lines = []
    for name, place, what in (
        ("published", folder, "the paper's own text; code Apache-2.0 and MIT, no terms stated for the weights"),
        ("trained here", trained, "the published formats"),
        ("untrained", untrained, "nobody trained them: for trying the road, and the sample world"),
    ):
        found = [_source(place, encoder) for encoder in ("Skip-Thought", "char-CNN-RNN")]
        lines.append(f"{name:13} {place}: {', '.join(found)}; {what}")
    lines.append(f"{'package':13} {minilm()}")
    return lines


def _source(folder: Path, encoder: str) -> str:
    try:
        if encoder == "Skip-Thought":
            found = published.find_skip_thought("combined", str(folder), None)
        else:
            found = published.find_char_cnn_rnn(None, str(folder), None)
    except WeightsError as error:
        return f"no {encoder}" if error.message.startswith(f"{folder}: no weights for") else f"part of {encoder}"
    about = f" ({found.about['origin']}; license: {found.about['license']})" if found.about else ""
    return f"{encoder}{about}"


def conclusion(folder: Path, untrained: Path) -> str:
    """Which weights would be used now."""
    said = []
    for name, find in (
        ("dialogues", lambda: published.find_skip_thought("combined", str(folder), str(untrained))),
        ("captions", lambda: published.find_char_cnn_rnn(None, str(folder), str(untrained))),
    ):
        try:
            found = find()
            where = next(iter(found.paths.values())).parent
            said.append(f"{name}: {where}" + ("" if found.trained else " (UNTRAINED)"))
        except WeightsError as error:
            absent = error.message.startswith(f"{folder}: no weights for")
            said.append(f"{name}: none" if absent else f"{name}: none ({error.message})")
    return "In use now, where params.yaml names the published encoders: " + "; ".join(said)
