"""Your own pictures: a flat folder for generators, one folder per class for classifiers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ladle.training.data.dataset import Array, Contents, deal, distinct, take
from ladle.training.data.errors import DataError, counted
from ladle.training.data.readers import folders, images, name_tables
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

LAYOUT = (
    "a folder (or .tar, .zip) of pictures without labels, one folder per class, "
    "train/ with val/ or test/ and one folder per class in each, or a CSV of file names and classes"
)


def read(
    path: Path,
    seed: int,
    *,
    height: int | None = None,
    width: int | None = None,
    channels: int = 3,
    size: int | None = None,
    skip_broken: bool = False,
) -> Contents:
    """Images uint8 [n, height, width, channels]; labels int64 [n] if folders or a CSV name classes, else None.

    height, width  pixels; pictures are scaled to cover this size and cropped at the centre. Without them, all pictures
                   must have the same size
    channels       3 for colour, 1 for grey
    size           height and width in pixels, used only if the pictures differ in size and neither is given
    skip_broken    leave out files that cannot be read as pictures

    Without splits, the seed draws a tenth for validation and a tenth for test. Of equal pictures one is kept: that in
    test/ before those in validation/ and train/.

    DataError: no pictures, a class without training pictures, different sizes, or a file that is not a picture.
    """
    if channels not in images.MODES:
        raise DataError(f"image_folder: channels is {channels}; expected 1 (grey) or 3 (colour)")
    if (height is None) != (width is None):
        raise DataError("image_folder: got only one of height and width; expected both or neither")
    table = name_tables.find(path)
    home = path.parent if table == path else path
    files = images.pictures(home)
    if not files:
        raise DataError(f"{path}: holds no pictures ({', '.join(images.SUFFIXES)}); expected {LAYOUT}")
    if height is None and size is not None and images.differ(files.values()):
        height = width = size
    parents, given_split = _arranged(path, files, table)
    names = _classes(path, files, parents)
    x, broken = images.stack(home, files, images.MODES[channels], height, width, skip_broken)
    if broken:
        left = [i for i, name in enumerate(files) if name not in set(broken)]
        parents = [parents[i] for i in left]
        given_split = None if given_split is None else given_split[left]
    labels, y = names, None if names is None else np.array([names.index(p[0]) for p in parents], np.int64)
    # Duplicates across splits would let a network score on pictures that it was trained on.
    order = None if given_split is None else folders.first_kept(given_split)
    kept = distinct(x, order)
    doubles = f"; {counted(len(x) - len(kept), 'duplicate picture')} left out" if len(kept) < len(x) else ""
    doubles += "" if y is None else _in_two_classes(x, y, kept, names or (), [n for n in files if n not in set(broken)])
    if doubles:
        x, y = x[kept], None if y is None else y[kept]
        given_split = None if given_split is None else given_split[kept]
    if given_split is None:
        note = f"a tenth for validation and a tenth for test, drawn by seed {seed}"
        splits = deal(x, y, seed, 0.1, 0.1)
    else:
        train, validation, test, note = folders.indices(given_split, seed)
        splits = take(x, y, train), take(x, y, validation), take(x, y, test)
    _check_classes(path, labels, y, splits[0].y, given_split is not None)
    empty = "" if table else _empty_folders(home, files)
    read = tuple(file for file in files.values() if isinstance(file, Path) and file.is_file())
    if read and table:
        read += (table,)
    return Contents(*splits, labels, note + doubles + images.left_out(broken) + empty, files=read)


def _in_two_classes(x: Array, y: Array, kept: Array, labels: tuple[str, ...], names: list[str]) -> str:
    """A note of equal pictures that differ in their classes: the labels contradict each other."""
    left_out = np.setdiff1d(np.arange(len(x)), kept)
    first = {hashlib.sha256(np.ascontiguousarray(x[i]).data).digest(): i for i in kept} if len(left_out) else {}
    pairs = [(first[hashlib.sha256(np.ascontiguousarray(x[i]).data).digest()], i) for i in left_out]
    pairs = [(one, other) for one, other in pairs if y[one] != y[other]]
    if not pairs:
        return ""
    one, other = pairs[0]
    more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
    return f"; {names[one]} and {names[other]} are the same picture{more}, kept as {labels[y[one]]}"


def _empty_folders(home: Path, files: Iterable[str]) -> str:
    """A note of the folders that look like classes and hold no pictures: those would otherwise be missed in silence."""
    used = {part for name in files for part in PurePosixPath(name).parts[:-1]}
    beside = {home / part for name in files for part in PurePosixPath(name).parents}
    found = {each.name for folder in beside if folder.is_dir() for each in folder.iterdir() if each.is_dir()}
    empty = sorted(name for name in found - used if not images.is_hidden(name) and not name.startswith("_"))
    return f"; {', '.join(empty)}: no pictures, so no class" if empty else ""


def has_pictures(path: Path) -> bool:
    """Whether there is a picture in a folder, in an archive, or beside a CSV."""
    table = name_tables.find(path)
    home = path.parent if table == path else path
    return (home.is_dir() or home.name.lower().endswith(images.ARCHIVES)) and bool(images.pictures(home))


def _arranged(path: Path, files: Mapping[str, Any], table: Path | None) -> tuple[list[tuple[str, ...]], Array | None]:
    """The folders of each picture below those of the splits, or its class in the CSV; and its split, if it is given."""
    named = name_tables.read(table, files) if table else None
    if named is not None:
        splits = None if named.splits is None else np.array([named.splits[name] for name in files])
        if splits is None or folders.are_splits(path, set(splits)):
            return [(named.classes[name],) for name in files], splits
        return [(named.classes[name],) for name in files], None
    if table == path:
        raise DataError(f"{path}: names no picture of its folder; expected a column of file names and one of classes")
    parents = _parents(files)
    given = {parent[0].lower() for parent in parents if parent}
    if all(parents) and folders.are_splits(path, given):
        return [parent[1:] for parent in parents], np.array([folders.NAMES[parent[0].lower()] for parent in parents])
    return parents, None


def _check_classes(
    path: Path, labels: tuple[str, ...] | None, y: Array | None, trained: Array | None, split: bool
) -> None:
    """DataError for a class without training pictures: a network would be asked for what it never saw."""
    if labels is None or y is None or trained is None:
        return
    for missing in np.setdiff1d(np.arange(len(labels)), trained):
        count = int((y == missing).sum())
        if split:
            raise DataError(
                f"{path}: class {labels[missing]} has test pictures but none in train/; add some or remove the class"
            )
        raise DataError(
            f"{path}: class {labels[missing]} has {counted(count, 'picture')}, too few to train on and to "
            "test; add some or remove the class"
        )


def _parents(files: Iterable[str]) -> list[tuple[str, ...]]:
    """The folders of each picture, without those that all pictures share: archives often have one at the top."""
    parents = [PurePosixPath(name).parts[:-1] for name in files]
    depth = 0
    while all(len(parts) > depth for parts in parents) and len({parts[depth] for parts in parents}) == 1:
        depth += 1
    return [parts[depth:] for parts in parents]


def _classes(path: Path, files: Iterable[str], parents: list[tuple[str, ...]]) -> tuple[str, ...] | None:
    names = sorted({parent[0] for parent in parents if parent})
    if not names:
        return None
    if outside := [name for name, parent in zip(files, parents, strict=True) if not parent]:
        raise DataError(
            f"{path}: {outside[0]} lies in no class folder, as others do ({names[0]}/); move "
            f"{'it' if len(outside) == 1 else f'the {len(outside):,} such pictures'} into one, or away"
        )
    return tuple(names)


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
