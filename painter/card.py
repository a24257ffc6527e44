"""The model card of an exported model: what it was made from, how good it is, where it ends."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from painter.interviewer import Interviewer
from painter.painter import Painter
from store import templates
from store.errors import ChatPainterError

METRICS = Path("runs/evaluate/metrics.json")

_COCO = (
    "COCO's annotations and VisDial's dialogues are CC BY 4.0; COCO's images keep the Flickr licences of their "
    "photographers, some of which forbid commercial use. Whether that binds a model trained on them is for you "
    "to judge."
)
_LICENCES = {
    "sample": "The sample world is made by a program of this project; nothing in it is anybody else's.",
    "codraw": (
        "CoDraw's dialogues and scenes are CC BY-NC 4.0: no commercial use. Whether that binds a model trained on them "
        "is for you to judge."
    ),
    "coco": _COCO,
    "mini2014": _COCO,
}
"""By what params.yaml called the dataset when the model was trained, or the beginning of it."""
_IDENTIFIERS = {"sample": "mit", "codraw": "cc-by-nc-4.0"}
"""Licences as model hubs name them, by the beginning of the dataset's name; `other` is explained in the card."""


FigureRecord = dict[str, Any]


def write(
    painter: Painter,
    run: Path,
    figures: list[FigureRecord] | None,
    found: Interviewer | None,
    onnx: dict[str, float],
    moved: tuple[float, int] | None = None,
) -> str:
    """The card in Markdown.

    Args:
        figures: as `figures` gives them; None of a model that was not evaluated.
        onnx: largest difference to torch of each ONNX file.
        moved: how far float16 weights move pixels, the mean and the most, of 255; None of float32 weights.
    """
    generator = painter.generator
    settings, config = generator.settings, _json((run if run.is_dir() else run.parent) / "config.json") or {}
    dataset = settings.get("dataset") or config.get("dataset")
    model = settings.get("model")
    return (
        templates.environment(Path(__file__).parent, _plain)
        .get_template("card.md.jinja")
        .render(
            front=_front_matter(painter, dataset, figures or []),
            size=painter.size,
            reads=[one.called for one in generator.inputs],
            names=generator.names,
            parameters=sum(parameter.numel() for parameter in generator.parameters()),
            images_seen=settings.get("images_seen"),
            model=model if isinstance(model, dict) else {},
            dataset=dataset or "not recorded",
            split=config.get("split") or "not recorded",
            stores=list(settings["stores"]),
            encoders={name: _encoder(name, store) for name, store in sorted(settings["stores"].items())},
            figures=figures,
            questions=None if found is None else len(found.questions),
            onnx=onnx,
            moved=moved,
            text_trained=painter.text_trained,
            licence=_licence(dataset),
        )
    )


def _front_matter(painter: Painter, dataset: Any, figures: list[FigureRecord]) -> Markup:
    """What model hubs read: licence, tags, and the figures of the largest pictures, as YAML."""
    # On one line, so that nothing that others wrote can end the block.
    called = " ".join(str(dataset or "not recorded").split())[:100]
    licence = next((name for start, name in _IDENTIFIERS.items() if called.lower().startswith(start)), "other")
    largest = f"{painter.generator.names[painter.size]}_"
    metrics = [
        {"type": one["name"].removeprefix(largest), "value": one["value"], "name": one["name"]}
        for one in figures
        if one["name"].startswith(largest)
    ]
    values: dict[str, Any] = {
        "license": licence,
        "library_name": "chatpainter",
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", "dialogue", "gan"],
    }
    if metrics:
        result = {
            "task": {"type": "text-to-image"},
            "dataset": {"name": called, "type": called},
            "metrics": metrics,
        }
        values["model-index"] = [{"name": "ChatPainter", "results": [result]}]
    return Markup(yaml.safe_dump(values, sort_keys=False, width=10_000))


def _licence(dataset: Any) -> str:
    if not dataset:
        return "What it was trained on is not recorded; its data may have terms of their own."
    name = str(dataset).lower()
    return next((words for start, words in _LICENCES.items() if name.startswith(start)), "See the terms of its data.")


def _encoder(name: str, store: dict[str, Any]) -> dict[str, Any]:
    identity = dict(store["encoder"])
    weights, trained = identity.pop("weights", {}), identity.pop("trained", True)
    switches = {key: value for key, value in identity.items() if key != "name"}
    if name != "captions":
        switches |= store.get("text", {})
    return {"name": identity["name"], "trained": trained, "weights": weights, "switches": switches}


def figures(path: Path | None, generator: str | None = None) -> list[FigureRecord] | None:
    """Name, value, number of pictures and protocol of each figure that chatpainter-evaluate wrote.

    Args:
        path: None for where it writes by default; there may be none, or one of another generator, which is passed over.
        generator: sha256 of the file that is described.

    Raises:
        ChatPainterError: it was named, or is there, but cannot be read; or it was named and is of another generator.
    """
    record = _json(path or METRICS)
    if record is None and path is None:
        return None
    if record is not None and generator is not None and not _is_of(record, generator):
        if path is None:
            return None
        raise ChatPainterError(f"{path}: figures of another generator; evaluate this one with chatpainter-evaluate")
    try:
        return [
            {"name": str(one["name"]), "value": float(one["value"]), "pictures": int(one["pictures"]),
             "protocol": str(one["protocol"])}
            for one in (record or {})["figures"]
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ChatPainterError(
            f"{path or METRICS}: no metrics that can be read; run chatpainter-evaluate first"
        ) from None


def _is_of(record: dict[str, Any], generator: str) -> bool:
    """Whether these are figures of a generator; those of before said not of which."""
    evaluated = record.get("evaluated")
    if not isinstance(evaluated, list):
        return True
    return any(isinstance(one, dict) and one.get("sha256") == generator for one in evaluated)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _plain(value: Any) -> Markup:
    """A value as words in Markdown: settings come from a file that anybody may have written."""
    if isinstance(value, Markup):
        return value
    words = " ".join(str(value)[:500].split())
    return Markup(re.sub(r"[\\`*<>|\[\]]", lambda match: f"&#{ord(match[0])};", words))
