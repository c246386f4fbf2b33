"""Any folder of pictures: flat for generators, a folder a class for classifiers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from ladle.training.data.dataset import Array, Contents, deal, distinct, take
from ladle.training.data.errors import DataError
from ladle.training.data.readers import folders as _split_folders
from ladle.training.data.readers import images
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

LAYOUT = (
    "a folder (or .tar, .zip) of pictures: all in it (no labels), a folder a class, "
    "or train/ and test/ (and validation/) with a folder a class"
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
    """Images uint8 [n, height, width, channels]; labels int64 [n] where folders name them, else None.

    height, width  pixels; pictures are scaled to cover them and cut at the centre. Without, all must agree
    channels       3 colour, 1 grey
    size           height and width in pixels for pictures that do not agree, where neither is given

    Without split folders, a tenth is validation and a tenth test, drawn by the seed. Of pictures with the same pixels
    one is kept, that of test/ before that of validation/ and train/. DataError: no pictures,
    a class that train/ lacks, sizes that differ, a file that is no picture.
    """
    if channels not in images.MODES:
        raise DataError(f"image_folder: channels is {channels}; 1 (grey) or 3 (colour) is wanted")
    if (height is None) != (width is None):
        raise DataError("image_folder: give both height and width, or neither")
    files = images.pictures(path)
    if not files:
        raise DataError(f"{path}: holds no pictures ({', '.join(images.SUFFIXES)}); wanted {LAYOUT}")
    if height is None and size is not None and images.differ(path, files):
        height = width = size
    x = images.stack(path, files, images.MODES[channels], height, width)
    parents = _folders(files)
    given = {parent[0].lower() for parent in parents if parent}
    if _split_folders.complete(given) and all(parents):
        given_split = np.array([_split_folders.NAMES[parent[0].lower()] for parent in parents])
        parents = [parent[1:] for parent in parents]
    else:
        given_split = None
    labels, y = _classes(path, parents)
    order = None if given_split is None else _split_folders.first_kept(given_split)
    kept = distinct(x, order)
    doubles = f"; {len(x) - len(kept)} pictures that occur twice left out" if len(kept) < len(x) else ""
    if doubles:
        x, y = x[kept], None if y is None else y[kept]
        given_split = None if given_split is None else given_split[kept]
    if given_split is None:
        note = f"a tenth for validation and a tenth for test, drawn by seed {seed}{doubles}"
        return Contents(*deal(x, y, seed, 0.1, 0.1), labels, note)
    train, validation, test, note = _split_folders.indices(given_split, seed)
    if y is not None and labels is not None:
        for held in np.setdiff1d(y, y[train]):
            raise DataError(f"{path}: class {labels[held]} has pictures to test on but none in train/")
    splits = take(x, y, train), take(x, y, validation), take(x, y, test)
    return Contents(*splits, labels, note + doubles)


def _folders(files: Iterable[str]) -> list[tuple[str, ...]]:
    """Each picture's folders, below those that all share: an archive often begins with one."""
    folders = [PurePosixPath(name).parts[:-1] for name in files]
    depth = 0
    while all(len(parts) > depth for parts in folders) and len({parts[depth] for parts in folders}) == 1:
        depth += 1
    return [parts[depth:] for parts in folders]


def _classes(path: Path, parents: list[tuple[str, ...]]) -> tuple[tuple[str, ...] | None, Array | None]:
    names = sorted({parent[0] for parent in parents if parent})
    if not names:
        return None, None
    if not all(parents):
        raise DataError(
            f"{path}: has pictures both in class folders ({names[0]}, ...) and beside them; move the latter"
        )
    return tuple(names), np.array([names.index(parent[0]) for parent in parents], np.int64)


DATASETS = [
    Entry(
        name="image_folder",
        kind="images",
        description="your own pictures: faces for generators, classes for classifiers",
        origin="the user",
        licence="the user's",
        splits="80/10/10 % by seed, or as train/ and test/ give them",
        layout=LAYOUT,
        read=read,
        generate=synthetic.digits,
        generated_name="synthetic_digits",
    )
]
