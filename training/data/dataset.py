"""What every data set becomes: three splits of arrays, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ladle.training.data.errors import DataError

Kind = Literal["images", "text", "masks", "table"]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Split:
    """Inputs and targets, one row an example.

    images  x uint8   [n, h, w, c]      y int64 [n], or None when nobody labelled them
    text    x object  [n], UTF-8 bytes  y int64 [n]
    masks   x uint8   [n, h, w, c]      y uint8 [n, h, w], class ids
    table   x float32 [n, columns]      y float32 [n]
    """

    x: Array
    y: Array | None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Contents:
    """What a reader or a generator returns: the splits, without their history.

    `files` are those that were read, for the checksum; empty means all of the folder. `name` is of the data set whose
    layout they have, where that is not the one that was asked for.
    """

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...] | None
    notes: str
    columns: tuple[str, ...] | None = None
    files: tuple[Path, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Provenance:
    """Where a data set came from. `sha256` covers the files that were read; empty for generated data."""

    name: str
    source: str
    origin: str
    licence: str
    sha256: str
    synthetic: bool
    notes: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test split, disjoint and fixed by the seed."""

    name: str
    kind: Kind
    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...] | None
    provenance: Provenance
    columns: tuple[str, ...] | None = None

    def sizes(self) -> dict[str, int]:
        """Examples by split, as the model card records them."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def split_indices(count: int, seed: int, validation: int, test: int) -> tuple[Array, Array, Array]:
    """Shuffle 0..count-1 by the seed and deal it out: train, validation, test; int64, disjoint.

    Raises DataError when nothing would be left to train on.
    """
    if count - validation - test < 1:
        raise DataError(
            f"{count} examples cannot be split into train, {validation} validation and {test} test; "
            "at least 3 are needed"
        )
    order = np.random.default_rng(seed).permutation(count)
    return order[validation + test :], order[:validation], order[validation : validation + test]


def part(count: int, fraction: float) -> int:
    """A fraction of `count` examples, but one at least."""
    return max(1, round(count * fraction))


def distinct(x: Array, order: Iterable[int] | None = None) -> Array:
    """Rows of x without doubles (by sha256), ascending int64; of equal rows the first in `order` is kept."""
    seen: dict[bytes, int] = {}
    for i in range(len(x)) if order is None else order:
        seen.setdefault(hashlib.sha256(np.ascontiguousarray(x[i]).data).digest(), int(i))
    return np.array(sorted(seen.values()), np.int64)


def take(x: Array, y: Array | None, indices: Array) -> Split:
    return Split(x[indices], None if y is None else y[indices])


def deal(
    x: Array, y: Array | None, seed: int, validation: float | int = 0.1, test: float | int = 0.2
) -> tuple[Split, Split, Split]:
    """Split arrays by the seed; a float is a fraction, an int a count."""
    count = len(x)
    sizes = [size if isinstance(size, int) else part(count, size) for size in (validation, test)]
    train_i, validation_i, test_i = split_indices(count, seed, *sizes)
    return take(x, y, train_i), take(x, y, validation_i), take(x, y, test_i)
