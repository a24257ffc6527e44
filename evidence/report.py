"""What the finished trainings show: JSON with everything, a CSV of all points, Markdown tables, curves, pictures."""

import csv
import json
import platform
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evidence import statistics
from evidence.profile import Job, Profile
from store.files import replacing
from trainer.metrics.figures import write_table

# Columns of the table, where the world has them.
SHOWN = {
    "stage1_colour_accuracy": "colour accuracy",
    "stage1_object_f1": "object F1",
    "stage1_ground_accuracy": "ground accuracy",
    "stage1_rsim": "rsim",
    "stage1_classifier_shape_accuracy": "shape accuracy",
    "stage1_classifier_size_accuracy": "size accuracy",
    "stage1_classifier_presence_f1": "presence F1 (classifier)",
    "stage1_domain_is": "IS (domain)",
    "stage1_domain_fid": "FID (domain)",
    "stage1_domain_kid": "KID (domain)",
    "stage1_domain_r_precision": "R-precision (domain)",
}
PICTURES = 8  # texts in the picture of all arms
PROBES = ("own", "shuffled", "reversed")
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")

Points = dict[int, dict[str, float]]


def write(out: Path, name: str, plan: Profile, work: Path, jobs: list[Job]) -> list[Path]:
    """Write OUT/NAME.json, .csv, .md, and .png and -pictures.png where matplotlib and pictures are there."""
    out.mkdir(parents=True, exist_ok=True)
    results = {job.name: points(work, job) for job in jobs}
    arms = [job for job in jobs if job.change is None]
    compared = comparisons(plan, work, arms, results)
    record = {
        "title": plan.title,
        "profile": asdict(plan),
        "machine": machine(),
        "trainings": [
            {
                "name": job.name,
                "arm": job.arm,
                "without": job.change,
                "seed": job.seed,
                "seconds": json.loads((work / "trainings" / job.name / "result.json").read_text())["seconds"],
                "points": results[job.name],
                "parameters": {"model": job.params.get("model"), "stage1": job.params.get("stage1")},
            }
            for job in jobs
        ],
        "comparisons": compared,
    }
    written = [out / f"{name}.json", out / f"{name}.csv", out / f"{name}.md"]
    _text(written[0], json.dumps(record, indent=1) + "\n")
    rows = [
        (job.arm, job.change or "", job.seed, seen, figure, value)
        for job in jobs
        for seen, figures in results[job.name].items()
        for figure, value in figures.items()
    ]
    write_table(written[1], ("arm", "without", "seed", "images_seen", "figure", "value"), rows)
    _text(written[2], markdown(plan, jobs, results, compared))
    for path, draw in ((out / f"{name}.png", curves), (out / f"{name}-pictures.png", pictures)):
        if draw(path, plan, work, jobs, results):
            written.append(path)
    return written


def points(work: Path, job: Job) -> Points:
    """Every number of every evaluated point of a training."""
    found: Points = {}
    for seen in job.points:
        path = work / "trainings" / job.name / f"{seen:09d}" / "metrics.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        found[seen] = {figure["name"]: figure["value"] for figure in values["figures"]}
    return found


def comparisons(plan: Profile, work: Path, arms: list[Job], results: dict[str, Points]) -> list[dict[str, Any]]:
    """Every pair of arms at the last point: over the seeds that both have, and over scenes."""
    made = []
    last = plan.points[-1]
    for first, second in plan.compare:
        seeds = sorted({job.seed for job in arms if job.arm == first} & {job.seed for job in arms if job.arm == second})
        if not seeds:
            continue
        a, b = ([results[f"{arm}-{seed}"][last][plan.score] for seed in seeds] for arm in (first, second))
        scenes = [
            np.mean([per_scene(work / "trainings" / f"{arm}-{seed}" / f"{last:09d}") for seed in seeds], axis=0)
            for arm in (first, second)
        ]
        made.append(
            {
                "a": first,
                "b": second,
                "score": plan.score,
                "images_seen": last,
                "seeds": seeds,
                "values_a": a,
                "values_b": b,
                "over_seeds": statistics.over_seeds(a, b).as_dict(),
                "over_scenes": statistics.over_scenes(scenes[0], scenes[1]).as_dict(),
            }
        )
    return made


def per_scene(folder: Path) -> np.ndarray:
    """(scenes,) of pictures_SPLIT.csv: the share of its objects painted in their colours (or present)."""
    path = next(folder.glob("pictures_*.csv"))
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = "stage1_colours_right" if "stage1_colours_right" in rows[0] else "stage1_present_right"
    return np.array([int(row[right]) / max(1, int(row["objects"])) for row in rows])


