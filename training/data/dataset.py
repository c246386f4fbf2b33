"""A data set in memory: three splits of arrays, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ladle.training.data.errors import DataError, counted

Kind = Literal["images", "text", "masks", "table", "points"]
Array = npt.NDArray[Any]
TARGET = "y"
"""The name of what a table's rows predict, in `Contents.meanings`."""


@dataclass(frozen=True)
class Split:
    """Inputs and targets, one row per example.

    images  x uint8   [n, h, w, c]      y int64 [n], or None without labels
    text    x object  [n], UTF-8 bytes  y int64 [n]
    masks   x uint8   [n, h, w, c]      y uint8 [n, h, w], class ids
    table   x float32 [n, columns]      y float32 [n], or int64 [n] of classes
    points  x float32 [n, 2]            y None
    """

    x: Array
    y: Array | None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Contents:
    """What a reader or a generator returns.

    notes    how the splits were made, for the model card
    columns  names of the columns of a table
    meanings what columns hold, each with its unit ("" for none), by their names; TARGET is what is predicted
    categories the categories of each column, by its name; empty for a column of numbers
    files    the files that were read, for the checksum; empty means all files of the folder
    name     name of the data set whose layout the files have, if it is not the requested one
    """

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...] | None
    notes: str
    columns: tuple[str, ...] | None = None
    files: tuple[Path, ...] = ()
    name: str = ""
    meanings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """Where a data set came from. `sha256` covers all files that were read; it is empty for generated data."""

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
    """A data set: train, validation and test split, disjoint and fixed by the seed."""

    name: str
    kind: Kind
    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...] | None
    provenance: Provenance
    columns: tuple[str, ...] | None = None
    meanings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """For the card of a table: name, meaning, unit and range in training (or categories) of columns and target."""
        if self.kind != "table" or not self.columns or self.train.y is None:
            return {}

        def described(name: str, values: Array) -> dict[str, Any]:
            about, unit = self.meanings.get(name, ("", ""))
            if names := self.categories.get(name):
                return {"name": name, "about": about, "unit": unit, "categories": list(names)}
            low, high = (float(f"{bound:.6g}") for bound in (np.nanmin(values), np.nanmax(values)))
            return {"name": name, "about": about, "unit": unit, "low": low, "high": high}

        columns = [described(name, self.train.x[:, i]) for i, name in enumerate(self.columns)]
        if self.labels:
            return {"columns": columns, "target": {"name": TARGET, "about": self.meanings[TARGET][0], "unit": ""}}
        return {"columns": columns, "target": described(TARGET, self.train.y)}

    def sizes(self) -> dict[str, int]:
        """Number of examples in each split, as in the model card."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def split_indices(count: int, seed: int, validation: int, test: int) -> tuple[Array, Array, Array]:
    """Shuffle 0..count-1 by the seed and split it into train, validation and test: int64, disjoint.

    validation, test  number of examples in those splits

    DataError when no example would be left for training.
    """
    if count - validation - test < 1:
        raise DataError(
            f"got {counted(count, 'example')}; expected at least 3, to split into train, {validation} validation and "
            f"{test} test"
        )
    order = np.random.default_rng(seed).permutation(count)
    return order[validation + test :], order[:validation], order[validation : validation + test]


def part(count: int, fraction: float) -> int:
    """The number of examples in a fraction of `count`, at least 1."""
    return max(1, round(count * fraction))


def distinct(x: Array, order: Iterable[int] | None = None) -> Array:
    """Indices of x without duplicate rows, ascending int64; of equal rows, the first in `order` is kept.

    Rows are compared by SHA-256, so that memory holds no second copy of them.
    """
    seen: dict[bytes, int] = {}
    for i in range(len(x)) if order is None else order:
        seen.setdefault(hashlib.sha256(np.ascontiguousarray(x[i]).data).digest(), int(i))
    return np.array(sorted(seen.values()), np.int64)


def take(x: Array, y: Array | None, indices: Array) -> Split:
    """The split with these rows."""
    return Split(x[indices], None if y is None else y[indices])


def deal(
    x: Array, y: Array | None, seed: int, validation: float | int = 0.1, test: float | int = 0.2
) -> tuple[Split, Split, Split]:
    """Split arrays into train, validation and test by the seed; a float is a fraction, an int a count."""
    count = len(x)
    sizes = [size if isinstance(size, int) else part(count, size) for size in (validation, test)]
    train_i, validation_i, test_i = split_indices(count, seed, *sizes)
    return take(x, y, train_i), take(x, y, validation_i), take(x, y, test_i)
