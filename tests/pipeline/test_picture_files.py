"""Which file is an image's: the one that its name says, and no other."""

import json
from pathlib import Path
from unicodedata import normalize

import pytest
from PIL import Image

from pipeline.corpora import corpus
from pipeline.corpora.join import CorpusSettings
from pipeline.corpora.prepare import in_lines, prepare
from pipeline.pictures import files
from pipeline.pictures.files import PictureFiles
from pipeline.pictures.prepare import ImagesSettings
from pipeline.pictures.prepare import prepare as prepare_pictures
from store.errors import ChatPainterError

KEEP = CorpusSettings(without_caption="keep", without_dialogue="keep")


def put(raw: Path, *names: str) -> None:
    for name in names:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_text(name)


def dataset(raw: Path, names: dict[int, str], *, others: tuple[int, ...] = (), version: str = "1.0") -> Path:
    """Captions of images that state these names, and dialogues of them and of `others`."""
    images = [{"id": image_id, "file_name": name} for image_id, name in names.items()]
    captions = [{"id": i, "image_id": i, "caption": f"picture {i}"} for i in names]
    dialogs = [{"image_id": i, "caption": "c", "dialog": [{"question": 0, "answer": 0}]} for i in (*names, *others)]
    (raw / "annotations").mkdir(parents=True)
    (raw / "visdial").mkdir()
    (raw / "annotations" / "captions_t.json").write_text(json.dumps({"images": images, "annotations": captions}))
    data = {"questions": ["q"], "answers": ["a"], "dialogs": dialogs}
    content = {"version": version, "split": "t", "data": data}
    (raw / "visdial" / f"visdial_{version}_t.json").write_text(json.dumps(content))
    return raw


def file_names(raw: Path, out: Path, settings: CorpusSettings = KEEP) -> tuple[dict[int, str], str]:
    path, report = prepare(raw, "t", out, settings, None)
    table = corpus.read(path)
    return dict(zip(table["image_id"].to_pylist(), table["file_name"].to_pylist())), "\n".join(in_lines(report))


def test_a_missing_file_is_not_replaced_by_the_one_of_the_next_number(tmp_path: Path) -> None:
    """Numbers from 1, names from 0, as many converters have them: 000000000002.jpg is the picture of image 3."""
    raw = dataset(tmp_path / "raw", {n + 1: f"{n:012d}.jpg" for n in range(4)})
    put(raw, *(f"images/t/{n:012d}.jpg" for n in (0, 2, 3)))
    found, said = file_names(raw, tmp_path)
    assert found == {1: "000000000000.jpg", 3: "000000000002.jpg", 4: "000000000003.jpg"}
    assert "without image: 1, left out (images 2), looked for 000000000001.jpg" in said


@pytest.mark.parametrize("name", ["COCO_val2014_000000000009.jpg", "000000000009.jpg"])
def test_a_stated_name_that_is_absent_has_no_substitute(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"images/t/{name}")
    assert PictureFiles(tmp_path, "t").find("mine.jpg") is None


@pytest.mark.parametrize("folder", ["images/t", "t", "images"])
def test_a_stated_name_is_found_in_each_folder(tmp_path: Path, folder: str) -> None:
    put(tmp_path, f"{folder}/9.jpg", f"{folder}/sub/9.jpg")
    pictures = PictureFiles(tmp_path, "t")
    for name in ("9.jpg", "sub/9.jpg", "./9.jpg", "sub\\9.jpg"):
        found = pictures.find(name)
        assert found == tmp_path / folder / name.replace("\\", "/")
        assert found is not None
        assert pictures.find(pictures.name(found)) == found


@pytest.mark.parametrize("lie", ["images/t/images", "images/t", "images"])
def test_names_written_on_windows(tmp_path: Path, lie: str) -> None:
    names = {n + 1: f"images\\{n:012d}.jpg" for n in range(4)}
    raw = dataset(tmp_path / "raw", names)
    put(raw, *(f"{lie}/{n:012d}.jpg" for n in (0, 2, 3)))
    found, said = file_names(raw, tmp_path)
    assert {i: Path(name).name for i, name in found.items()} == {
        1: "000000000000.jpg", 3: "000000000002.jpg", 4: "000000000003.jpg"
    }  # fmt: skip
    assert "without image: 1, left out (images 2), looked for images\\000000000001.jpg" in said


