"""chatpainter-prepare: from raw files to the corpus, the images and untrained weights. Options and messages only."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.corpora.cli import codraw, cub, hexagons, imagefolder, oxford, scone
from pipeline.imports.cli import import_stackgan
from pipeline.weights.cli import weights_fetch, weights_status
from store import params as parameters
from store.errors import ParamsError
from store.options import CONTEXT, corpus_option, params_option, version_option

if TYPE_CHECKING:
    from pipeline.pictures.prepare import ImagesSettings

T = TypeVar("T")


@click.group(context_settings=CONTEXT)
@version_option
@params_option
@click.pass_context
def main(context: click.Context, params_file: Path) -> None:
    """Prepare what the embedding and the training read: sample world, corpus, images, untrained weights."""
    context.obj = params_file


for command in (imagefolder, codraw, cub, oxford, scone, hexagons, weights_status, weights_fetch, import_stackgan):
    main.add_command(command)


def _raw(function: Any) -> Any:
    return click.option("--raw", type=click.Path(path_type=Path), help="The dataset's folder. [params: raw]")(function)


def _splits(function: Any) -> Any:
    return click.option(
        "--split", "splits", multiple=True, metavar="NAME", help="May be given more than once. [params: splits]"
    )(function)


def _out(default: str) -> Any:
    return click.option("--out", default=default, show_default=True, type=click.Path(path_type=Path), help="Folder.")


@main.command()
@_raw
@click.option("--seed", type=click.IntRange(0), help="[params: world.seed]")
@click.option("--train", type=click.IntRange(1), help="Scenes to train on. [params: world.train]")
@click.option("--val", type=click.IntRange(1), help="Scenes held out. [params: world.val]")
@click.option("--image-size", type=click.IntRange(32, 2048), help="Side in pixels. [params: world.image_size]")
@click.option("--places", type=click.Choice(["2x2", "3x3", "free"]), help="[params: world.places]")
@click.option("--edits", type=click.FloatRange(0, 1, max_open=True),
              help="Share of rounds that change what earlier ones said. [params: world.edits]")  # fmt: skip
@click.option("--turn-pictures", is_flag=True, default=None,
              help="Also draw what is told after every round. [params: world.turn_pictures]")  # fmt: skip
@click.pass_obj
def world(params_path: Path, raw: Path | None, **given: Any) -> None:
    """Make the sample world: scenes of coloured shapes, laid out as COCO and VisDial are."""
    from tqdm import tqdm

    from pipeline.corpora import sample_files
    from pipeline.corpora.sample_world import WorldSettings

    values = parameters.load(params_path)
    settings = _section(values, "world", WorldSettings, params_path, given)
    folder = raw or _folder(values, params_path)
    with tqdm(total=settings.train + settings.val, unit=" scenes", disable=None, desc="sample world") as bar:
        sample_files.make(folder, settings, bar.update)
    click.echo(f"{folder}: {settings.train:,} train and {settings.val:,} val scenes, {settings.image_size} pixels wide")


@main.command()
@_splits
@_raw
@click.option("--visdial-version", metavar="VERSION",
              help="0.9 or 1.0. [params: visdial_version; with --raw: the one that lies there]")  # fmt: skip
@click.option(
    "--without-caption",
    type=click.Choice(["drop", "keep"]),
    help="Images without a caption. [params: corpus.without_caption]",
)
@click.option(
    "--without-dialogue",
    type=click.Choice(["drop", "keep"]),
    help="Images without a round. [params: corpus.without_dialogue]",
)
@click.option(
    "--without-image", type=click.Choice(["drop", "keep"]), help="Images without a file. [params: corpus.without_image]"
)
@_out("data/corpus")
@click.pass_obj
def corpus(
    params_path: Path,
    splits: tuple[str, ...],
    raw: Path | None,
    visdial_version: str | None,
    out: Path,
    **given: str | None,
) -> None:
    """Join captions, dialogues and pictures: OUT/SPLIT.parquet, one row an image, and OUT/SPLIT.report.json."""
    from pipeline.corpora import prepare as corpora
    from pipeline.corpora.join import CorpusSettings

    values = parameters.load(params_path)
    settings = _section(values, "corpus", CorpusSettings, params_path, given)
    if raw is None:
        raw = _folder(values, params_path)
        visdial_version = visdial_version or parameters.section(values, "visdial_version", str, str(params_path))
    for split in _splits_of(splits, values, params_path):
        path, report = corpora.prepare(raw, split, out, settings, visdial_version)
        click.echo(f"{path}: {report['images']:,} images, {report['captions']:,} captions, {report['rounds']:,} rounds")
        for line in corpora.in_lines(report):
            click.echo(f"  {line}")


@main.command()
@_splits
@_raw
@corpus_option
@click.option("--size", "sizes", multiple=True, type=click.IntRange(8, 4096),
              help="Side in pixels; may be given more than once. [params: images.sizes]")  # fmt: skip
@click.option("--encoding", type=click.Choice(["raw", "jpeg"]), help="jpeg: sizes from 128. [params: images.encoding]")
@click.option("--jpeg-quality", type=click.IntRange(1, 100), help="[params: images.jpeg_quality]")
@click.option(
    "--unreadable", type=click.Choice(["stop", "skip"]), help="What a damaged file does. [params: images.unreadable]"
)
@click.option("--retry-unreadable", is_flag=True,
              help="Try files again that an earlier run noted in unreadable.json; note anew which are.")  # fmt: skip
@click.option("--shard-mib", type=click.IntRange(1), help="[params: images.shard_mib]")
@click.option("--turn-size", type=click.IntRange(8, 4096),
              help="Side of the pictures of every turn. [params: images.turn_size]")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Processes that decode. [as many as there are cores]")
@_out("data/images")
@click.pass_obj
def images(
    params_path: Path,
    splits: tuple[str, ...],
    raw: Path | None,
    corpus: Path,
    retry_unreadable: bool,
    workers: int | None,
    out: Path,
    **given: Any,
) -> None:
    """Decode every picture of the corpus once, into the stores OUT/SPLIT/SIZE; finished shards are kept.

    With images.turn_size also the pictures of every turn (turn_pictures, first_pictures, presence, first_presence), and
    with images.graphs scene graphs (objects, boxes, masks, triples).
    """
    from tqdm import tqdm

    from pipeline.corpora.join import CorpusSettings
    from pipeline.pictures import prepare as pictures
    from store import machine

    values = parameters.load(params_path)
    settings = _section(values, "images", pictures.ImagesSettings, params_path, given)
    fates = parameters.section(values, "corpus", CorpusSettings, str(params_path))
    raw = raw or _folder(values, params_path)
    for split in _splits_of(splits, values, params_path):
        with tqdm(unit=" images", disable=None, desc=split) as bar:
            made = pictures.prepare(
                corpus / f"{split}.parquet",
                raw,
                split,
                out / split,
                settings,
                without_image=fates.without_image,
                retry_unreadable=retry_unreadable,
                workers=workers or machine.cores(),
                started=bar.reset,
                done=bar.update,
            )
        sizes = " and ".join(map(str, settings.sizes))
        kept = f", {made.shards - made.decoded} of {made.shards} shards kept" if made.decoded < made.shards else ""
        click.echo(f"{out / split}: {made.images:,} images at {sizes}{kept}")
        if made.without_file:
            click.echo(f"  without a file: {len(made.without_file):,}")
        if made.repeated:
            groups = [names[:4] + [f"{len(names) - 4:,} more"] * (len(names) > 4) for names in made.repeated[:5]]
            first = "; ".join(map(" = ".join, groups))
            more = "; ..." if len(made.repeated) > 5 else ""
            click.echo(f"  the same bytes under several names: {len(made.repeated):,} ({first}{more})")
        if made.other_size:
            first = ", ".join(map(str, made.other_size[:5])) + (", ..." if len(made.other_size) > 5 else "")
            click.echo(f"  not as wide and high as the captions file says: {len(made.other_size):,} (images {first})")
        for image_id, (path, reason) in made.unreadable.items():
            click.echo(f"  unreadable, left out: {path} (image {image_id}: {reason})")
        _films(corpus / f"{split}.parquet", raw, split, out / split, settings, workers or machine.cores())
        _graphs(corpus / f"{split}.parquet", raw, split, out / split, settings)
        _classes(corpus / f"{split}.parquet", raw, split, out / split)


def _classes(corpus: Path, raw: Path, split: str, out: Path) -> None:
    """Every picture's class, where a file beside the captions states them; else none."""
    from pipeline.pictures import classes

    if made := classes.prepare(corpus, raw, split, out):
        click.echo(f"  classes of {made[0]:,} images: {made[1]:,}")


