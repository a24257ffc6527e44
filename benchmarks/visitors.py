"""The chat page in company: visitors who type, answer, take back, reload and come back after their session expired.

    python -m benchmarks.visitors                 # prints a table, writes benchmarks/results/visitors.json

Starts the page on 127.0.0.1, in this process, with a painter that paints nothing but its words: every picture is a
function of them, so that a lost or a foreign word shows. `--run` takes a real generator instead, and compares with
what it paints for the same words outside the page. Everything is bounded: visitors, turns, and `--seconds` in all.
"""

import base64
import html
import io
import json
import re
import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np

from store import machine

RESULTS = Path(__file__).parent / "results" / "visitors.json"
NOISES = 4


class Spelling:
    """A painter whose pictures are a function of the words, seed and truncation, and of nothing else."""

    about, text_trained, listens, size = "64 × 64", True, False, 64

    def paint(
        self, caption: str, rounds: Sequence[tuple[str, str]], n: int = 1, seed: int = 0, truncation: float = 1.0
    ) -> np.ndarray:
        words = repr((caption, tuple(rounds), seed, float(truncation))).encode()
        return np.random.default_rng(list(words)).integers(0, 256, (n, 64, 64, 3)).astype(np.uint8)

    def attention(self, *_: Any) -> list[Any]:
        return []

    def read(self, dialogue: Any) -> Any:
        from painter.encoding import Notes

        return Notes([], False)


@dataclass
class Counts:
    """What happened to all visitors of one case."""

    asked: int = 0
    right: int = 0
    other_words: int = 0
    """A picture that is not of this visitor's words: lost or mixed."""
    refused: int = 0
    """Told so at once (the queue was full); the visitor tries again."""
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self) -> dict[str, Any]:
        ordered = sorted(self.seconds) or [0.0]
        return {
            "asked": self.asked, "right": self.right, "other_words": self.other_words, "refused_at_once": self.refused,
            "median_s": round(statistics.median(ordered), 3), "slowest_s": round(ordered[-1], 3),
        }  # fmt: skip


class Visitor:
    """What a browser sends for one visitor, and what its tab remembers."""

    def __init__(self, address: str, config: dict[str, Any], painter: Any, counts: Counts, until: float):
        self.client = httpx.Client(base_url=address, timeout=60, trust_env=False)
        self.ids = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
        self.acts = {tuple(target): d["id"] for d in config["dependencies"] for target in d["targets"]}
        self.outputs = {d["id"]: d["outputs"] for d in config["dependencies"]}
        self.painter, self.counts, self.until = painter, counts, until
        self.caption, self.rounds, self.seed, self.remembered = "", [], 0, ""  # type: ignore[var-annotated]
        self.load()

    def load(self) -> None:
        """The tab is loaded (again); to the server it is another visitor, as it is after an expired session."""
        self.session = uuid.uuid4().hex

    def begin(self, caption: str) -> None:
        self.caption, self.rounds = caption, []
        self._act("cp-caption", "submit", caption)

    def answer(self, question: str, answer: str) -> None:
        self.rounds.append((question, answer))
        self._act("cp-answer", "submit", question, answer)

    def undo(self) -> None:
        self.rounds.pop()
        self._act("cp-undo", "click")

    def other_noise(self) -> None:
        self.seed += 1
        self._act("cp-dice", "click", self.seed - 1, 1)

    def restore(self) -> None:
        self._act("cp-view", "restore")

    def _act(self, element: str, event: str, *fields: Any) -> None:
        number = self.acts[self.ids[element], event]
        started = time.perf_counter()
        sent = {"data": [None, *fields, self.remembered], "fn_index": number, "session_hash": self.session}
        while (answer := self.client.post("/gradio_api/queue/join", json=sent)).status_code == 503:
            with self.counts.lock:
                self.counts.refused += 1
            if time.monotonic() > self.until:
                raise TimeoutError("the time of this benchmark is over")
            time.sleep(0.2)
        answer.raise_for_status()
        view = self._view(number)
        remembered = re.search(r'data-remembered="([^"]*)"', view)
        picture = re.search(r'id="cp-picture" src="data:image/png;base64,([^"]+)"', view)
        self.remembered = html.unescape(remembered[1]) if remembered else ""
        expected = self.painter.paint(self.caption, self.rounds, NOISES, self.seed)[0]
        with self.counts.lock:
            self.counts.asked += 1
            self.counts.seconds.append(time.perf_counter() - started)
            if picture is not None and _equal(picture[1], expected):
                self.counts.right += 1
            else:
                self.counts.other_words += 1

    def _view(self, number: int) -> str:
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as events:
            for line in events.iter_lines():
                if time.monotonic() > self.until:
                    raise TimeoutError("the time of this benchmark is over")
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "process_completed" and message["success"]:
                    return str(message["output"]["data"][self.outputs[number].index(self.ids["cp-view"])])
        return ""


