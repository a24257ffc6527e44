"""The model card of an exported model: what it was made from, how good it is, where it ends."""

import json
from pathlib import Path
from typing import Any

from painter.interviewer import Interviewer
from painter.painter import Painter
from store import params
from store.errors import ChatPainterError

METRICS = Path("runs/evaluate/metrics.json")

_HEARS = {
    "none": "the caption alone (StackGAN)",
    "collapsed": "the caption and the dialogue collapsed into one string (the paper's non-recurrent encoder)",
    "recurrent": "the caption and the dialogue turn by turn (the paper's recurrent encoder)",
}
_LICENCES = {
    "sample": "The sample world is made by a program of this project; nothing in it is anybody else's.",
    "coco": (
        "COCO's annotations and VisDial's dialogues are CC BY 4.0; COCO's images keep the Flickr licences of their "
        "photographers, some of which forbid commercial use. Whether that binds a model trained on them is for you to "
        "judge."
    ),
}


def write(painter: Painter, run: Path, metrics: Path | None, found: Interviewer | None, onnx: dict[str, float]) -> str:
    """The card in Markdown.

    Raises:
        ChatPainterError: `metrics` was named but cannot be read.
    """
    settings = painter.generator.settings
    model = settings["model"]
    count = sum(parameter.numel() for parameter in painter.generator.parameters())
    seen = settings.get("images_seen")
    data, licence = _data(settings, run)
    lines = [
        "# A ChatPainter model",
        "",
        f"Paints {painter.size} × {painter.size} pictures; hears {_HEARS[model['dialogue']]}. "
        "[ChatPainter](https://arxiv.org/abs/1802.08216) (Sharma et al., 2018).",
        "",
        "```",
        'chatpainter-paint --run THIS-FOLDER "a caption" --ask "a question" --answer "its answer" -o picture.png',
        "chatpainter-paint serve --run THIS-FOLDER",
        "```",
        "```python",
        "from painter import Painter",
        'pictures = Painter.from_run("THIS-FOLDER").paint("a caption", [("a question", "its answer")], n=4, seed=7)',
        "```",
        "",
        "## Generator",
        "",
        "| | |",
        "|---|---|",
        f"| paints | {', '.join(f'{name} {side} × {side}' for side, name in painter.generator.names.items())} |",
        f"| parameters | {count:,} |",
        f"| pictures seen in its last training | {f'{seen:,}' if seen else 'not recorded'} |",
        *(f"| {name} | {value} |" for name, value in sorted(model.items())),
        "",
        "Weights are the exponential moving average of training. settings.json holds all that built it.",
        "",
        "## Data",
        "",
        data,
        "",
        "## Text encoders",
        "",
        *_encoders(painter),
        "## Metrics",
        "",
        *_metrics(metrics),
        "## Files",
        "",
        "- `generator.safetensors`: the generator; `settings.json`: what built it",
        "- `encoders/`: the text encoders' weights, or `SHA256SUMS` of those that you must put there",
    ]
    if found is not None:
        lines.append(
            f"- `interviewer.json`: {len(found.questions)} questions with their commonest answers, for the chat page; "
            "they are texts of the dialogue corpus"
        )
    lines += [
        f"- `{name}`: the same network for ONNX Runtime, text vectors and noise in, pictures in [-1, 1] out "
        f"(largest difference to torch {difference:.1e})"
        for name, difference in onnx.items()
    ]
    lines += [
        "",
        "## Limits",
        "",
        "- It paints what its corpus shows, in the words of its corpus. Words that its encoders do not know are said "
        "when painting, and mean nothing to it.",
        "- It was trained on whole dialogues; pictures from fewer rounds, or from many more, are guesses.",
        "- Pictures of people, and what they do or look like, repeat the habits of the corpus, not facts.",
    ]
    if not painter.text_trained:
        lines.append(
            "- **Its text encoders are untrained**: their vectors tell texts apart and carry no knowledge of language. "
            "Synonyms are strangers to it."
        )
    lines += ["", "## Licence", "", f"The code is MIT. {licence}", ""]
    return "\n".join(lines)


def _data(settings: dict[str, Any], run: Path) -> tuple[str, str]:
    config = _json((run if run.is_dir() else run.parent) / "config.json") or {}
    dataset = "not recorded"
    if Path("params.yaml").is_file():
        dataset = str(params.load().get("dataset", dataset))
    licence = _LICENCES.get("sample" if dataset == "sample" else "coco" if "coco" in dataset else "", "")
    split = config.get("split", "not recorded")
    stores = ", ".join(sorted(settings["stores"]))
    return f"Dataset: {dataset}; split: {split}; text stores: {stores}.", licence or "See the terms of its data."


def _encoders(painter: Painter) -> list[str]:
    lines = []
    for name, store in sorted(painter.generator.settings["stores"].items()):
        encoder = dict(store["encoder"])
        weights = encoder.pop("weights", {})
        trained = "trained" if encoder.pop("trained", True) else "**untrained**"
        switches = {key: value for key, value in encoder.items() if key != "name"}
        if name != "captions":
            switches |= store.get("text", {})
        lines += [
            f"{name}: {encoder['name']}, {trained}; {', '.join(f'{key} {value}' for key, value in switches.items())}",
            "",
            *(f"- `{file}` sha256 `{digest}`" for file, digest in weights.items()),
            "",
        ]
    return lines


def _metrics(path: Path | None) -> list[str]:
    record = _json(path or METRICS)
    if record is None:
        if path is not None:
            raise ChatPainterError(f"{path}: no metrics that can be read; run chatpainter-evaluate first")
        return ["Not evaluated.", ""]
    lines = ["| | | pictures | protocol |", "|---|---|---|---|"]
    for figure in record.get("figures", []):
        lines.append(f"| {figure['name']} | {figure['value']:.4g} | {figure['pictures']:,} | {figure['protocol']} |")
    return [*lines, ""]


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