def _films(corpus: Path, raw: Path, split: str, out: Path, settings: "ImagesSettings", workers: int) -> None:
    """The pictures of every turn, where they are asked for; else none."""
    from tqdm import tqdm

    from pipeline.pictures import films

    if settings.turn_size is None:
        films.remove(out)
        return
    with tqdm(unit=" pictures", disable=None, desc=f"{split}, turns") as bar:
        made = films.prepare(
            corpus, raw, split, out, settings.turn_size, settings.shard_mib << 20,
            workers=workers, started=bar.reset, done=bar.update,
        )  # fmt: skip
    without = f"; without: {made.without:,} images" if made.without else ""
    click.echo(f"  every turn of {made.images:,} images: {made.pictures:,} pictures at {settings.turn_size}{without}")


def _graphs(corpus: Path, raw: Path, split: str, out: Path, settings: "ImagesSettings") -> None:
    """Scene graphs, where they are asked for; else none."""
    from pipeline.graphs import stores

    if settings.graphs is None:
        stores.remove(out)
        return
    made = stores.prepare(corpus, raw, split, out, settings.graphs)
    without = f"; without: {made.without:,} images" if made.without else ""
    click.echo(f"  scene graphs of {made.images:,} images: {made.objects:,} objects{without}")


@main.command()
@click.option("--split", required=True, metavar="NAME", help="Whose scene graphs.")
@click.option("--images", default="data/images", show_default=True, type=click.Path(path_type=Path),
              help="Folder of the stores that `images` made with images.graphs.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which relations are drawn.")
