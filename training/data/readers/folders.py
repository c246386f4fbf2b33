"""Split folders: train/, validation/ and test/ assign their files to splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ladle.training.data.dataset import Array, part, split_indices

NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
"""Folder name in lower case -> split."""
_RANK = {"test": 0, "validation": 1, "train": 2}


def complete(folders: set[str]) -> bool:
    """Whether these are split folders and nothing else, with train/ and test/ among them."""
    return {"train", "test"} <= folders <= NAMES.keys()


def first_kept(splits: Sequence[str] | Array) -> Array:
    """Order in which duplicates are searched, int64 [n]: test first, so that the test split stays complete."""
    return np.argsort([_RANK[split] for split in splits], kind="stable")


def indices(splits: Sequence[str] | Array, seed: int) -> tuple[Array, Array, Array, str]:
    """Indices of train, validation and test, each int64 [n], and a note on how they were made.

    Without a validation folder, the seed draws a tenth of train. DataError when no example is left for training.
    """
    names = np.array(splits)
    train, validation, test = (np.flatnonzero(names == name) for name in ("train", "validation", "test"))
    if len(validation):
        return train, validation, test, "splits as the folders give them"
    rest, held, _ = split_indices(len(train), seed, part(len(train), 0.1), 0)
    return train[rest], train[held], test, f"test as given; a tenth of train drawn for validation by seed {seed}"