def test_a_file_that_has_a_backslash_in_its_name_is_meant_first(tmp_path: Path) -> None:
    put(tmp_path, "images/t/a\\b.jpg", "images/t/a/b.jpg")
    pictures = PictureFiles(tmp_path, "t")
    assert pictures.find("a\\b.jpg") == tmp_path / "images/t/a\\b.jpg"
    assert pictures.find("a/b.jpg") == tmp_path / "images/t/a/b.jpg"


COMPOSED, DECOMPOSED = normalize("NFC", "hündchen.jpg"), normalize("NFD", "hündchen.jpg")


@pytest.mark.parametrize("written", [COMPOSED, DECOMPOSED])
def test_an_accent_is_the_same_in_one_code_point_or_two(tmp_path: Path, written: str) -> None:
    put(tmp_path, f"images/t/{written}", "images/t/hundchen.jpg")
    for stated in (COMPOSED, DECOMPOSED):
        assert PictureFiles(tmp_path, "t").find(stated) == tmp_path / "images/t" / written


def test_folders_are_left_out_only_where_the_name_stays_unique(tmp_path: Path) -> None:
    put(tmp_path, "images/t/1.jpg", "images/t/2.jpg", "images/t/b/3.jpg")
    names = ["a/1.jpg", "b/1.jpg", "a/2.jpg", "x/b/3.jpg", "4.jpg"]
    pictures = PictureFiles(tmp_path, "t", names)
    found = [path and path.relative_to(tmp_path / "images/t").as_posix() for path in map(pictures.find, names)]
    assert found == [None, None, "2.jpg", "b/3.jpg", None]
    # A name that no captions file states is taken as it is.
    assert PictureFiles(tmp_path, "t").find("a/2.jpg") is None


def test_a_bare_name_claims_its_file_from_one_with_folders(tmp_path: Path) -> None:
    put(tmp_path, "images/t/1.jpg")
    pictures = PictureFiles(tmp_path, "t", ["train/1.jpg", "1.jpg"])
    assert pictures.find("train/1.jpg") is None
    assert pictures.find("1.jpg") == tmp_path / "images/t/1.jpg"


@pytest.mark.parametrize("name", [".", "a/", "n" * 300, "n" * 5000, "a/" + "n" * 300, "a\0b", "a/b\0c", "\udc80"])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    put(tmp_path, "images/t/a/9.jpg")
    assert PictureFiles(tmp_path, "t", [name]).find(name) is None


@pytest.mark.parametrize("name", ["../out.jpg", "a/../../out.jpg", "/etc/passwd", "..\\out.jpg", "C:\\x.jpg", "a\0b"])
def test_names_that_lead_out_are_refused_wherever_they_are_stated(tmp_path: Path, name: str) -> None:
    raw = dataset(tmp_path / "raw", {1: name})
    put(raw, "images/out.jpg", "out.jpg", "images/t/1.jpg")
    with pytest.raises(ChatPainterError, match=r"captions_t\.json: images\[0\]: the file name '.*' (leads|is|has)"):
        prepare(raw, "t", tmp_path, KEEP, None)
    corpus.write([corpus.Row(1, name, None, None, [(1, "c")], [], "")], tmp_path / "t.parquet")
    with pytest.raises(ChatPainterError, match=r"t\.parquet: image 1: the file name '.*' (leads|is|has)"):
        prepare_pictures(tmp_path / "t.parquet", raw, "t", tmp_path / "out", ImagesSettings())


# Images that only a dialogue names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", files.PREFIXES)
def test_an_image_without_a_name_is_found_by_an_official_one(tmp_path: Path, prefix: str) -> None:
    put(tmp_path, f"images/t/{prefix}000000000009.jpg")
    pictures = PictureFiles(tmp_path, "t")
    assert pictures.find_official(9) == tmp_path / f"images/t/{prefix}000000000009.jpg"
    assert pictures.find_official(90) is None


