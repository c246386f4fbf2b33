"""Split folders: train/, validation/ and test/ assign their files to splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array, part, split_indices
from ladle.training.data.errors import DataError

NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
"""Folder name in lower case -> split."""
_RANK = {"test": 0, "validation": 1, "train": 2}


def are_splits(path: Path, folders: set[str]) -> bool:
    """Whether these folders of `path`, in lower case, are splits: train/ with validation/ or test/, or both.

    DataError: some are splits and some are not, or train/ is missing.
    """
    splits = {NAMES[name] for name in folders & NAMES.keys()}
    if len(splits) < 2:
        return False
    others = sorted(folders - NAMES.keys())
    if others:
        known = ", ".join(f"{name}/" for name in sorted(folders & NAMES.keys()))
        raise DataError(f"{path}: has {known} beside {others[0]}/; expected either splits or classes: move one of them")
    if "train" not in splits:
        names = " and ".join(f"{name}/" for name in sorted(folders))
        raise DataError(f"{path}: has {names} but no train/; add the pictures to train on")
    return True


def first_kept(splits: Sequence[str] | Array) -> Array:
    """Order in which duplicates are searched, int64 [n]: test first, so that the test split stays complete."""
    return np.argsort([_RANK[split] for split in splits], kind="stable")


def indices(splits: Sequence[str] | Array, seed: int) -> tuple[Array, Array, Array, str]:
    """Indices of train, validation and test, each int64 [n], and a note on how they were made.

    Without a validation or a test folder, the seed draws a tenth of train for it. DataError when no example is left for
    training.
    """
    names = np.array(splits)
    train, validation, test = (np.flatnonzero(names == name) for name in ("train", "validation", "test"))
    if len(validation) and len(test):
        return train, validation, test, "splits as the folders give them"
    sizes = [0 if len(given) else part(len(train), 0.1) for given in (validation, test)]
    rest, held, tested = split_indices(len(train), seed, *sizes)
    given, drawn = ("test", "validation") if len(test) else ("validation", "test")
    note = f"{given} as given; a tenth of train drawn for {drawn} by seed {seed}"
    return train[rest], validation if len(validation) else train[held], test if len(test) else train[tested], note
