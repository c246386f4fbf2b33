"""Your own pictures: a flat folder for generators, one folder per class for classifiers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from ladle.training.data.dataset import Array, Contents, deal, distinct, take
from ladle.training.data.errors import DataError
from ladle.training.data.readers import folders, images
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

LAYOUT = (
    "a folder (or .tar, .zip) of pictures without labels, one folder per class, "
    "or train/ and test/ (and validation/) with one folder per class"
)


def read(
    path: Path,
    seed: int,
    *,
    height: int | None = None,
    width: int | None = None,
    channels: int = 3,
    size: int | None = None,
) -> Contents:
    """Images uint8 [n, height, width, channels]; labels int64 [n] if folders name classes, else None.

    height, width  pixels; pictures are scaled to cover this size and cropped at the centre. Without them, all pictures
                   must have the same size
    channels       3 for colour, 1 for grey
    size           height and width in pixels, used only if the pictures differ in size and neither is given

    Without split folders, the seed draws a tenth for validation and a tenth for test. Of equal pictures one is kept:
    that in test/ before those in validation/ and train/.

    DataError: no pictures, a class without training pictures, different sizes, or a file that is not a picture.
    """
    if channels not in images.MODES:
        raise DataError(f"image_folder: channels is {channels}; expected 1 (grey) or 3 (colour)")
    if (height is None) != (width is None):
        raise DataError("image_folder: got only one of height and width; expected both or neither")
    files = images.pictures(path)
    if not files:
        raise DataError(f"{path}: holds no pictures ({', '.join(images.SUFFIXES)}); expected {LAYOUT}")
    if height is None and size is not None and images.differ(path, files):
        height = width = size
    x = images.stack(path, files, images.MODES[channels], height, width)
    parents = _parents(files)
    given = {parent[0].lower() for parent in parents if parent}
    if folders.complete(given) and all(parents):
        given_split = np.array([folders.NAMES[parent[0].lower()] for parent in parents])
        parents = [parent[1:] for parent in parents]
    else:
        given_split = None
    labels, y = _classes(path, parents)
    # Duplicates across splits would let a network score on pictures that it was trained on.
    order = None if given_split is None else folders.first_kept(given_split)
    kept = distinct(x, order)
    doubles = f"; {len(x) - len(kept)} duplicate pictures left out" if len(kept) < len(x) else ""
    if doubles:
        x, y = x[kept], None if y is None else y[kept]
        given_split = None if given_split is None else given_split[kept]
    if given_split is None:
        note = f"a tenth for validation and a tenth for test, drawn by seed {seed}{doubles}"
        return Contents(*deal(x, y, seed, 0.1, 0.1), labels, note)
    train, validation, test, note = folders.indices(given_split, seed)
    if y is not None and labels is not None:
        for held in np.setdiff1d(y, y[train]):
            raise DataError(
                f"{path}: class {labels[held]} has test pictures but none in train/; add some or remove the class"
            )
    splits = take(x, y, train), take(x, y, validation), take(x, y, test)
    return Contents(*splits, labels, note + doubles)


def _parents(files: Iterable[str]) -> list[tuple[str, ...]]:
    """The folders of each picture, without those that all pictures share: archives often have one at the top."""
    parents = [PurePosixPath(name).parts[:-1] for name in files]
    depth = 0
    while all(len(parts) > depth for parts in parents) and len({parts[depth] for parts in parents}) == 1:
        depth += 1
    return [parts[depth:] for parts in parents]


def _classes(path: Path, parents: list[tuple[str, ...]]) -> tuple[tuple[str, ...] | None, Array | None]:
    names = sorted({parent[0] for parent in parents if parent})
    if not names:
        return None, None
    if not all(parents):
        raise DataError(
            f"{path}: has pictures both in class folders ({names[0]}, ...) and outside of them; move the latter"
        )
    return tuple(names), np.array([names.index(parent[0]) for parent in parents], np.int64)


DATASETS = [
    Entry(
        name="image_folder",
        kind="images",
        description="your own pictures: faces for generators, classes for classifiers",
        origin="the user",
        licence="the user's",
        splits="80/10/10 % by seed, or as in train/ and test/",
        layout=LAYOUT,
        read=read,
        generate=synthetic.digits,
        generated_name="synthetic_digits",
    )
]
