"""Pictures of every kind decoded, resized, and kept in the order of the corpus, whatever happened to earlier runs."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.corpora import corpus
from pipeline.pictures import decode as pictures
from pipeline.pictures import prepare as images
from pipeline.pictures.pool import Failed, Recipe, decode_all
from pipeline.pictures.prepare import ImagesSettings
from pipeline.prepare_cli import main
from store.errors import ChatPainterError, StoreError
from store.files import sha256_file
from store.jpeg import JpegStore, open_images
from store.reader import Store
from store.verify import verify_store
from tests.support.processes import alive, children, wait_for

SIZES = (12, 130)


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Smooth colours that differ from picture to picture and from corner to corner."""
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


# One picture ------------------------------------------------------------------------------------------------------


def saved(tmp_path: Path, image: Image.Image, kind: str, **options: Any) -> Path:
    path = tmp_path / f"picture.{kind}"
    image.save(path, **options)
    return path


def test_bilinear_with_the_aspect_ratio_not_kept(tmp_path: Path) -> None:
    """Against the definition: a triangle filter as wide as a pixel of the result, along each axis."""
    source = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    (got,) = pictures.decode(saved(tmp_path, Image.fromarray(source), "png"), (8,))

    def filtered(values: np.ndarray, size: int) -> np.ndarray:
        scale = len(values) / size
        centres = (np.arange(size) + 0.5) * scale
        weights = np.maximum(0, 1 - np.abs(np.arange(len(values)) + 0.5 - centres[:, None]) / scale)
        return np.tensordot(weights / weights.sum(axis=1, keepdims=True), values, axes=1)

    expected = filtered(filtered(source.astype(np.float64), 8).swapaxes(0, 1), 8).swapaxes(0, 1)
    assert np.abs(got - expected).max() <= 1.01


def test_every_size_comes_from_the_whole_picture(tmp_path: Path) -> None:
    path = saved(tmp_path, picture(1), "png")
    for size, array in zip((5, 40, 90), pictures.decode(path, (5, 40, 90))):
        assert array.shape == (size, size, 3)
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, pictures.decode(path, (size,))[0])


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [("CMYK", "jpg", 6), ("CMYK", "tiff", 1), ("P", "png", 12), ("P", "gif", 12), ("RGBA", "png", 1), ("RGB", "bmp", 1),
     ("RGB", "webp", 8), ("YCbCr", "jpg", 6)],
)  # fmt: skip
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, kind: str, tolerance: float) -> None:
    image = picture(2, (64, 64))
    converted = image.quantize(256) if mode == "P" else image.convert(mode)
    options = {"quality": 95, "subsampling": 0} if kind == "jpg" else {}
    (got,) = pictures.decode(saved(tmp_path, converted, kind, **options), (64,))
    assert np.abs(got.astype(int) - np.asarray(image)).mean() < tolerance


@pytest.mark.parametrize(("mode", "kind"), [("L", "jpg"), ("L", "png"), ("1", "png"), ("LA", "png")])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str, kind: str) -> None:
    image = picture(3, (64, 64)).convert("L")
    (got,) = pictures.decode(saved(tmp_path, image.convert(mode), kind), (64,))
    assert (got == got[..., :1]).all()
    if mode != "1":
        assert np.abs(got[..., 0].astype(int) - np.asarray(image)).mean() < 2


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(64, axis=0)
    (got,) = pictures.decode(saved(tmp_path, Image.fromarray(ramp), "png"), (64,))
    assert np.abs(got[0, :, 0] - np.linspace(0, 255, 64)).max() < 2