def _equal(png: str, expected: np.ndarray) -> bool:
    from PIL import Image

    return bool((np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) == expected).all())


def visit(visitor: Visitor, number: int, turns: int) -> None:
    """One visitor: a caption, `turns` answers; now and then an undo, another noise, a reload, an expired session."""
    visitor.begin(f"visitor {number} sees a red circle")
    for turn in range(turns):
        visitor.answer(f"what is at place {turn}", f"thing {number * turn} of “{number}”")
        if turn % 5 == 2:
            visitor.undo()
        if turn % 7 == 3:
            visitor.other_noise()
        if turn % 4 == 1:
            visitor.load()
            visitor.restore()
        elif turn % 4 == 3:
            visitor.load()  # and the next answer comes unannounced: the session expired


@click.command()
@click.option("--visitors", "many", multiple=True, type=click.IntRange(1, 100), default=(10, 30), show_default=True)
@click.option("--turns", default=8, show_default=True, type=click.IntRange(1, 50), help="Answers of each visitor.")
@click.option("--long", "long_turns", default=500, show_default=True, type=click.IntRange(1, 500),
              help="Answers of one more visitor, alone.")  # fmt: skip
@click.option("--direct", default=100, show_default=True, type=click.IntRange(1, 500), help="Calls round the queue.")
@click.option("--seconds", default=600, show_default=True, type=click.IntRange(10, 3600), help="For everything.")
@click.option("--run", help="A run's or exported model's folder: a real generator.")
@click.option("--weights", help="Folder of its encoders' weights, as for chatpainter-paint.")
@click.option("--out", default=RESULTS, show_default=True, type=click.Path(path_type=Path))
def main(
    many: tuple[int, ...], turns: int, long_turns: int, direct: int, seconds: int, run: str | None,
    weights: str | None, out: Path,
) -> None:  # fmt: skip
    """Measure, print a table and write JSON."""
    from painter import page
    from painter.studio import Studio

    painter: Any = Spelling()
    if run:
        from painter import Painter

        painter = Painter.from_run(run, weights=weights)
    until = time.monotonic() + seconds
    address, app = page.launch(page.build(Studio.of(painter)), wait=False)
    cases: dict[str, Any] = {}
    try:
        config = httpx.get(f"{address}config", trust_env=False).json()

        def case(visitors: int, turns: int) -> dict[str, Any]:
            counts, started = Counts(), time.perf_counter()

            def one(number: int) -> None:
                visit(Visitor(address, config, painter, counts, until), number, turns)

            with ThreadPoolExecutor(visitors) as pool:
                list(pool.map(one, range(visitors)))
            return counts.record() | {"all_s": round(time.perf_counter() - started, 1)}

        for visitors in many:
            cases[f"{visitors} visitors, {turns} answers each"] = case(visitors, turns)
        cases[f"1 visitor, {long_turns} answers"] = case(1, long_turns)
        cases[f"{direct} direct calls at once, and a visitor"] = _direct(address, direct) | case(1, 1)
    finally:
        app.close()
    for name, record in cases.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in record.items()))
    result = {"machine": machine.describe(), "painter": painter.about if run else "words only", "cases": cases}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _direct(address: str, calls: int) -> dict[str, Any]:
    """Calls that walk round the queue, all at once: how they are answered."""

    def call(_: int) -> int:
        sent = {"data": [None, "a red circle", ""]}
        return httpx.post(f"{address}gradio_api/run/paint", json=sent, timeout=60, trust_env=False).status_code

    with ThreadPoolExecutor(calls) as pool:
        found = list(pool.map(call, range(calls)))
    return {f"answered_{status}": found.count(status) for status in sorted(set(found))}


if __name__ == "__main__":
    main()
