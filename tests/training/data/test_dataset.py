from __future__ import annotations

import numpy as np
import pytest

from ladle.training.data import DataError
from ladle.training.data.dataset import deal, split_indices


def test_splits_are_disjoint_and_cover_everything() -> None:
    parts = split_indices(100, seed=3, validation=10, test=20)
    assert [len(indices) for indices in parts] == [70, 10, 20]
    assert sorted(np.concatenate(parts)) == list(range(100))


def test_a_seed_repeats_its_split_and_another_seed_does_not() -> None:
    first, again, other = (split_indices(50, seed, 5, 5)[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_set_too_small_to_split_is_refused() -> None:
    with pytest.raises(DataError, match="got 2 examples; expected at least 3"):
        split_indices(2, 0, 1, 1)


def test_inputs_keep_their_targets() -> None:
    x = np.arange(40, dtype=np.uint8)
    for split in deal(x, x * 2, seed=5):
        assert split.y is not None
        assert (split.y == split.x * 2).all()


def test_three_examples_are_one_a_split() -> None:
    assert [len(split) for split in deal(np.zeros(3), None, seed=0)] == [1, 1, 1]