def markdown(plan: Profile, jobs: list[Job], results: dict[str, Points], compared: list[dict[str, Any]]) -> str:
    """The tables, ready to be read or included."""
    by_arm: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_arm[job.arm if job.change is None else f"without {job.change}"].append(job)
    last = plan.points[-1]
    any_figures = next(iter(results.values()))[jobs[0].points[-1]]
    shown = {name: label for name, label in SHOWN.items() if name in any_figures}
    lines = [f"### {plan.title}", "", f"After {last:,} pictures seen; mean ± sd over seeds.", ""]
    lines += _table(
        ["arm", "seeds", *shown.values()],
        [
            [arm, str(len(runs)), *(_spread([results[job.name][last][figure] for job in runs]) for figure in shown)]
            for arm, runs in by_arm.items()
            if runs[0].change is None
        ],
    )
    ceilings = [
        f"{label}: {told} {any_figures[_ceiling(name, told)]:.3f}"
        for name, label in shown.items()
        for told in ("chance", "caption")
        if _ceiling(name, told) in any_figures
    ]
    if ceilings:
        lines += ["", "The best that chance and a caption alone allow, computed: " + "; ".join(ceilings) + "."]
    lines += ["", f"{SHOWN.get(plan.score, plan.score)} over training, mean ± sd:", ""]
    lines += _table(
        ["arm", *(f"{point:,}" for point in plan.points)],
        [
            [arm, *(_spread([results[job.name][point][plan.score] for job in runs]) for point in plan.points)]
            for arm, runs in by_arm.items()
            if runs[0].change is None
        ],
    )
    if compared:
        lines += ["", f"Paired tests of {SHOWN.get(plan.score, plan.score)} at {last:,}:", ""]
        rows = []
        for entry in compared:
            seeds, scenes = entry["over_seeds"], entry["over_scenes"]
            p_t = "-" if seeds["p_t"] is None else _p(seeds["p_t"])
            rows.append(
                [
                    f"{entry['a']} − {entry['b']}",
                    f"{seeds['difference']:+.3f}",
                    str(seeds["pairs"]),
                    _interval(seeds),
                    p_t,
                    _p(seeds["p_sign_flip"]),
                    _interval(scenes),
                    _p(scenes["p_sign_flip"]),
                ]
            )
        lines += _table(
            ["arms", "difference", "seeds", "95 % (seeds, t)", "p (t)", "p (exact sign flips)",
             "95 % (scenes, bootstrap)", "p (scenes, sign flips)"],
            rows,
        )  # fmt: skip
        lines += ["", f"With n seeds the exact test cannot give less than 2/2^n ({_p(2 / 2 ** len(plan.seeds))} here)."]
    lines += probes(plan, by_arm, results)
    lines += ablations(plan, by_arm, results)
    return "\n".join(lines) + "\n"


def probes(plan: Profile, by_arm: dict[str, list[Job]], results: dict[str, Points]) -> list[str]:
    """Is the dialogue used? The score when it is another image's, reversed, or cut short."""
    last, score = plan.points[-1], plan.score.removeprefix("stage1_").removeprefix("classifier_")
    rows, curves_rows = [], []
    for arm, runs in by_arm.items():
        figures = [results[job.name][last] for job in runs if job.change is None]
        found = [[f.get(f"stage1_{probe}_{score}") for f in figures] for probe in PROBES]
        if not figures or not any(value is not None for value in found[1]):
            continue
        rows.append(
            [
                arm,
                *("-" if None in values else _spread([float(v) for v in values if v is not None]) for values in found),
            ]
        )
        curve = {}
        for name in figures[0]:
            if name.startswith("stage1_own_") and name.endswith(f"_rounds_{score}"):
                curve[int(name.split("_")[2])] = _spread([f[name] for f in figures])
        if curve:
            curves_rows.append((arm, curve))
    if not rows:
        return []
    lines = ["", f"Is the dialogue used? {SHOWN.get(plan.score, plan.score)} at {last:,}:", ""]
    lines += _table(["arm", "own dialogue", "another image's", "rounds reversed"], rows)
    for arm, curve in curves_rows:
        lines += ["", f"{arm}, given only the first rounds (never trained on fewer than all):", ""]
        lines += _table(["rounds", *map(str, curve)], [["score", *curve.values()]])
    return lines