@click.option("--limit", type=click.IntRange(1), help="At most so many. [all]")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The JSON file to write.")
def graphs(split: str, images: Path, seed: int, limit: int | None, out: Path) -> None:
    """Write a split's scene graphs as sg2im publishes them: a JSON list of objects and relationships."""
    import itertools
    import json

    from pipeline.graphs import published
    from store.files import in_words, replacing

    found = list(itertools.islice(published.graphs(images / split, seed), limit))
    with in_words(out), replacing(out) as temporary:
        temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{out}: {len(found):,} scene graphs")


@main.command()
@click.option("--corpus", "corpora", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Whose words the dictionary holds. [data/corpus/SPLIT.parquet of every split]")  # fmt: skip
@click.option("--size", type=click.Choice(["small", "wide", "published", "none"]), help="[params: untrained.size]")
@click.option("--seed", type=click.IntRange(0), help="[params: untrained.seed]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder. [params: encoders.untrained]")
@click.pass_obj
def weights(params_path: Path, corpora: tuple[Path, ...], out: Path | None, **given: Any) -> None:
    """Make UNTRAINED encoder weights in the published formats, for whoever lacks the published files."""
    from pipeline.encoders import EncoderSettings
    from pipeline.texts import TextSettings
    from pipeline.weights import untrained

    values = parameters.load(params_path)
    settings = _section(values, "untrained", untrained.UntrainedSettings, params_path, given)
    encoders = parameters.section(values, "encoders", EncoderSettings, str(params_path))
    text = parameters.section(values, "text", TextSettings, str(params_path))
    out = out or (Path(encoders.untrained) if encoders.untrained else None)
    if out is None:
        raise ParamsError(f"{params_path}: encoders.untrained is null, so nothing is made; name a folder with --out")
    if not corpora:
        corpora = tuple(Path("data/corpus") / f"{split}.parquet" for split in _splits_of((), values, params_path))
    for path in untrained.make(out, settings, list(corpora), text, encoders):
        click.echo(f"{path} (untrained)")


@main.command()
@_splits
@corpus_option
@click.option("--vocabulary", type=click.Path(path_type=Path),
              help="AttnGAN's captions.pickle, whose numbers are kept. [every word of all splits]")  # fmt: skip
@_out("data/embeddings")
@click.pass_obj
def tokens(params_path: Path, splits: tuple[str, ...], corpus: Path, vocabulary: Path | None, out: Path) -> None:
    """Number the words of the captions, for AttnGAN's text encoder (chatpainter-train damsm): OUT/SPLIT/tokens."""
    from pipeline import token_ids
    from pipeline.weights import attngan

    values = parameters.load(params_path)
    every = _splits_of((), values, params_path)
    known = attngan.read_captions(vocabulary).vocabulary if vocabulary else token_ids.vocabulary_of(corpus, every)
    for split in splits or every:
        made = token_ids.make(corpus, split, known, out)
        click.echo(
            f"{out / split / 'tokens'}: {made.index.rows:,} captions, {made.rows:,} words of {len(known):,}, "
            f"{made.counts['unknown']:,} unknown"
        )


def _section(values: dict[str, Any], name: str, kind: type[T], path: Path, given: dict[str, Any]) -> T:
    """A section of params.yaml with the options that were given on the command line put over it."""
    section = values.get(name) or {}
    over = {option: value for option, value in given.items() if value not in (None, ())}
    return parameters.build(kind, section | over if isinstance(section, dict) else section, f"{path}: {name}")


def _folder(values: dict[str, Any], path: Path) -> Path:
    return Path(parameters.section(values, "raw", str, str(path)))


def _splits_of(given: tuple[str, ...], values: dict[str, Any], path: Path) -> tuple[str, ...]:
    """The splits asked for, or else those of params.yaml: each a name that files can have."""
    from pipeline.corpora import coco

    where = "--split" if given else f"{path}: splits"
    names = given or parameters.section(values, "splits", parameters.Names, str(path))
    return tuple(coco.check_split(name, where) for name in names)
