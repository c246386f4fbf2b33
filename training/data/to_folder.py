"""A data set of pictures written as a folder of one's own would be: train/, validation/ and test/ as PNG files.

`image_folder` and `mask_folder` read what is written here back, with the same splits; a picture that occurs twice once.
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
"""Okabe and Ito's colours for class ids, black first: the mask stays a picture of class ids, its palette shows them."""


def write(dataset: Dataset, folder: Path) -> int:
    """Write every picture of `dataset` below `folder`, which appears whole or not at all; returns how many.

    Masks of two classes are 0 and 255, of more class ids with a palette, the names in labels.txt. Pictures of classes
    lie in a folder a class. Origin and licence stand in provenance.json, which the registry reads with the pictures, so
    that generated ones stay known as such.

    DataError: neither pictures nor masks, `folder` is there and not empty, or cannot be written.
    """
    check(dataset.name, dataset.kind, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
            whole = Path(work, "whole")
            whole.mkdir()
            count = _fill(dataset, whole)
            whole.replace(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    return count


def check(name: str, kind: Kind, folder: Path) -> None:
    """DataError when a set of that kind cannot be written to `folder`: before anything is fetched for it."""
    if kind not in ("images", "masks"):
        raise DataError(f"{name} holds {kind}; only images and masks are written as a folder of files")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: is there already; name a folder that is not")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error


def provenance(path: Path) -> Provenance | None:
    """Of the data set whose pictures were written to `path`; None for other files. DataError when it cannot be read."""
    file = path / PROVENANCE
    if not file.is_file():
        return None
    try:
        found = Provenance(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{file}: is not what `ladle data write` left there; remove it or write the set again"
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
    told = json.dumps(dataset.provenance.as_dict(), indent=1, ensure_ascii=False)
    (folder / PROVENANCE).write_text(told + "\n", encoding="utf-8")
    return count


def _plain(pixels: Array) -> Array:
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _classes(dataset: Dataset) -> tuple[str, ...]:
    """Names of folders that sort as the classes do: readers number classes by name."""
    numbers = [y for split in (dataset.train, dataset.validation, dataset.test) if (y := split.y) is not None]
    labels = dataset.labels or tuple(map(str, range(max((int(y.max(initial=-1)) for y in numbers), default=-1) + 1)))
    names = [" ".join(label.replace("/", " or ").split()).strip(". ") for label in labels]
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
