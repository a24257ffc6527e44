"""CUB-200-2011 and Oxford's flowers as their archives unpack, of a few small pictures."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

BIRDS = {
    1: ("001.Auk/Auk_0001_11", 1, (10.0, 5.0, 20.0, 10.0), 1),
    2: ("001.Auk/Auk_0002_12", 1, (0.0, 0.0, 60.0, 40.0), 0),
    4: ("002.Wren/Wren_0001_13", 2, (40.5, 30.9, 19.9, 8.2), 1),
    7: ("003.Ibis/Ibis_0001_14", 3, (3.0, 20.0, 7.0, 15.0), 0),
}
"""Number → name, class, box, whether CUB trains on it."""
SIZE = (60, 40)


def picture(number: int) -> Image.Image:
    """Noise of its own, so that a crop says where it is from."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8))


def write_captions(path: Path, captions: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(captions) + "\n", encoding="utf-8")


def write_cub(source: Path) -> None:
    folder = source / "CUB_200_2011"
    for number, (name, *_) in BIRDS.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / "images" / f"{name}.jpg", format="PNG")  # by content, and without loss
        write_captions(source / "text_c10" / f"{name}.txt", [f"a bird,  number {number}", "", f"its beak is {number}"])
    lines = {
        "images.txt": [f"{number} {name}.jpg" for number, (name, *_) in BIRDS.items()],
        "image_class_labels.txt": [f"{number} {label}" for number, (_, label, *_) in BIRDS.items()],
        "bounding_boxes.txt": [f"{n} " + " ".join(map(str, box)) for n, (_, _, box, _) in BIRDS.items()],
        "train_test_split.txt": [f"{number} {train}" for number, (*_, train) in BIRDS.items()],
    }
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n")


def write_pickles(source: Path, splits: Mapping[str, Sequence[str]], classes: Mapping[str, Sequence[int]]) -> None:
    """StackGAN's splits, as Python 2 wrote them: protocol 0."""
    for split, names in splits.items():
        (source / split).mkdir(parents=True, exist_ok=True)
        (source / split / "filenames.pickle").write_bytes(pickle.dumps(list(names), 0))
        (source / split / "class_info.pickle").write_bytes(pickle.dumps(list(classes[split]), 0))


def write_oxford(source: Path) -> None:
    """Five flowers of classes 77, 77, 3, 3, 9; sets of two, two and one."""
    from scipy.io import savemat

    labels = [77, 77, 3, 3, 9]
    (source / "jpg").mkdir(parents=True)
    for number, label in enumerate(labels, 1):
        picture(number).save(source / "jpg" / f"image_{number:05d}.jpg")
        write_captions(source / "text_c10" / f"class_{label:05d}" / f"image_{number:05d}.txt", [f"flower {number}"])
    savemat(source / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    savemat(source / "setid.mat", {"trnid": np.array([[1, 4]]), "valid": np.array([[3, 5]]), "tstid": np.array([[2]])})
