"""Oxford's 102 flowers (Nilsback and Zisserman, 2008), with Reed's ten captions a picture, as the archives unpack.

SOURCE/{imagelabels.mat,setid.mat,jpg/image_00001.jpg}
SOURCE/text_c10/CLASS/image_00001.txt
SOURCE/{train,test}/{filenames.pickle,class_info.pickle}      StackGAN's split by class; else Oxford's own three
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.corpora import classed
from pipeline.corpora.classed import ClassedPicture
from store.errors import ChatPainterError, one_line

REMEDY = "fetch it again from www.robots.ox.ac.uk/~vgg/data/flowers/102"
INFO = {
    "description": "102 flowers (Nilsback and Zisserman, 2008) with captions of Reed et al., 2016",
    "url": "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
}
SETS = {"train": "trnid", "val": "valid", "test": "tstid"}
_LARGEST = 1 << 20
_MOST = 1_000_000


def make(
    source: Path,
    raw: Path,
    started: Callable[[int], object] = lambda n: None,
    done: Callable[[], object] = lambda: None,
) -> dict[str, int]:
    """Write the flowers as folder `raw`; the pictures of each split.

    Args:
        started, done: as `classed.write`.

    Raises:
        ChatPainterError: names the file and what was expected.
    """
    labels = numbers(source / "imagelabels.mat", "labels")
    texts = _texts(classed.texts_folder(source))
    pictures = []
    for image_id, class_id in enumerate(labels, 1):
        name = f"image_{image_id:05d}"
        if name not in texts:
            raise ChatPainterError(f"{classed.texts_folder(source)}: no {name}.txt in any folder; unpack it again")
        pictures.append(ClassedPicture(image_id, name, source / "jpg" / f"{name}.jpg", texts[name], class_id))
    if classed.has_pickles(source):
        splits = classed.split_by_pickles(source, pictures, _stem)
    else:
        splits = {}
        for split, name in SETS.items():
            ids = numbers(source / "setid.mat", name)
            if outside := [number for number in ids if number > len(pictures)]:
                raise ChatPainterError(
                    f"{source / 'setid.mat'}: {name} has picture {outside[0]}, imagelabels.mat has {len(pictures):,}"
                )
            splits[split] = [pictures[number - 1] for number in ids]
        if len({number for ids in splits.values() for number in ids}) < sum(map(len, splits.values())):
            raise ChatPainterError(f"{source / 'setid.mat'}: a picture stands in two sets, or twice in one; {REMEDY}")
    return classed.write(raw, splits, INFO, {label: f"class {label}" for label in set(labels)}, started, done)


def numbers(path: Path, name: str) -> list[int]:
    """The variable `name` of a MATLAB file: whole numbers from 1 on.

    Raises:
        ChatPainterError: it is missing, no such file, larger than these are, or holds something else there.
    """
    import numpy as np
    from scipy.io import loadmat

    try:
        if path.stat().st_size > _LARGEST:
            raise ChatPainterError(f"{path}: larger than such a file is; {REMEDY}")
        found: Any = loadmat(path, variable_names=[name]).get(name)
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror or one_line(error)}); {REMEDY}") from None
    except ChatPainterError:
        raise
    # scipy's reader raises nearly anything over bytes that it did not expect.
    except Exception as error:
        why = one_line(error) or type(error).__name__
        raise ChatPainterError(f"{path}: not a MATLAB file that can be read ({why}); {REMEDY}") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf" or found.size == 0 or found.ndim != 2:
        raise ChatPainterError(f"{path}: has no row of numbers named {name!r}; {REMEDY}")
    values = found.reshape(-1).tolist()
    if min(found.shape) != 1 or not all(1 <= value < _MOST and int(value) == value for value in values):
        raise ChatPainterError(f"{path}: {name!r} is not a row of whole numbers from 1 on; {REMEDY}")
    return [int(value) for value in values]


def _texts(folder: Path) -> dict[str, Path]:
    """Captions by the picture's name; the folders between are Reed's classes."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*/image_*.txt")):
        if path.stem in found:
            raise ChatPainterError(f"{path}: the captions of {path.stem} lie in {found[path.stem].parent.name}, too")
        found[path.stem] = path
    return found


def _stem(name: str) -> str:
    """jpg/image_00001, image_00001.jpg → image_00001"""
    return name.rpartition("/")[2].removesuffix(".jpg")
