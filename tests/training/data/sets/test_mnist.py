"""The two layouts in which packages carry some of MNIST's digits."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.dataset import Array


@pytest.fixture
def images(random: np.random.Generator) -> Array:
    return random.integers(0, 256, (40, 784))


def test_digits_in_json_are_exact(tmp_path: Path, images: Array) -> None:
    for digit in range(10):
        values = (images[digit::10] / 255).round(4).ravel().tolist()
        (tmp_path / f"{digit}.json").write_text(json.dumps({"data": values}))
    dataset = data.load("mnist", path=tmp_path)
    assert dataset.sizes() == {"train": 28, "validation": 4, "test": 8}
    known = {images[i].astype(np.uint8).tobytes(): i % 10 for i in range(40)}
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.y is not None
        assert [known[x.tobytes()] for x in split.x] == split.y.tolist()
    assert "not the original test part" in dataset.provenance.notes


def test_digits_in_a_table_are_read(tmp_path: Path, images: Array) -> None:
    rows = [",".join(map(str, [*image, i % 10])) for i, image in enumerate(images)]
    (tmp_path / "mnist_5k.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    dataset = data.load("mnist", path=tmp_path)
    assert dataset.train.x.shape == (28, 28, 28, 1)
    assert dataset.train.x.dtype == np.uint8


def test_a_digit_that_occurs_twice_is_kept_once(tmp_path: Path, images: Array) -> None:
    rows = [",".join(map(str, [*image, 1])) for image in [*images, images[0]]]
    (tmp_path / "mnist_5k.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    assert sum(data.load("mnist", path=tmp_path).sizes().values()) == 40


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", r"0\.json: cannot be read"),
        ('{"data": [1, 2]}', "784 numbers an image"),
        ('{"pixels": []}', r"0\.json: cannot be read"),
    ],
    ids=["broken", "too few", "another key"],
)
def test_broken_json_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "0.json").write_text(content)
    with pytest.raises(DataError, match=says):
        data.load("mnist", path=tmp_path)


def test_a_table_of_another_width_is_named(tmp_path: Path) -> None:
    (tmp_path / "mnist_5k.csv.gz").write_bytes(gzip.compress(b"1,2,3\n4,5,6\n"))
    with pytest.raises(DataError, match="has 3 columns; expected 784 pixels and a label"):
        data.load("mnist", path=tmp_path)
