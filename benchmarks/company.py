"""Stage 1 of `tiny`, alone and beside one other busy process, as torch's threads come and as store/company.py has them.

    python -m benchmarks.company                  # under four minutes; prints a table, writes results/company.json

All ways take turns within one process, in short pieces; the table holds medians. The company is a process that counts.
How busy the machine was with anybody else stands beside the figures: above a tenth of a core they mean little.
"""

import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import psutil
import torch

from benchmarks.train_step import Case, our_step, ours
from store import company, machine, openmp
from trainer.logs.statistics import Statistics

BARS = {"alone": 0.95, "in_company": 0.45}  # considerate against torch's default alone
SETTLE = 1.5  # seconds until company has been noticed
QUIET = 0.1  # cores
STEPS = 8  # before company comes, while it stays, and after it left: for the comparison of bits


@contextlib.contextmanager
def held() -> Iterator[None]:
    """The idle team always there: what it costs alone never to spin for long."""
    teams = openmp.teams()
    for team in teams:
        team.hold()
    yield
    for team in teams:
        team.release()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Nobody to wait for; sums end in other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


WAYS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "default": contextlib.nullcontext,
    "considerate": company.considerate,
    "always held": held,
    "one thread": one_thread,
}


@contextlib.contextmanager
def busy() -> Iterator[psutil.Process]:
    """Another process that wants a core."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def piece(once: Callable[[], None], batch: int, seconds: float, other: psutil.Process | None) -> dict[str, float]:
    """Pictures a second over about so many seconds, and the cores that the other process and anybody else had."""
    load, theirs = company.Load(), _processor_seconds(other)
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < seconds:
        once()
        count += 1
    lasted = time.perf_counter() - began
    shared = (_processor_seconds(other) - theirs) / lasted
    return {"img_per_s": count * batch / lasted, "company": shared, "anybody": max(0.0, load.others() - shared)}


def _processor_seconds(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(case: Case, rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Way → alone or in company → medians over the rounds."""
    once = our_step(case)
    for _ in range(5):
        once()
    pieces: dict[str, dict[str, list[dict[str, float]]]] = {way: {"alone": [], "in_company": []} for way in WAYS}
    for turn in range(rounds):
        order = list(WAYS)[turn % len(WAYS) :] + list(WAYS)[: turn % len(WAYS)]
        for where in BARS:
            with contextlib.ExitStack() as beside:
                other = beside.enter_context(busy()) if where == "in_company" else None
                for way in order:
                    with WAYS[way]():
                        if way != "default":
                            piece(once, case.batch, SETTLE, other)
                        pieces[way][where].append(piece(once, case.batch, seconds, other))
    return {
        way: {
            where: {name: statistics.median(one[name] for one in some) for name in some[0]}
            for where, some in both.items()
        }
        for way, both in pieces.items()
    }


def weights(case: Case, company_comes: bool) -> tuple[str, list[bool]]:
    """Checksum of the networks after some steps, and whether company was noticed before it came, with it, and after."""
    gan, report = ours(case, case.training), Statistics(case.device).report
    noticed = []
    with contextlib.ExitStack() as watched:
        if company_comes:
            watched.enter_context(company.considerate())
        for part in range(3):
            with busy() if company_comes and part == 1 else contextlib.nullcontext():
                began = time.perf_counter()
                for number in range(part * STEPS, (part + 1) * STEPS):
                    gan.step(case.inputs, number * case.batch, 0, report)
                while company_comes and time.perf_counter() - began < 2 * SETTLE:
                    time.sleep(0.1)  # leaves a fast machine the time to notice
                noticed.append(any(thread.name == "idle team" for thread in threading.enumerate()))
    checksum = hashlib.sha256()
    for network in gan.networks:
        for values in network.state_dict().values():
            checksum.update(values.numpy().tobytes())
    return checksum.hexdigest(), noticed


def judge(found: dict[str, dict[str, dict[str, float]]], same: bool) -> dict[str, Any]:
    """Each bar: what was reached, and whether it holds."""
    before = found["default"]["alone"]["img_per_s"]
    shares = {where: found["considerate"][where]["img_per_s"] / before for where in BARS}
    judged: dict[str, Any] = {
        where: {"share": share, "bar": BARS[where], "holds": share >= BARS[where]} for where, share in shares.items()
    }
    judged["same_bits"] = {"holds": same}
    return judged


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=5, help="Turns that each way gets.")
@click.option("--seconds", default=3.0, help="Of a turn, alone and in company each.")
@click.option("--smoke", is_flag=True, help="One short turn and no file: that it runs, not how fast.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results" / "company.json")
def main(rounds: int, seconds: float, smoke: bool, out: Path) -> None:
    """Measure, and say whether the bars hold; see the module's first lines."""
    if decided := [name for name in (*company.DECIDED, "OMP_NUM_THREADS") if name in os.environ]:
        raise click.UsageError(f"{', '.join(decided)}: unset; it decides what is to be measured")
    about = machine.describe()
    case = Case("tiny:1:16" if smoke else "tiny:1:64", torch.device("cpu"), "recurrent")
    found = measure(case, *(1, 0.1) if smoke else (rounds, seconds))
    print(f"stage 1, {case.name}, recurrent, pictures a second{'alone':>16}{'in company':>12}   cores of the company")
    for way, both in found.items():
        alone, beside = both["alone"], both["in_company"]
        print(f"  {way:46} {alone['img_per_s']:14.0f} {beside['img_per_s']:11.0f} {beside['company']:22.2f}")
    (quiet, _), (disturbed, noticed) = weights(case, False), weights(case, True)
    judged = judge(found, quiet == disturbed and noticed[1])
    for where in BARS:
        one = judged[where]
        print(f"{where}: {one['share']:.0%} of the default alone, bar {one['bar']:.0%}: {_word(one['holds'])}")
    print(f"same bits, company noticed before, with and after it {noticed}: {_word(judged['same_bits']['holds'])}")
    anybody = max(piece["anybody"] for both in found.values() for piece in both.values())
    void = "" if anybody < QUIET else ": too many, measure again on a quiet machine"
    print(f"cores that anybody else had: {anybody:.2f}{void}")
    if not smoke:
        record = {"machine": about, "case": case.name, "rounds": rounds, "seconds": seconds, "anybody": anybody}
        out.write_text(json.dumps(record | {"ways": found, "bars": judged}, indent=1) + "\n", encoding="utf-8")


def _word(holds: bool) -> str:
    return "holds" if holds else "MISSED"


if __name__ == "__main__":
    main()
