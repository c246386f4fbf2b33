"""Reads folders in MNIST's layout: IDX files, or the archive that keras.datasets makes from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array, Contents, Split, deal, part, split_indices, take
from ladle.training.data.errors import DataError
from ladle.training.data.readers import files

LAYOUT = "a folder with train-images-idx3-ubyte[.gz], train-labels-..., t10k-..., or mnist.npz"
VALIDATION = 5_000


def read(path: Path, seed: int, labels: tuple[str, ...]) -> Contents:
    """Images uint8 [n, h, w, 1], labels int64 [n].

    The test files are the test split. The seed draws validation from the training files: 5,000 examples, or a twelfth
    if there are fewer than 60,000. Without test files, all three splits are drawn from the training files.
    """
    if path.is_dir() and (archive := files.find(path, ("mnist.npz",))):
        path = archive
    if path.suffix == ".npz":
        arrays = files.npz(path, ("x_train", "y_train", "x_test", "y_test"))
        x, y = _checked(path, arrays["x_train"], arrays["y_train"], len(labels))
        given = Split(*_checked(path, arrays["x_test"], arrays["y_test"], len(labels)))
        return with_test(x, y, given, seed, labels, (path,))
    folder = path if path.is_dir() else path.parent
    train = _pair(folder, "train", len(labels))
    if train is None:
        raise DataError(f"{path}: has no train-images-idx3-ubyte[.gz] and no mnist.npz; expected {LAYOUT}")
    test = _pair(folder, "t10k", len(labels))
    read_files = tuple(sorted(folder.glob("*[-.]idx[13]-ubyte*")))
    if test is not None:
        return with_test(*train, Split(*test), seed, labels, read_files)
    splits = deal(*train, seed, 0.1, 0.1)
    note = "no test files; a tenth for validation and a tenth for test, drawn from the training files by seed"
    return Contents(*splits, labels, f"{note} {seed}", files=read_files)


def with_test(
    x: Array, y: Array, test: Split, seed: int, labels: tuple[str, ...], read_files: tuple[Path, ...]
) -> Contents:
    """Draw the validation split from x and y; keep the test split as given."""
    held = min(VALIDATION, part(len(x), 1 / 12))
    train_i, validation_i, _ = split_indices(len(x), seed, held, 0)
    note = f"test as given; {held} validation examples drawn from the training files by seed {seed}"
    return Contents(take(x, y, train_i), take(x, y, validation_i), test, labels, note, files=read_files)


def _pair(folder: Path, prefix: str, classes: int) -> tuple[Array, Array] | None:
    # Some archives spell the names with a dot: train-images.idx3-ubyte.
    images, labels = (
        files.find(folder, (f"{prefix}-{what}", f"{prefix}-{what}.gz", f"{prefix}-{what.replace('-', '.', 1)}"))
        for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    if images is None:
        return None
    if labels is None:
        raise DataError(f"{images}: has no {prefix}-labels-idx1-ubyte[.gz] beside it; add that file")
    return _checked(labels, files.idx(images, 3), files.idx(labels, 1), classes)


def _checked(path: Path, x: Array, y: Array, classes: int) -> tuple[Array, Array]:
    if x.ndim != 3 or x.dtype != np.uint8 or y.ndim != 1:
        raise DataError(f"{path}: images are {x.dtype} {list(x.shape)}; expected uint8 [n, h, w]")
    files.same_count(path, x, y)
    return x[..., None], files.classes(path, y, classes)  # [n, h, w, 1]