def ablations(plan: Profile, by_arm: dict[str, list[Job]], results: dict[str, Points]) -> list[str]:
    """Each part of the recipe taken back to the published one alone."""
    changed = {arm: runs for arm, runs in by_arm.items() if runs[0].change is not None}
    if not changed:
        return []
    at = plan.ablations.points or plan.points
    whole = [job for job in by_arm.get(plan.ablations.arm, []) if job.seed in plan.ablations.seeds]
    lines = ["", f"One change at a time ({plan.ablations.arm}), {SHOWN.get(plan.score, plan.score)}:", ""]
    rows = []
    for arm, runs in [*([("the recipe", whole)] if whole else []), *changed.items()]:
        cells = []
        for point in at:
            values = [results[job.name][point][plan.score] for job in runs if point in results[job.name]]
            cells.append(_spread(values) if values else "-")
        rows.append([arm, str(len(runs)), *cells])
    return [*lines, *_table(["recipe", "seeds", *(f"{point:,}" for point in at)], rows)]


def curves(path: Path, plan: Profile, work: Path, jobs: list[Job], results: dict[str, Points]) -> bool:
    """The score over pictures seen, one line an arm with its seeds' spread, and the ceilings."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    by_arm: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.change is None:
            by_arm[job.arm].append(job)
    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=150)
    for (arm, runs), colour in zip(by_arm.items(), COLOURS):
        seen = np.array(plan.points) / 1000
        values = np.array([[results[job.name][point][plan.score] for point in plan.points] for job in runs])
        label = f"{arm} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
        axes.plot(seen, values.mean(axis=0), marker="o", color=colour, label=label)
        for row in values:
            axes.plot(seen, row, color=colour, alpha=0.25, linewidth=1)
    any_figures = next(iter(results.values()))[jobs[0].points[-1]]
    for told, style in (("caption", "--"), ("chance", ":")):
        ceiling = any_figures.get(_ceiling(plan.score, told))
        if ceiling is not None:
            axes.axhline(ceiling, color="#777777", linestyle=style, linewidth=1, label=f"{told} ceiling {ceiling:.3f}")
    axes.set_xlabel("thousand pictures seen")
    axes.set_ylabel(SHOWN.get(plan.score, plan.score))
    axes.set_title(plan.title, fontsize=10)
    axes.grid(alpha=0.2)
    axes.legend(fontsize=8)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    pyplot.close(figure)
    return True


def pictures(
    path: Path, plan: Profile, work: Path, jobs: list[Job], results: dict[str, Points], count: int = 8
) -> bool:
    """The same held-out texts painted by every arm's first seed, below the real pictures: without and with dialogue."""
    from store import params
    from trainer.evaluate import EvaluateSettings
    from trainer.generator import Generator
    from trainer.grids import write_grid
    from trainer.metrics.held_out import Condition, HeldOut, paint

    first: dict[str, Job] = {}
    for job in jobs:
        if job.change is None:
            first.setdefault(job.arm, job)
    rows: list[np.ndarray] = []
    labels: list[str] = []
    words: list[list[str]] = []
    for arm, job in first.items():
        file = work / "trainings" / job.name / "run" / "generator.safetensors"
        if not file.exists():
            return False
        settings = params.section(job.params, "evaluate", EvaluateSettings)
        generator = Generator.load(file)
        held_out = HeldOut(
            work / "data/embeddings" / settings.split,
            work / "data/images" / settings.split,
            generator.dialogue,
            generator.sizes,
            settings.seed,
        )
        images = np.arange(min(PICTURES, len(held_out)))
        if not rows:
            rows.append(held_out.real(images, generator.model.size))
            labels.append("real")
        painted = paint(generator, held_out, images, Condition(), settings.condition == "sample")
        rows.append(painted[generator.model.size])
        labels.append(arm)
        captions, rounds = held_out.all_words(images)
        if any(rounds) or not words:
            words = [[caption, *said] for caption, said in zip(captions, rounds)]
    write_grid(rows, path, below=words, left=labels)
    return True


def machine() -> dict[str, str]:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"device": device, "torch": torch.__version__, "python": platform.python_version()}


def _ceiling(figure: str, told: str) -> str:
    """The name of the figure that says how well one can do at `figure` who was told so much."""
    return f"{told}_ceiling_{figure.removeprefix('stage1_').removeprefix('classifier_')}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]


def _spread(values: list[float]) -> str:
    mean, deviation = statistics.mean_and_sd(values)
    digits = 3 if abs(mean) < 10 else 1
    return f"{mean:.{digits}f}" if len(values) == 1 else f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def _interval(found: dict[str, Any]) -> str:
    return "-" if found["low"] is None else f"[{found['low']:+.3f}, {found['high']:+.3f}]"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