@pytest.mark.parametrize("how", ["RGBA", "LA", "palette"])
def test_what_is_transparent_is_white(tmp_path: Path, how: str) -> None:
    image = Image.new("RGBA", (40, 40), (10, 10, 10, 0))
    image.paste((10, 10, 10, 255), (0, 0, 20, 40))
    if how == "palette":
        image = Image.new("P", (40, 40), 1)
        image.putpalette([0, 0, 0, 10, 10, 10, 200, 0, 0])
        image.paste(2, (20, 0, 40, 40))
        path = saved(tmp_path, image, "png", transparency=2)
    else:
        path = saved(tmp_path, image.convert(how), "png")
    (got,) = pictures.decode(path, (40,))
    assert (got[:, 21:] == 255).all()
    assert (got[:, :19] == 10).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    upright = picture(4, (64, 48))
    # What a camera that was held so would have stored.
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
            7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, stored, "jpg", exif=exif, quality=95, subsampling=0)
    (got,) = pictures.decode(path, (40,))
    expected = np.asarray(upright.resize((40, 40), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(got - expected).mean() < 3


@pytest.mark.parametrize("block", [b"MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03", b"II*\0\xff\xff\xff\xff", b"rubbish", b""])
def test_a_damaged_exif_block_costs_no_picture(tmp_path: Path, block: bytes) -> None:
    path = saved(tmp_path, picture(4, (64, 48)), "jpg", exif=b"Exif\0\0" + block, quality=95, subsampling=0)
    (result,) = decode_all(None, 1, [path], Recipe((40,), (None,)))
    assert not isinstance(result, Failed)
    expected = np.asarray(picture(4, (64, 48)).resize((40, 40), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(np.asarray(result[0]) - expected).mean() < 3


@pytest.mark.parametrize("size", [76, 140])
def test_a_large_photograph_is_decoded_smaller_and_looks_the_same(tmp_path: Path, size: int) -> None:
    """Draft mode keeps three pixels for one: what it changes is below what JPEG itself changes."""
    noise = np.random.default_rng(0).integers(-20, 20, (1200, 1600, 1))
    image = Image.fromarray((np.asarray(picture(5, (1600, 1200))) + noise).clip(0, 255).astype(np.uint8))
    path = saved(tmp_path, image, "jpg", quality=95)
    with Image.open(path) as whole:
        expected = np.asarray(whole.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    (got,) = pictures.decode(path, (size,))
    assert np.abs(got - expected).mean() < 0.4
    assert (got != expected).any()  # or draft mode was not used at all


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\xff\xd8\xff\xe0", "cut jpeg", "cut png", "missing"])
def test_what_cannot_be_decoded_is_unreadable(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "picture.jpg"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content != "missing":
        buffer = io.BytesIO()
        picture(6, (200, 200)).save(buffer, content.split()[1])
        path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3])
    with pytest.raises(pictures.Unreadable) as caught:
        pictures.decode(path, (8,))
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_that_claims_to_be_immense_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(pictures.Unreadable, match="bomb"):
        pictures.decode(saved(tmp_path, picture(7, (100, 100)), "png"), (8,))


def test_real_pictures(shared_data: Path) -> None:
    for name in ("COCO_val2014_000000000802.jpg", "COCO_val2014_000000007888.jpg", "COCO_val2014_000000431848.jpg"):
        if (path := shared_data / "coco" / "images" / name).exists():
            with Image.open(path) as image:
                grey = image.mode == "L"
            small, large = pictures.decode(path, (76, 304))
            assert (small.shape, large.shape) == ((76, 76, 3), (304, 304, 3))
            assert (small == small[..., :1]).all() == grey


# A split ----------------------------------------------------------------------------------------------------------


class SmallShards(ImagesSettings):
    shard_images = 3


class Split:
    """A dataset of `number` pictures with a corpus in another order, and the stores made from it."""

    def __init__(self, folder: Path, number: int = 11) -> None:
        self.raw, self.corpus, self.out = folder / "raw", folder / "val.parquet", folder / "out"
        self.ids = [int(i) for i in np.random.default_rng(0).permutation(number) * 7 + 3]
        (self.raw / "images" / "val").mkdir(parents=True)
        for image_id in self.ids:
            self.file(image_id).write_bytes(self.content(image_id))
        self.write_corpus(self.ids)

    def file(self, image_id: int) -> Path:
        return self.raw / "images" / "val" / f"picture {image_id}.png"

    def content(self, seed: int) -> bytes:
        buffer = io.BytesIO()
        picture(seed, (200, 150)).save(buffer, "PNG")
        return buffer.getvalue()

    def write_corpus(self, ids: list[int]) -> None:
        rows = [corpus.Row(i, self.file(i).name, 200, 150, [(i, "c")], [("q", "a")], "v") for i in ids]
        corpus.write(rows, self.corpus)

    def make(
        self,
        workers: int = 1,
        without_image: Literal["drop", "keep"] = "drop",
        retry_unreadable: bool = False,
        **changes: Any,
    ) -> images.Prepared:
        settings = SmallShards(**{"sizes": SIZES, **changes})
        return images.prepare(
            self.corpus, self.raw, "val", self.out, settings,
            without_image=without_image, retry_unreadable=retry_unreadable, workers=workers,
        )  # fmt: skip

    def bytes(self) -> dict[str, bytes]:
        return {p.relative_to(self.out).as_posix(): p.read_bytes() for p in self.out.rglob("*") if p.is_file()}

    def check(self, ids: list[int], encoding: str = "raw") -> None:
        """Every row is the picture that the index says, in the order of the corpus."""
        for size in SIZES:
            assert list(verify_store(self.out / str(size))) == []
            store = open_images(self.out / str(size))
            assert isinstance(store, JpegStore) == (encoding == "jpeg" and size >= 128)
            assert store.shape == (size, size, 3)
            assert store.column("image_id").tolist() == ids
            assert store.index["file_name"].to_pylist() == [self.file(i).name for i in ids]
            assert len(store) == len(ids)
            got = store.take(store.column("row"))
            for image_id, array in zip(ids, got):
                expected = pictures.decode(self.file(image_id), (size,))[0].astype(int)
                difference = np.abs(array - expected)
                assert difference.max() <= (12 if isinstance(store, JpegStore) else 0)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return Split(tmp_path)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_rows_follow_the_corpus_and_several_processes_change_nothing(split: Split, encoding: str) -> None:
    made = split.make(encoding=encoding)
    assert (made.images, made.shards, made.decoded) == (11, 4, 4)
    split.check(split.ids, encoding)
    alone = split.bytes()
    split.out.rename(split.out.with_name("alone"))
    split.make(encoding=encoding, workers=2)
    assert split.bytes() == alone
    assert {p.name for p in split.out.rglob("*") if p.is_file()} == {
        *(f"images-0000{n}.h5" for n in range(4)), "checksums.crc32", "index.parquet", "manifest.json"
    }  # fmt: skip


def test_the_manifest_says_from_what(split: Split) -> None:
    split.make(encoding="jpeg", jpeg_quality=90)
    small, large = (Store(split.out / str(size)).manifest for size in SIZES)
    assert small.made_from | {"corpus": ""} == {"corpus": "", "size": 12, "resampling": "bilinear", "encoding": "raw"}
    assert large.made_from["encoding"] == "jpeg"
    assert large.made_from["quality"] == 90
    assert small.counts == large.counts == {"images": 11, "unreadable": 0, "repeated": 0}
    assert (small.kind, small.split, small.dataset) == ("images", "val", "images")


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_second_run_decodes_nothing(split: Split, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split.make(encoding=encoding)
    before = split.bytes()
    monkeypatch.setattr(images, "decode_all", lambda pool, workers, paths, recipe: never(paths))
    assert split.make(encoding=encoding).decoded == 0
    assert split.bytes() == before


def never(paths: list) -> object:
    assert not paths
    yield from ()


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_changed_picture_makes_its_shard_again(split: Split, encoding: str) -> None:
    split.make(encoding=encoding)
    split.file(split.ids[4]).write_bytes(split.content(1234))
    # A JPEG shard's length moves all that come after it.
    assert split.make(encoding=encoding).decoded == (1 if encoding == "raw" else 3)
    split.check(split.ids, encoding)
    resumed = split.bytes()
    split.out.rename(split.out.with_name("resumed"))
    split.make(encoding=encoding)
    assert split.bytes() == resumed


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_corpus_in_another_order_or_shorter_is_followed(split: Split, encoding: str) -> None:
    split.make(encoding=encoding)
    fewer = split.ids[:3] + split.ids[:5:-1]
    split.write_corpus(fewer)
    split.make(encoding=encoding)
    split.check(fewer, encoding)
    assert len(list((split.out / "130").glob("*.h5"))) == 3


@pytest.mark.parametrize("changes", [{"encoding": "jpeg"}, {"encoding": "jpeg", "jpeg_quality": 50}, {"sizes": (130,)}])
def test_other_settings_leave_nothing_of_the_old(split: Split, changes: dict) -> None:
    split.make()
    split.make(**changes)
    changed = split.bytes()
    split.out.rename(split.out.with_name("changed"))
    split.make(**changes)
    assert split.bytes() == changed
    split.make()
    split.check(split.ids)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_found_and_made_again(split: Split, encoding: str, damage: str) -> None:
    split.make(encoding=encoding)
    whole = split.bytes()
    path = split.out / "130" / "images-00001.h5"
    data = bytearray(path.read_bytes())
    data[-700] ^= 1
    path.write_bytes(data if damage == "flip" else data[:-700])
    if damage == "remove":
        path.unlink()
    assert any(verify_store(split.out / "130"))
    split.make(encoding=encoding)
    assert split.bytes() == whole


# Unreadable and missing -------------------------------------------------------------------------------------------


def damage(split: Split, *positions: int) -> list[int]:
    for position in positions:
        path = split.file(split.ids[position])
        path.write_bytes(path.read_bytes()[:-3000])
    return [image_id for position, image_id in enumerate(split.ids) if position not in positions]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_picture_stops_the_run_by_name(split: Split, workers: int) -> None:
    damage(split, 7, 4)
    name = split.file(split.ids[4]).name
    with pytest.raises(ChatPainterError, match=rf"{name}: image {split.ids[4]} cannot be read \(.*--unreadable skip"):
        split.make(workers=workers)
    with pytest.raises(StoreError, match="no manifest"):
        Store(split.out / "12")
    assert (split.out / "12" / "images-00000.h5").exists()
    split.file(split.ids[4]).write_bytes(split.content(split.ids[4]))
    split.file(split.ids[7]).write_bytes(split.content(split.ids[7]))
    assert split.make().decoded == 3
    split.check(split.ids)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("positions", [(0,), (1, 2, 10), (3, 4, 5), (0, 1, 2, 9)])
def test_unreadable_pictures_are_skipped_and_the_rest_stays_aligned(
    split: Split, encoding: str, positions: tuple[int, ...]
) -> None:
    good = damage(split, *positions)
    made = split.make(encoding=encoding, unreadable="skip")
    assert made.images == len(good)
    assert sorted(made.unreadable) == sorted(split.ids[position] for position in positions)
    split.check(good, encoding)
    assert Store(split.out / "12").manifest.counts == {"images": len(good), "unreadable": len(positions), "repeated": 0}
    before = split.bytes()
    again = split.make(encoding=encoding, unreadable="skip")
    assert again.decoded == 0
    assert again.unreadable == made.unreadable
    assert split.bytes() == before
    # Once it can be read, it is back.
    for position in positions:
        image_id = split.ids[position]
        split.file(image_id).write_bytes(split.content(image_id))
    split.make(encoding=encoding, unreadable="skip")
    split.check(split.ids, encoding)
    assert not (split.out / "unreadable.json").exists()


def test_unreadable_pictures_are_tried_again_when_asked(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(split, 1)
    with monkeypatch.context() as older:  # a Pillow that reads fewer pictures
        older.setattr(images, "decode_all", failing(split, split.ids[9], images.decode_all))
        made = split.make(unreadable="skip")
    assert sorted(made.unreadable) == sorted([split.ids[1], split.ids[9]])
    before = split.bytes()
    assert split.make(unreadable="skip").unreadable == made.unreadable  # not tried: the bytes are the same
    assert split.bytes() == before
    again = split.make(unreadable="skip", retry_unreadable=True)
    good = [image_id for image_id in split.ids if image_id != split.ids[1]]
    assert list(again.unreadable) == [split.ids[1]]
    assert again.decoded == 1  # the shard of the one that can be read now
    split.check(good)
    assert [entry["image_id"] for entry in json.loads((split.out / "unreadable.json").read_text())] == [split.ids[1]]
    before = split.bytes()
    assert split.make(unreadable="skip", retry_unreadable=True).decoded == 0
    assert split.bytes() == before


def failing(split: Split, image_id: int, decode_all: Any) -> Any:
    """`decode_all` that cannot read one picture."""

    def decode(pool: Any, workers: int, paths: Any, recipe: Any) -> Any:
        for path, result in zip(paths, decode_all(pool, workers, paths, recipe)):
            yield Failed("too new a format") if path == split.file(image_id) else result

    return decode


def test_skipping_everything_is_an_error(split: Split) -> None:
    damage(split, *range(11))
    with pytest.raises(ChatPainterError, match=r"not one picture of split 'val' can be read; see .*unreadable\.json"):
        split.make(unreadable="skip")


def test_a_picture_gone_since_the_corpus_was_made(split: Split) -> None:
    gone = split.ids[3]
    split.file(gone).unlink()
    with pytest.raises(
        ChatPainterError, match=rf"'picture {gone}\.png': of image {gone} in .*prepare corpus --split val"
    ):
        split.make()
    made = split.make(without_image="keep")
    assert made.without_file == [gone]
    split.check([image_id for image_id in split.ids if image_id != gone])


# Runs cut short ---------------------------------------------------------------------------------------------------

RUN = """
import sys, time
from pathlib import Path
from pipeline.pictures import prepare as images
from store.writer import StoreWriter
write = StoreWriter.write_shard
written = []
def three(self, number, *rest):
    write(self, number, *rest)
    written.append(number)
    print("written", number, flush=True)
    if len(written) == 3:
        time.sleep(600)
if __name__ == "__main__":
    StoreWriter.write_shard = three
    corpus, raw, out, encoding = sys.argv[1:]
    images.ImagesSettings.shard_images = 3
    settings = images.ImagesSettings(sizes=(12, 130), encoding=encoding)
    images.prepare(Path(corpus), Path(raw), "val", Path(out), settings, workers=2)
"""


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_killed_and_run_again_gives_the_same_bytes(split: Split, encoding: str, tmp_path: Path) -> None:
    split.make(encoding=encoding)
    whole = split.bytes()
    split.out.rename(split.out.with_name("whole"))
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [sys.executable, str(script), str(split.corpus), str(split.raw), str(split.out), encoding]
    run = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert run.stdout is not None
    for _ in range(3):
        assert "written" in run.stdout.readline()
    workers = children(run.pid)
    assert len(workers) >= 2
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    with pytest.raises(StoreError):
        Store(split.out / "130")
    assert 0 < split.make(encoding=encoding).decoded < 4
    assert split.bytes() == whole
    wait_for(lambda: not any(map(alive, workers)), "decoding processes outlived their run")


def test_two_runs_at_once_are_refused(split: Split) -> None:
    from store.lock import FolderLock

    (split.out / "12").mkdir(parents=True)
    with FolderLock(split.out / "12"):
        with pytest.raises(StoreError):
            split.make()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), BlockingIOError(11, "try again")])
def test_no_more_threads_or_processes_is_one_line(
    split: Split, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    for name in (
        "pipeline.pictures.listing.ThreadPoolExecutor.submit",
        "pipeline.pictures.pool.ProcessPoolExecutor.submit",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with pytest.raises(ChatPainterError, match=r"no more threads or processes; .*fewer --workers") as caught:
                split.make(workers=2)
            assert "\n" not in caught.value.message
    split.make()
    split.check(split.ids)


# Settings and the command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{"sizes": ()}, {"sizes": (76, 76)}, {"sizes": (2,)}, {"jpeg_quality": 0}, {"shard_mib": 0}]
)
def test_settings_that_make_no_sense(changes: dict) -> None:
    with pytest.raises(ValueError):
        ImagesSettings(**changes)


def test_shards_are_as_large_as_asked_for() -> None:
    assert ImagesSettings().shard_images == 128 * 2**20 // (304 * 304 * 3)
    assert ImagesSettings(sizes=(4096,), shard_mib=1).shard_images == 1


def test_the_command(split: Split, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        f"raw: {split.raw}\nsplits: [val]\nimages: {{sizes: [16], unreadable: skip}}\n"
    )
    damage(split, 2)
    arguments = ["--params", tmp_path / "params.yaml", "images", "--corpus", tmp_path, "--out", tmp_path / "images"]
    result = CliRunner().invoke(main, [*map(str, arguments), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "images/val: 10 images at 16" in result.stdout
    assert f"unreadable, left out: {split.file(split.ids[2])}" in result.stdout
    assert result.stderr == ""  # No bar where nobody watches.
    assert len(Store(tmp_path / "images" / "val" / "16")) == 10
    noted = tmp_path / "images/val/unreadable.json"
    entries = json.loads(noted.read_text())
    readable = sha256_file(split.file(split.ids[3]))
    noted.write_text(json.dumps([*entries, {**entries[0], "sha256": readable}]))  # as an older decoder might have
    for options, count in (([], 9), (["--retry-unreadable"], 10)):
        result = CliRunner().invoke(main, [*map(str, arguments), *options])
        assert f"images/val: {count} images at 16" in result.stdout
    assert json.loads(noted.read_text()) == entries
    result = CliRunner().invoke(main, [*map(str, arguments), "--unreadable", "stop"])
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1


def test_jpegs_are_read_by_anyone_with_h5py_and_pandas(split: Split) -> None:
    """The layout as store/jpeg.py states it, without our reader."""
    h5py = pytest.importorskip("h5py")
    split.make(encoding="jpeg")
    index = pa.Table.to_pandas(pq.read_table(split.out / "130" / "index.parquet"))
    paths = sorted((split.out / "130").glob("images-*.h5"))
    blocks = np.concatenate([h5py.File(path, "r")["images"][:] for path in paths])
    for row, count in zip(index["row"], index["blocks"]):
        data = blocks[row : row + count].tobytes()
        length = int.from_bytes(data[:4], "little")
        assert len(data) - 1024 < 4 + length <= len(data)
        assert Image.open(io.BytesIO(data[4 : 4 + length])).size == (130, 130)
        assert not any(data[4 + length :])


def test_a_store_of_jpegs_refuses_rows_where_no_picture_begins(split: Split) -> None:
    split.make(encoding="jpeg")
    store = open_images(split.out / "130")
    assert isinstance(store, JpegStore)
    with pytest.raises(StoreError, match="no picture begins at row 1"):
        store.take([1])
    out = np.empty((2, 130, 130, 3), np.uint8)
    assert store.take(store.column("row")[[3, 0]], out=out) is out
    np.testing.assert_array_equal(out[1], store.take(store.column("row")[:1])[0])
