"""Photographs with ImageNet's names, read from a folder made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.sets import photographs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(photographs.TRUTH):
        Image.new("RGB", (40, 30), (60 * i, 0, 255)).save(tmp_path / name)
    names = [f"class {i % 999}" for i in range(1000)]
    (tmp_path / photographs.NAMES).write_text(json.dumps(names))
    return tmp_path


def test_photographs_are_of_one_size_with_a_thousand_different_names(folder: Path) -> None:
    dataset = data.load("photographs", path=folder)
    assert dataset.test.x.shape == (4, 224, 224, 3)
    assert dataset.labels is not None
    assert len(set(dataset.labels)) == 1000
    assert dataset.labels[999] == "class 0 (2)"
    np.testing.assert_array_equal(dataset.train.x, dataset.test.x[:, :, ::-1])


def test_a_folder_that_lacks_one_is_refused(folder: Path) -> None:
    (folder / "coffee.png").unlink()
    with pytest.raises(DataError, match=r"has no coffee\.png"):
        data.load("photographs", path=folder)
