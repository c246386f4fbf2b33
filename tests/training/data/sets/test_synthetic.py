from __future__ import annotations

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.sets import synthetic


@pytest.mark.parametrize("draw", [synthetic.digits, synthetic.blobs, synthetic.texts, synthetic.table])
def test_a_seed_repeats_its_set_and_another_seed_does_not(draw: object) -> None:
    assert callable(draw)
    first, again, other = (draw(seed, count=30) for seed in (1, 1, 2))
    assert (first.train.x == again.train.x).all()
    assert (first.test.y == again.test.y).all()
    assert (first.train.x != other.train.x).any()


def test_digits_have_the_size_and_classes_that_were_asked_for() -> None:
    dataset = data.load("cifar100", synthetic=True, count=300, height=16, width=24)
    assert dataset.train.x.shape == (210, 16, 24, 3)
    assert dataset.train.y is not None
    assert dataset.labels is not None
    assert len(dataset.labels) == 100


def test_more_than_ten_digits_need_colour() -> None:
    with pytest.raises(DataError, match="100 classes need channels=3"):
        synthetic.digits(1, classes=100)


def test_digits_can_be_told_apart() -> None:
    """The nearest class mean is right far more often than chance."""
    contents = synthetic.digits(1, count=600)
    x, y = contents.train.x.reshape(len(contents.train), -1).astype(np.float32), contents.train.y
    means = np.stack([x[y == k].mean(axis=0) for k in range(10)])
    test = contents.test.x.reshape(len(contents.test), 1, -1)
    assert (np.square(test - means).sum(axis=2).argmin(axis=1) == contents.test.y).mean() > 0.5


def test_blobs_are_brighter_where_the_mask_says_so() -> None:
    split = data.load("synthetic_blobs", classes=3).train
    assert split.y is not None
    means = [split.x[..., 0][split.y == k].mean() for k in range(3)]
    assert means[0] < means[1] < means[2]


def test_texts_praise_or_damn() -> None:
    split = data.load("synthetic_texts").train
    assert split.y is not None
    for text, label in zip(split.x, split.y, strict=True):
        words = set(text.decode().split())
        assert words & set(synthetic.GOOD if label else synthetic.BAD)
        assert not words & set(synthetic.BAD if label else synthetic.GOOD)
