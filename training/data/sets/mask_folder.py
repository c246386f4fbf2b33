"""Your own pictures with masks, paired by name in image/ and mask/, also inside train/ and test/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ladle.models._network import VOID
from ladle.training.data.dataset import Array, Contents, Split, distinct, part, split_indices
from ladle.training.data.errors import DataError, counted
from ladle.training.data.readers import files as files_
from ladle.training.data.readers import folders, images
from ladle.training.data.readers.coloured_masks import Coloured
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

IMAGES = ("image", "images", "img", "imgs", "jpegimages")
MASKS = ("mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentationclass")
"""Names of folders, in lower case."""
MARKS = ("_mask", "-mask", "_masks", "_label", "_seg", "_gt", "_segmentation")
"""What names of masks have behind those of their pictures, in some data sets."""
MOST_CLASSES = 64
LAYOUT = (
    "a folder with image/ and mask/ (or label/), files paired by name; masks 0 and 255, class ids or colours; "
    "labels.txt; or train/ with val/ or test/, with an image/ and a mask/ each"
)


def read(
    path: Path,
    seed: int,
    *,
    channels: int | None = None,
    tile: int | None = None,
    in_order: bool = False,
    skip_broken: bool = False,
    void: int = -1,
) -> Contents:
    """Images uint8 [n, h, w, c], masks uint8 [n, h, w] of class ids.

    channels     1 for grey, 3 for colour; None: grey if all pictures are
    tile         side in pixels of square tiles, without overlap, into which pictures are cut; None: not cut
    skip_broken  leave out pictures that cannot be read or whose mask cannot
    void         value of mask pixels that do not count; they become VOID. -1: all count
    in_order     take the last pictures by name for test and those before them for validation, instead of drawing them
                 by the seed: for slices of a stack, whose neighbours look alike

    Masks with the values 0 and one other, such as 255, become 0 and 1. `labels.txt` has the class names, one per line.
    If any mask is in colour, the colours of all are classes, in the order of a legend (`readers.coloured_masks`).
    Without split folders, a tenth of the pictures is validation and a fifth test; tiles of one picture stay in one
    split. Of equal pictures the first by name is kept: that in test/ before those in validation/ and train/.

    DataError: no pairs, a picture without a mask, different sizes, unknown colours, or masks that show nothing.
    """
    split_of = _split_of(path)
    found = [(split, pair) for folder, split in split_of.items() for pair in _pairs(folder)]
    every = [pair for _, pair in found]
    named: tuple[str, ...] = ()
    try:
        x, y, broken = _load(path, every, channels, tile, skip_broken, _mask)
    except _InColourError:  # grey masks among them were read as class ids, so all are read again
        colours = Coloured(path, MOST_CLASSES)
        x, y, broken = _load(path, every, channels, tile, skip_broken, colours.ids)
        table, named = colours.ordered()
        y = table[y]
        named = named[:-1] if void == len(named) - 1 else named
    found = [entry for entry in found if entry[1][0] not in broken]
    given, pairs = [split for split, _ in found], [pair for _, pair in found]
    per = len(x) // len(pairs)
    kept = distinct(x.reshape(len(pairs), -1), folders.first_kept(given) if len(split_of) > 1 else None)
    if len(kept) < len(pairs):
        pieces = (kept[:, None] * per + np.arange(per)).ravel()
        x, y = x[pieces], y[pieces]
    unlabelled = y == void
    ids = np.unique(y[~unlabelled])
    if not len(ids):
        raise DataError(f"{path}: every pixel has the value {void}, which does not count; give another --void")
    if void >= 0 and not unlabelled.any():
        raise DataError(f"{path}: got --void {void}; expected a value that some mask has, of pixels without a class")
    if len(ids) == 1:
        what = "are empty" if not ids[0] else f"have the value {ids[0]} everywhere"
        raise DataError(
            f"{path}: all {len(pairs)} masks {what}; expected objects with other values than the background"
        )
    if len(ids) == 2 and ids[0] == 0 and not named:  # 0 and 255, as drawing programs save masks
        np.minimum(y, 1, out=y)
        ids = np.array([0, 1])
    y[unlabelled] = VOID
    if ids[-1] >= MOST_CLASSES:
        raise DataError(
            f"{path}: its masks have {len(ids)} values up to {ids[-1]}; expected class ids from 0 "
            f"to {MOST_CLASSES - 1}, or 0 and 255"
            + (
                f"; if {ids[-1]} marks pixels without a class, give --void {ids[-1]}"
                if len(ids) <= MOST_CLASSES and ids[-2] < MOST_CLASSES and void < 0
                else " (JPEG blurs masks: keep them as PNG)"
            )
        )
    labels = named or _labels(path, int(ids[-1]) + 1)
    count = len(kept)
    if len(split_of) > 1:
        *dealt, how = folders.indices([given[i] for i in kept], seed)
    else:
        *dealt, how = _dealt(count, seed, in_order)
    splits = []
    for indices in dealt:  # whole pictures are split, then expanded to their tiles
        pieces = (indices[:, None] * per + np.arange(per)).ravel()
        splits.append(Split(x[pieces], y[pieces]))
    trained = np.asarray(splits[0].y)
    trained = trained[trained != VOID]
    if trained.size and trained.min() == trained.max():
        raise DataError(
            f"{path}: the masks of all {len(dealt[0])} training pictures are empty; add pictures with objects"
        )
    note = f"{count} pictures, {how}"
    note += f"; each cut into {per} tiles of {tile}x{tile}" if tile else ""
    note += f"; mask value {void} does not count, {unlabelled.mean():.1%} of the pixels" if void >= 0 else ""
    note += "; the colours of the masks are classes" if named else ""
    doubles = len(pairs) - count
    note += f"; {counted(doubles, 'duplicate picture')} left out" if doubles else ""
    note += images.left_out([file.name for file in broken])
    files = tuple(file for pair in pairs for file in pair)
    return Contents(splits[0], splits[1], splits[2], labels, note, files=files, name="mask_folder")


def _dealt(count: int, seed: int, in_order: bool) -> tuple[Array, Array, Array, str]:
    validation, test = part(count, 0.1), part(count, 0.2)
    how = "a tenth for validation and a fifth for test, "
    if in_order:
        train_i, validation_i, test_i = np.split(np.arange(count), [count - validation - test, count - test])
        return train_i, validation_i, test_i, how + "the last ones by name"
    return *split_indices(count, seed, validation, test), how + f"drawn by seed {seed}"


def is_folder(path: Path) -> bool:
    """Whether a folder has the layout of this data set."""
    return len(_split_of(path)) > 1 or (_sub(path, IMAGES) is not None and _sub(path, MASKS) is not None)


def holds_masks(path: Path) -> bool:
    """Whether a folder, or one of its splits, has pictures and masks in folders of their own."""
    return any(_sub(folder, IMAGES) and _sub(folder, MASKS) for folder in _split_of(path))


def _split_of(path: Path) -> dict[Path, str]:
    """Folders with image/ and mask/ -> their split: train/, test/ and perhaps validation/, or only `path` -> ''."""
    if _sub(path, IMAGES) is None and path.is_dir():
        named = {folder: folder.name.lower() for folder in sorted(path.iterdir()) if folder.is_dir()}
        if folders.are_splits(
            path, {name for folder, name in named.items() if name in folders.NAMES or _sub(folder, IMAGES)}
        ):
            return {folder: folders.NAMES[name] for folder, name in named.items() if name in folders.NAMES}
    return {path: ""}


def _sub(path: Path, names: tuple[str, ...]) -> Path | None:
    if not path.is_dir():
        return None
    found = {folder.name.lower(): folder for folder in sorted(path.iterdir(), reverse=True) if folder.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _pairs(path: Path) -> list[tuple[Path, Path]]:
    image_folder, mask_folder = _sub(path, IMAGES), _sub(path, MASKS)
    if image_folder is None or mask_folder is None:
        raise DataError(f"{path}: has no {'image/' if image_folder is None else 'mask/'}; expected {LAYOUT}")
    by_stem = [_by_stem(folder) for folder in (image_folder, mask_folder)]
    if not by_stem[0].keys() & by_stem[1].keys():
        by_stem[1] = _without_marks(by_stem[1], by_stem[0])
    for folder, files in zip((image_folder, mask_folder), by_stem, strict=True):
        if not files:
            raise DataError(f"{folder}: holds no pictures; expected {LAYOUT}")
    for stem, file in by_stem[0].items():
        if stem not in by_stem[1]:
            raise DataError(f"{file}: has no mask of the same name in {mask_folder}; add it or remove the picture")
    for stem, file in by_stem[1].items():
        if stem not in by_stem[0]:
            raise DataError(f"{file}: has no picture of the same name in {image_folder}; add it or remove the mask")
    return [(by_stem[0][stem], by_stem[1][stem]) for stem in sorted(by_stem[0])]


def _by_stem(folder: Path) -> dict[str, Path]:
    """The pictures below a folder by relative name without ending. DataError: two differ in their endings alone."""
    found: dict[str, Path] = {}
    for name, file in images.files_below(folder).items():
        stem = PurePosixPath(name).with_suffix("").as_posix()
        if images.is_picture(name) and found.setdefault(stem, file) != file:
            raise DataError(f"{file}: has the name of {found[stem].name} but for its ending; remove one of them")
    return found


def _without_marks(masks: dict[str, Path], pictures: dict[str, Path]) -> dict[str, Path]:
    """Masks by the names of their pictures, if all have the same mark behind those; else as they are."""
    for mark in MARKS:
        if masks and all(stem.endswith(mark) for stem in masks):
            named = {stem.removesuffix(mark): file for stem, file in masks.items()}
            return named if named.keys() & pictures.keys() else masks
    return masks


def _load(
    path: Path,
    pairs: list[tuple[Path, Path]],
    channels: int | None,
    tile: int | None,
    skip_broken: bool,
    ids: Callable[[Path, Image.Image], Array],
) -> tuple[Array, Array, list[Path]]:
    """Pictures and masks, cut into tiles; and the pictures left out because they or their masks are broken."""
    x: Array | None = None
    y: Array | None = None
    mode = images.MODES.get(channels) if channels else None
    if channels and mode is None:
        raise DataError(f"mask_folder: channels is {channels}; expected 1 (grey) or 3 (colour)")
    if mode is None:
        mode = images.MODES[1 if images.grey(image for image, _ in pairs) else 3]
    broken: dict[str, DataError] = {}
    left_out: list[Path] = []
    i = 0
    for image_file, mask_file in pairs:
        try:
            image = images.decode(str(image_file), image_file, mode)
            picture_of_mask = images.decode(str(mask_file), mask_file, None)
        except DataError as error:
            broken[image_file.name] = error
            left_out.append(image_file)
            continue
        pixels = np.asarray(image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels  # [h, w, c]
        mask = ids(mask_file, picture_of_mask)
        if mask.shape != pixels.shape[:2]:
            raise DataError(
                f"{mask_file}: is {mask.shape[0]}x{mask.shape[1]}, its picture {pixels.shape[0]}x{pixels.shape[1]} "
                "(height x width); expected masks of the same size as their pictures"
                + (", upright as EXIF data turn them" if mask.shape == pixels.shape[1::-1] else "")
            )
        image_tiles, mask_tiles = tiles(str(image_file), pixels, tile), tiles(str(mask_file), mask, tile)
        if x is None or y is None:
            x = np.empty((len(pairs) * len(image_tiles), *image_tiles.shape[1:]), np.uint8)
            y = np.empty((len(pairs) * len(mask_tiles), *mask_tiles.shape[1:]), np.uint8)
        per = len(x) // len(pairs)
        if image_tiles.shape != (per, *x.shape[1:]):
            raise DataError(
                f"{image_file}: is {pixels.shape[0]}x{pixels.shape[1]}; expected the size of the first picture, "
                f"{pairs[0][0].name}: resize one of them"
            )
        x[i * per : (i + 1) * per], y[i * per : (i + 1) * per] = image_tiles, mask_tiles
        i += 1
    images.refuse_broken(path, broken, len(pairs), skip_broken)
    assert x is not None
    assert y is not None
    filled = i * (len(x) // len(pairs))
    return x[:filled], y[:filled], left_out


class _InColourError(Exception):
    """A mask is in colour, so that grey values are no class ids."""


def _mask(path: Path, image: Image.Image) -> Array:
    """Class ids uint8 [h, w] from grey values, palette indices, bits or the alpha channel.

    Alpha counts if the colours say nothing. _InColourError: the channels differ.
    """
    if image.mode in ("L", "P"):
        return np.array(image)
    if image.mode == "1":
        return np.array(image, np.uint8)
    values = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        colours, alpha = values[..., :-1], values[..., -1]
        if alpha.min() != alpha.max():
            if all(colours[..., k].min() == colours[..., k].max() for k in range(colours.shape[-1])):
                return np.array(alpha)
            if (
                len(np.unique(np.concatenate([colours, alpha[..., None]], -1).reshape(-1, values.shape[-1]), axis=0))
                > 2
            ):
                raise DataError(
                    f"{path}: has one mask in its colours and another in its alpha channel; keep one of them"
                )
        values = colours
    if values.ndim == 3:
        if (values[..., :1] != values[..., :3]).any():
            raise _InColourError
        values = values[..., 0]
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{path}: has values {values.min()} to {values.max()}; expected class ids from 0 to 255")
    return values.astype(np.uint8)


def tiles(name: str, pixels: Array, size: int | None) -> Array:
    """Cut [h, w, ...] into tiles [n, size, size, ...] without overlap; a remainder at right and bottom is dropped."""
    if size is None:
        return pixels[None]
    rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
    if size < 1 or not rows * columns:
        raise DataError(
            f"{name}: is {pixels.shape[0]}x{pixels.shape[1]}; no tile of {size}x{size} fits: choose a smaller tile"
        )
    rest = pixels.shape[2:]
    cut = pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, *rest)
    return cut.swapaxes(1, 2).reshape(rows * columns, size, size, *rest)


def _labels(path: Path, count: int) -> tuple[str, ...]:
    file = path / "labels.txt"
    if file.is_file():
        names = tuple(line.strip() for line in files_.text(file).splitlines() if line.strip())
        if len(names) < count:
            raise DataError(f"{file}: names {len(names)} classes; expected {count}, as a mask has class {count - 1}")
        return names
    return ("background", "object") if count <= 2 else tuple(f"class {k}" for k in range(count))


DATASETS = [
    Entry(
        name="mask_folder",
        kind="masks",
        description="your own pictures with masks",
        origin="the user",
        licence="the user's",
        splits="70/10/20 % of the pictures by seed, or as in train/ and test/",
        layout=LAYOUT,
        read=read,
        generate=synthetic.blobs,
        generated_name="synthetic_blobs",
    )
]
