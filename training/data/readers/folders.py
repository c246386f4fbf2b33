"""Folders that say which split their files are of: train/, validation/ and test/."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladle.training.data.dataset import Array, part, split_indices

NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
"""Split by the name of its folder, in lower case."""
_RANK = {"test": 0, "validation": 1, "train": 2}


def complete(folders: set[str]) -> bool:
    """Whether folders are those of splits and no others: train/ and test/ at least."""
    return {"train", "test"} <= folders <= NAMES.keys()


def first_kept(splits: Sequence[str] | Array) -> Array:
    """int64 [n], in which order equal examples are looked at, so that test keeps its own before the others."""
    return np.argsort([_RANK[split] for split in splits], kind="stable")


def indices(splits: Sequence[str] | Array, seed: int) -> tuple[Array, Array, Array, str]:
    """Train, validation and test as int64 [n], and what was done; the seed draws a validation that is not given.

    Raises DataError when nothing would be left to train on.
    """
    names = np.array(splits)
    train, validation, test = (np.flatnonzero(names == name) for name in ("train", "validation", "test"))
    if len(validation):
        return train, validation, test, "splits as the folders give them"
    rest, held, _ = split_indices(len(train), seed, part(len(train), 0.1), 0)
    return train[rest], train[held], test, f"test as given; a tenth of train drawn for validation by seed {seed}"
