"""Writes a data set of pictures as PNG files in train/, validation/ and test/, like a folder of your own data.

`image_folder` and `mask_folder` read these folders, with the same splits. They keep one of several equal pictures.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ladle.training.data.dataset import Array, Dataset, Kind, Provenance
from ladle.training.data.errors import DataError

PROVENANCE = "provenance.json"
COLOURS = (0, 0, 0, 230, 159, 0, 86, 180, 233, 0, 158, 115, 240, 228, 66, 0, 114, 178, 213, 94, 0, 204, 121, 167)
"""Palette of masks: Okabe and Ito's colours, black first. The pixel values stay class ids; viewers show the colours."""


def write(dataset: Dataset, folder: Path) -> int:
    """Write all pictures of `dataset` below `folder` and return their number. The folder appears only when complete.

    Pictures with classes lie in one folder per class. Masks of two classes have the values 0 and 255; masks of more
    classes have class ids and a palette. labels.txt has the class names. provenance.json has origin and licence; the
    registry reads it with the pictures, so that generated data stay marked as synthetic.

    DataError: the data set has no pictures, `folder` exists and is not empty, or it cannot be written.
    """
    check(dataset.name, dataset.kind, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, as a rename works within one file system only.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
            whole = Path(work, "whole")
            whole.mkdir()
            count = _fill(dataset, whole)
            whole.replace(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    return count


def check(name: str, kind: Kind, folder: Path) -> None:
    """DataError when a data set of this kind cannot be written to `folder`; called before anything is fetched."""
    if kind not in ("images", "masks"):
        raise DataError(f"{name} holds {kind}; expected images or masks, which can be written as picture files")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: already exists; give the name of a new folder")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error


def provenance(path: Path) -> Provenance | None:
    """Provenance of a folder that `write` made; None for other folders. DataError when it cannot be read."""
    file = path / PROVENANCE
    if not file.is_file():
        return None
    try:
        found = Provenance(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{file}: cannot be read as `ladle data write` writes it; remove it or write the set again"
        ) from error
    return found


def _fill(dataset: Dataset, folder: Path) -> int:
    count = 0
    classes = _classes(dataset) if dataset.kind == "images" else ()
    for name in dataset.sizes():
        split = getattr(dataset, name)
        for i, pixels in enumerate(split.x):
            file = f"{i:05d}.png"
            if split.y is None:
                _save(Image.fromarray(_plain(pixels)), folder / name / file)
            elif dataset.kind == "images":
                _save(Image.fromarray(_plain(pixels)), folder / name / classes[split.y[i]] / file)
            else:
                _save(Image.fromarray(_plain(pixels)), folder / name / "image" / file)
                _save(_mask(split.y[i], len(dataset.labels or ())), folder / name / "mask" / file)
            count += 1
    if dataset.kind == "masks" and dataset.labels:
        (folder / "labels.txt").write_text("\n".join(dataset.labels) + "\n", encoding="utf-8")
    written = json.dumps(dataset.provenance.as_dict(), indent=1, ensure_ascii=False)
    (folder / PROVENANCE).write_text(written + "\n", encoding="utf-8")
    return count


def _plain(pixels: Array) -> Array:
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _classes(dataset: Dataset) -> tuple[str, ...]:
    """Folder names of the classes, numbered if needed: readers number classes in the order of the names."""
    numbers = [y for split in (dataset.train, dataset.validation, dataset.test) if (y := split.y) is not None]
    labels = dataset.labels or tuple(map(str, range(max((int(y.max(initial=-1)) for y in numbers), default=-1) + 1)))
    names = [" ".join(label.replace("/", " or ").split()).strip(". ") for label in labels]
    # Names that are unique and sort in the order of the ids need no numbers.
    if "" not in names and names == sorted(set(names)):
        return tuple(names)
    width = len(str(len(names) - 1))
    return tuple(f"{number:0{width}d} {name}".rstrip() for number, name in enumerate(names))


def _mask(ids: Array, classes: int) -> Image.Image:
    if classes <= 2:
        return Image.fromarray(np.where(ids > 0, np.uint8(255), np.uint8(0)))
    image = Image.fromarray(ids.astype(np.uint8)).convert("P")
    image.putpalette([*COLOURS, *(value for shade in range(len(COLOURS) // 3, 256) for value in (shade,) * 3)])
    return image


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