def test_several_candidates_are_refused_by_name(tmp_path: Path) -> None:
    raw = dataset(tmp_path / "raw", {1: "1.jpg"}, others=(185565,))
    put(raw, "images/t/1.jpg", "images/000000185565.jpg", "images/VisualDialog_val2018_000000185565.jpg")
    with pytest.raises(
        ChatPainterError, match=r"image 185565: .*/000000185565\.jpg, .*VisualDialog_val2018_0"
    ) as caught:
        prepare(raw, "t", tmp_path / "out", KEEP, None)
    assert "\n" not in caught.value.message
    assert not (tmp_path / "out").exists()


def test_two_names_of_one_file_are_no_choice(tmp_path: Path) -> None:
    put(tmp_path, "images/t/000000000009.jpg")
    (tmp_path / "images/t/COCO_val2014_000000000009.jpg").symlink_to("000000000009.jpg")
    assert PictureFiles(tmp_path, "t").find_official(9) == tmp_path / "images/t/000000000009.jpg"


def test_visdials_own_pictures_are_not_cocos_of_the_same_number(tmp_path: Path) -> None:
    put(tmp_path, "images/t/000000000009.jpg", "images/t/VisualDialog_val2018_000000000007.jpg")
    pictures = PictureFiles(tmp_path, "t")
    assert pictures.find_official(9, files.VISDIAL_VAL) is None
    assert pictures.find_official(7, files.COCO) is None
    assert pictures.find_official(7, files.VISDIAL_VAL) is not None


# What may be wrong is counted ---------------------------------------------------------------------------------------


def test_two_images_that_name_one_file_are_counted(tmp_path: Path) -> None:
    raw = dataset(tmp_path / "raw", {1: "a.jpg", 2: "b.jpg", 3: "a.jpg", 4: "./a.jpg"})
    put(raw, "images/t/a.jpg", "images/t/b.jpg")
    _, said = file_names(raw, tmp_path)
    assert said == "files that several images name: 1 (a.jpg: images 1, 3, 4)"
    report = json.loads((tmp_path / "t.report.json").read_text())
    assert report["files_of_several_images"] == {"a.jpg": [1, 3, 4]}


def test_one_files_bytes_under_two_names_are_counted(tmp_path: Path) -> None:
    raw = dataset(tmp_path / "raw", {1: "a.png", 2: "b.png", 3: "c.png"})
    (raw / "images/t").mkdir(parents=True)
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        Image.new("RGB", (9, 9), colour).save(raw / "images/t" / f"{name}.png")
    prepare(raw, "t", tmp_path, KEEP, None)
    made = prepare_pictures(tmp_path / "t.parquet", raw, "t", tmp_path / "out", ImagesSettings(sizes=(8,)))
    assert made.repeated == [["a.png", "c.png"]]


def test_pictures_of_another_size_than_is_stated_are_counted(tmp_path: Path) -> None:
    """As they are stored, or as EXIF turns them; of what cannot be read nothing is said here."""
    folder = tmp_path / "images/t"
    folder.mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, exif in ((1, None), (2, None), (3, turned), (4, turned), (5, None), (6, None)):
        Image.new("RGB", (40, 30)).save(folder / f"{number}.jpg", exif=exif or Image.Exif())
    (folder / "6.jpg").write_bytes(b"no picture")
    stated = {1: (40, 30), 2: (30, 40), 3: (30, 40), 4: (40, 30), 5: (41, 30), 6: (1, 1), 7: (None, 30)}
    Image.new("RGB", (40, 30)).save(folder / "7.jpg")
    rows = [corpus.Row(n, f"{n}.jpg", *stated[n], [], [], "") for n in stated]
    corpus.write(rows, tmp_path / "t.parquet")
    settings = ImagesSettings(sizes=(8,), unreadable="skip")
    for _ in range(2):  # whatever an earlier run decoded
        made = prepare_pictures(tmp_path / "t.parquet", tmp_path, "t", tmp_path / "out", settings)
        assert made.other_size == [2, 5]
        assert list(made.unreadable) == [6]


def test_names_are_shown_on_one_line_whatever_they_hold(tmp_path: Path) -> None:
    raw = dataset(tmp_path / "raw", {1: "1.jpg", 2: "a\xa0b\u202e.jpg"})
    put(raw, "images/t/1.jpg")
    _, said = file_names(raw, tmp_path)
    assert said == "without image: 1, left out (images 2), looked for 'a\\xa0b\\u202e.jpg'"
