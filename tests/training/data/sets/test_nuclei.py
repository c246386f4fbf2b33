from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.training import data
from ladle.training.data import DataError


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The package's layout; a pixel's value is its column // 2, odd nuclei everywhere but in row 0."""
    image = np.broadcast_to(np.arange(512, dtype=np.uint16) // 2, (512, 512))
    mask = np.full((512, 512), 7, np.uint16)
    mask[0] = 0
    Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / "img2d.tif")
    Image.fromarray(mask).save(tmp_path / "mask2d.tif")
    return tmp_path


@pytest.mark.parametrize("tile", [16, 32, 64])
def test_no_pixel_is_in_two_splits(picture: Path, tile: int) -> None:
    dataset = data.load("nuclei", path=picture, tile=tile)
    columns = [np.unique(split.x) for split in (dataset.train, dataset.validation, dataset.test)]
    assert columns[0].max() < columns[1].min()
    assert columns[1].max() < columns[2].min()
    assert dataset.test.x.shape == (512 // tile * (128 // tile), tile, tile, 1)


def test_every_nucleus_is_class_one(picture: Path) -> None:
    dataset = data.load("nuclei", path=picture)
    assert dataset.train.y is not None
    assert dataset.train.y.dtype == np.uint8
    assert np.unique(dataset.train.y).tolist() == [0, 1]
    assert dataset.labels == ("background", "nucleus")


def test_training_tiles_overlap_by_the_stride(picture: Path) -> None:
    assert len(data.load("nuclei", path=picture, stride=64).train) == 40
    assert len(data.load("nuclei", path=picture).train) == 135


def test_a_folder_of_masks_is_taken_as_one(tmp_path: Path, random: np.random.Generator) -> None:
    for folder in ("image", "mask"):
        (tmp_path / folder).mkdir()
        for i in range(3):
            Image.fromarray(random.integers(0, 2, (8, 8)).astype(np.uint8)).save(tmp_path / folder / f"{i}.png")
    dataset = data.load("nuclei", path=tmp_path)
    assert dataset.train.x.shape == (1, 8, 8, 1)
    assert (dataset.provenance.name, dataset.labels) == ("mask_folder", ("background", "object"))


@pytest.mark.parametrize("options", [{"tile": 48}, {"tile": 0}, {"stride": 65}, {"stride": 0}])
def test_a_tile_that_does_not_fit_is_refused(picture: Path, options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(options))} is {next(iter(options.values()))}"):
        data.load("nuclei", path=picture, **options)


def test_another_picture_is_refused(picture: Path) -> None:
    Image.fromarray(np.zeros((512, 511), np.uint8)).save(picture / "mask2d.tif")
    with pytest.raises(DataError, match=r"mask2d\.tif: is \[512, 511\]"):
        data.load("nuclei", path=picture)


def test_a_missing_picture_is_named(picture: Path) -> None:
    (picture / "mask2d.tif").unlink()
    with pytest.raises(DataError, match=r"mask2d\.tif: no such file"):
        data.load("nuclei", path=picture)
