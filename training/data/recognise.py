"""Recognises what the user's own files are, so that `--data PATH` needs no name of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ladle.training.data.dataset import Kind
from ladle.training.data.errors import DataError, counted
from ladle.training.data.readers import idx, images, name_tables, tables
from ladle.training.data.sets import image_folder, mask_folder

PACKED = (".gz", ".npz", ".bin", ".pkl", ".mat", ".tar", ".tgz", ".nii")
"""Endings of the files that published data sets come in, besides files without an ending."""
NAMED = 3


def recognise(path: Path, kind: Kind, default: str) -> str:
    """The name of the data set whose layout the files at `path` have.

    kind     what the network takes
    default  the network's own data set, whose files the user may have too, such as MNIST's IDX files

    DataError: they are of another kind, or of none that is known; it names what was looked for.
    """
    if not path.exists() or kind not in ("images", "masks"):
        return default  # its reader says what it expects
    masks = path.is_dir() and mask_folder.holds_masks(path)
    if kind == "masks":
        if not masks:
            _refuse_without_masks(path)
        return "mask_folder" if masks else default
    if masks:
        raise DataError(
            f"{path}: holds pictures with masks (image/ and mask/); expected pictures with classes: train a network "
            "that segments, such as unet"
        )
    if image_folder.has_pictures(path):
        return "image_folder"
    files = [path] if path.is_file() else [*images.files_below(path).values()]
    _refuse_by_name(path, files)
    if any(not file.suffix or file.suffix.lower() in PACKED for file in files):
        return default
    raise DataError(
        f"{path}: holds {_named(files)}; looked for pictures (.jpg, .png and others) in a folder per class, in "
        "train/ with val/ or test/, or named with their classes in a CSV; for pictures with masks in image/ and mask/; "
        f"and for IDX files ({idx.LAYOUT})"
    )


def _refuse_without_masks(path: Path) -> None:
    """DataError for what is neither pictures with masks nor the files of a published set, such as img2d.tif."""
    beside = sorted(path.iterdir()) if path.is_dir() else []
    if any(file.name.lower().endswith((*PACKED, ".tif")) for file in beside):
        return
    found = [f"{each.name}/" if each.is_dir() else each.name for each in beside if not images.is_hidden(each.name)]
    shown = ", ".join(found[:NAMED]) + ", ..." * (len(found) > NAMED)
    what = f"holds {shown or 'nothing'}" if path.is_dir() else "is a file"
    raise DataError(
        f"{path}: {what}; expected a folder with image/ and mask/, whose files have the same names, or with train/, "
        "val/ and test/ that hold both"
    )


def _refuse_by_name(path: Path, files: Sequence[Path]) -> None:
    """DataError for what the names of the files tell: archives, one picture, or a table."""
    packed = [file for file in files if file.name.lower().endswith((".zip", *images.OTHER_ARCHIVES))]
    if packed and len(packed) == len(files):
        if path.is_file() and path.suffix.lower() != ".zip":
            raise DataError(f"{path}: is an archive that Ladle does not read; unpack it, or pack it as .zip or .tar")
        what = "holds no pictures" if path.is_file() else f"holds no pictures but {_named(files)}"
        raise DataError(f"{path}: {what}; unpack it and give a folder of pictures, or a table")
    if len(files) > 1 or not path.is_file():
        return
    if images.is_picture(path.name):
        raise DataError(f"{path}: is a single picture; expected a folder of pictures, with a folder for each class")
    if path.suffix.lower() not in PACKED:
        tables.refuse_other_formats(path)
    if tables.is_table(path):
        raise DataError(
            f"{path}: is a table, and names no pictures beside it; expected pictures: for a table, "
            f"ladle train mlp --data {path.name} --target COLUMN"
        )


def holds_table(path: Path) -> bool:
    """Whether the user's files are a table with a header row, and not the names of pictures beside it."""
    if path.is_dir():
        found = [file for file in path.iterdir() if tables.is_table(file)]
        return len(found) == 1 and not images.pictures(path) and tables.has_header(found[0])
    if not path.is_file() or not tables.is_table(path) or not tables.has_header(path):
        return False
    try:
        return name_tables.find(path) is None or name_tables.read(path, images.pictures(path.parent)) is None
    except DataError:  # it names pictures, but not as it should: the reader of pictures tells
        return False


def _named(files: Iterable[Path]) -> str:
    names = [file.name for file in files]
    shown = f"({', '.join(names[:NAMED])}{', ...' * (len(names) > NAMED)})"
    return f"{counted(len(names), 'file')} {shown}" if names else "no files"
