"""How long people wait for a picture: the first one of a fresh process, and every repaint of a growing dialogue.

    python -m benchmarks.paint --run runs/stage2            # prints a table, writes benchmarks/results/paint.json

A warm start: the files lie in the page cache, Python and torch are loaded anew each time. A repaint is what the chat
page does after an answer: one new round is encoded, all variations are painted.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from store import machine

RESULTS = Path(__file__).parent / "results" / "paint.json"
CAPTION = "there are three shapes in the picture"
QUESTIONS = [f"what is at the {place}" for place in ("top left", "top right", "bottom left", "bottom right", "middle")]

FIRST = """
import time
started = time.perf_counter()
from painter import Painter
painter = Painter.from_run({run!r}, weights={weights!r}, device={device!r})
loaded = time.perf_counter()
painter.paint({caption!r})
print(loaded - started, time.perf_counter() - loaded)
"""


@click.command()
@click.option("--run", default="runs/stage2", show_default=True, help="A run's or exported model's folder.")
@click.option("--weights", help="Folder of the encoders' weights, as for chatpainter-paint.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--starts", default=5, show_default=True, help="Fresh processes.")
@click.option("--out", default=RESULTS, show_default=True, type=click.Path(path_type=Path))
def main(run: str, weights: str | None, device: str, starts: int, out: Path) -> None:
    """Measure and write JSON."""
    result: dict[str, Any] = {"run": run, "seconds": {}}
    seconds = result["seconds"]
    code = FIRST.format(run=run, weights=weights, device=device, caption=CAPTION)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)  # fills the page cache
    times = []
    for _ in range(starts):
        started = time.perf_counter()
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        whole = time.perf_counter() - started
        times.append((whole, *map(float, said.split())))
    for place, name in enumerate(("first picture, from the command on", "  of it: load", "  of it: first painting")):
        seconds[name] = statistics.median(values[place] for values in times)

    from painter import Painter

    painter = Painter.from_run(run, weights=weights, device=device)
    result["generator"] = painter.about
    for n in (1, 4):
        painter.paint(CAPTION, n=n)
        rounds: list[tuple[str, str]] = []
        repaints = []
        for number in range(20):
            rounds.append((QUESTIONS[number % 5], f"a red circle number {number} of {n}"))
            started = time.perf_counter()
            painter.paint(CAPTION, rounds[-10:], n=n)
            repaints.append(time.perf_counter() - started)
        seconds[f"repaint after an answer, {n} picture{'s' if n > 1 else ''}"] = statistics.median(repaints)
        seconds[f"  the slowest of 20, {n} picture{'s' if n > 1 else ''}"] = max(repaints)

    print(f"{painter.about}, {device}")
    for name, value in seconds.items():
        print(f"{name:40s} {value:7.3f} s")
    result["machine"] = machine.describe()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
