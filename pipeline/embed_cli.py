"""chatpainter-embed: every text of a split encoded once, into stores that training streams."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from store import devices, options, params
from store.errors import ChatPainterError

if TYPE_CHECKING:
    from pipeline.worker import EncodedShard, Lost, Runner
    from store.manifest import Manifest
    from store.parts import Part
    from store.writer import StoreWriter


# Shares above which what was encoded can hardly be what was meant.
MOST_SHARED = 0.05  # of distinct texts; of real captions and turns less than a thousandth share a vector
MOST_UNKNOWN = 0.5  # of words or bytes


@click.command(context_settings={**options.CONTEXT, "show_default": True})
@options.version_option
@click.option("--split", required=True, help="Which corpus: CORPUS/SPLIT.parquet.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["captions", "turns", "dialogues"]),
    help="What to encode; may be repeated.  [default: all that the corpus has]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes on this machine, or GPUs where encoders.device is cuda.  [default: embed.workers, all GPUs]",
)
@click.option(
    "--scheduler",
    default="local",
    metavar="ADDRESS",
    help="local: processes of our own; sync: this process alone, without dask; tcp://HOST:PORT or tls://HOST:PORT or "
    "FILE.json: a dask scheduler that runs already.",
)
@options.params_option
@options.corpus_option
@click.option("--out", type=click.Path(path_type=Path), default="data/embeddings", help="Folder of the stores.")
@click.option("--dashboard", is_flag=True, help="Serve dask's dashboard and say where.")
@click.option("--report", type=click.Path(path_type=Path), help="Write dask's performance report (HTML) here.")
@click.option("--timeout", type=click.FloatRange(1), default=3600, help="Seconds without a finished shard to give up.")
@click.option("--wait", type=click.FloatRange(1), default=60, help="Seconds to wait for a scheduler or a worker.")
@click.option("--tls-ca", type=click.Path(exists=True), help="Certificate authority of a tls:// scheduler.")
@click.option("--tls-cert", type=click.Path(exists=True), help="This client's certificate.")
@click.option("--tls-key", type=click.Path(exists=True), help="This client's private key.")
@click.option(
    "--encoders",
    "factory",
    default="pipeline.encoders",
    metavar="MODULE",
    help="A Python module with build(kind, settings) and identity(kind, settings): your own encoders.",
)
@click.option(
    "--part",
    metavar="I/N",
    help="Make every Nth shard alone, from the Ith: a share for one of N hosts, or of N jobs. Then, once: --finish.",
)
@click.option("--finish", is_flag=True, help="Encode nothing: verify what all parts made, and commit the stores.")
def main(
    split: str,
    kinds: tuple[str, ...],
    workers: int | None,
    scheduler: str,
    params_file: Path,
    corpus: Path,
    out: Path,
    dashboard: bool,
    report: Path | None,
    timeout: float,
    wait: float,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    factory: str,
    part: str | None,
    finish: bool,
) -> None:
    """Encode the captions, turns and collapsed dialogues of SPLIT into OUT/SPLIT/{captions,turns,dialogues}.

    To continue after an interruption run the same command again: finished shards are kept, the result is the same.
    """
    from pipeline.embed import EmbedRun, EmbedSettings
    from pipeline.encoders import EncoderSettings
    from pipeline.texts import TextSettings
    from store.parts import Part

    if part is not None and finish:
        raise ChatPainterError("--part makes shards and --finish none: give one of them")
    share = None if part is None else Part.read(part)
    values = params.load(params_file)
    where = str(params_file)
    settings = params.section(values, "embed", EmbedSettings, where)
    text = params.section(values, "text", TextSettings, where)
    encoders = params.section(values, "encoders", EncoderSettings, where)
    if any((tls_ca, tls_cert, tls_key)) and not all((tls_ca, tls_cert, tls_key)):
        raise ChatPainterError("--tls-ca, --tls-cert and --tls-key go together")
    tls = (tls_ca, tls_cert, tls_key) if tls_ca and tls_cert and tls_key else None
    # More workers than GPUs would only share one.
    gpus = devices.visible_gpus()[:workers] if scheduler == "local" and encoders.device != "cpu" else []
    with (
        _threads_in_words(),
        _runner(scheduler, workers or settings.workers, gpus, timeout, wait, dashboard, report, tls) as runner,
    ):
        if dashboard and (link := getattr(runner, "dashboard_link", None)):
            click.echo(f"dashboard: {link}", err=True)
        run = EmbedRun(out / split, split, runner, Bars(), settings, text, encoders, factory, share, finish)
        run.embed(corpus / f"{split}.parquet", kinds or None)


@contextlib.contextmanager
def _threads_in_words() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        raise ChatPainterError(
            "no more threads can be started here (ulimit -u, or the container's limit of processes); allow more, or "
            "use fewer: --scheduler sync, OMP_NUM_THREADS=1; finished shards are kept"
        ) from None


@contextlib.contextmanager
def _runner(
    scheduler: str,
    workers: int,
    gpus: list[str],
    timeout: float,
    wait: float,
    dashboard: bool,
    report: Path | None,
    tls: tuple[str, str, str] | None,
) -> Iterator["Runner"]:
    if scheduler == "sync":
        if dashboard or report or tls:
            raise ChatPainterError("--scheduler sync works without dask: no --dashboard, --report or --tls-… with it")
        from pipeline.worker import Sync

        yield Sync()
        return
    if importlib.util.find_spec("distributed") is None:
        raise ChatPainterError(
            "dask is not installed here; pip install 'chatpainter[pipeline]', or work in this process alone with "
            "--scheduler sync"
        )
    if report and not report.absolute().parent.is_dir():
        raise ChatPainterError(f"{report}: no such folder for the report; make it first")
    from pipeline.cluster import Cluster, Tls
    from store.machine import cores

    if gpus:
        click.echo(f"one worker for each of {len(gpus)} GPUs", err=True)
    elif scheduler == "local" and workers > cores():
        click.echo(f"{workers} workers on {cores()} cores: using {cores()}", err=True)
    with Cluster(
        None if scheduler == "local" else scheduler,
        workers=workers,
        gpus=gpus,
        idle_seconds=timeout,
        wait_seconds=wait,
        dashboard=dashboard,
        report=report,
        tls=Tls(*tls) if tls else None,
    ) as cluster:
        yield cluster


class Bars:
    """Progress on a terminal: texts/s, time left, shards done and kept, unknown words. One line a store otherwise."""

    def __init__(self) -> None:
        self.bar: Any = None

    def planned(self, kind: str, writer: "StoreWriter", rows: int) -> None:
        from tqdm import tqdm

        for reason, count in sorted(writer.reasons.items()):
            click.echo(f"{kind}: {count} of the shards on disk cannot be kept: {reason}", err=True)
        kept = sum(writer.tasks[number].rows for number in writer.kept)
        self.shards, self.kept, self.done = len(writer.tasks), len(writer.kept), 0
        self.unknown = self.tokens = 0
        self.bar = tqdm(
            total=rows,
            initial=kept,
            desc=kind,
            unit=" texts",
            unit_scale=True,
            dynamic_ncols=True,
            disable=None,  # where the output is no terminal
        )
        self._describe()

    def made(self, kind: str, made: "EncodedShard") -> None:
        self.done += 1
        self.unknown += made.counts["unknown"]
        self.tokens += made.counts["tokens"]
        self.bar.update(made.shard.rows)
        self._describe()

    def _describe(self) -> None:
        share = f", {self.unknown / self.tokens:.2%} unknown" if self.tokens else ""
        self.bar.set_postfix_str(f"shards {self.done + self.kept}/{self.shards} ({self.kept} kept){share}")

    def lost(self, kind: str, lost: "Lost") -> None:
        self.bar.write(f"{kind}: shard {lost.number} was not made, will be tried again: {lost.reason}", file=sys.stderr)

    def finished(self, kind: str, manifest: "Manifest") -> None:
        self.bar.close()
        counts = manifest.counts
        encoder = manifest.made_from["encoder"]
        untrained = "" if encoder.get("trained", True) else " (UNTRAINED weights)"
        click.echo(
            f"{kind}: {manifest.rows:,} vectors of {manifest.shape[0]} {manifest.dtype} by {encoder.get('name')}"
            f"{untrained} in {len(manifest.shards)} shards, {self.kept} kept; {counts['distinct']:,} distinct texts, "
            f"{counts['unknown']:,} of {counts['tokens']:,} tokens unknown, {counts['empty']:,} texts empty, "
            f"{counts['truncated']:,} cut short"
        )
        if warning := meaningless(kind, counts, str(encoder.get("name"))):
            click.echo(warning, err=True)

    def parted(self, kind: str, part: "Part", shards: int) -> None:
        self.bar.close()
        click.echo(
            f"{kind}: part {part}: its {shards} of {self.shards} shards are made, {self.kept} kept; then: --finish"
        )

    def removed(self, kind: str, folder: Path) -> None:
        click.echo(f"{kind}: the corpus has none any more; removed {folder}")


def meaningless(kind: str, counts: dict[str, int], encoder: str) -> str | None:
    """A warning where many vectors cannot say what their texts said: a language that the encoder does not read."""
    shared, distinct = counts.get("shared", 0), counts["distinct"]
    said = []
    if shared > MOST_SHARED * distinct:
        said.append(
            f"{shared:,} of {distinct:,} distinct texts ({shared / distinct:.0%}) have the vector of another text, so "
            "they cannot be told apart"
        )
    if counts["unknown"] > MOST_UNKNOWN * counts["tokens"]:
        said.append(f"{counts['unknown'] / counts['tokens']:.0%} of what the texts say is unknown to {encoder}")
    if not said:
        return None
    return (
        f"warning: {kind}: {'; '.join(said)}. Does {encoder} read their language? docs/encoders.md names others "
        "(encoders in params.yaml)"
    )


if __name__ == "__main__":
    main()
