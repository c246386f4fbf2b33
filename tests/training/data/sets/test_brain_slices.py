"""Volumes written here in the package's layout, and the NIfTI reader on its own."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.dataset import Array
from ladle.training.data.readers import nifti
from ladle.training.data.sets import brain_slices


def encoded(voxels: Array, code: int = 2, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    struct.pack_into("<2h", header, 70, code, voxels.itemsize * 8)
    struct.pack_into("<3f", header, 108, 352, slope, intercept)
    header[344:348] = b"n+1\0"
    return bytes(header) + voxels.tobytes(order="F")


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """A column of grey matter with white inside, 60 slices high; a voxel of t1 is its slice."""
    shape = (197, 233, 60)
    grey, white = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    grey[60:140, 60:140], white[80:120, 80:120] = 255, 255
    grey[80:120, 80:120] = 0
    t1 = np.broadcast_to(np.arange(60, dtype=np.uint8), shape)
    for name, volume in (("t1", t1), ("gm", grey), ("wm", white)):
        file = tmp_path / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        file.write_bytes(gzip.compress(encoded(volume), 1))
    return tmp_path


def test_held_out_slices_have_no_neighbour_in_train(brain: Path) -> None:
    dataset = data.load("brain_slices", path=brain)
    train, validation, test = (np.unique(split.x) for split in (dataset.train, dataset.validation, dataset.test))
    for held in (*validation, *test):
        assert abs(train.astype(int) - int(held)).min() > brain_slices.GAP
    assert not set(validation) & set(test)


def test_matter_becomes_three_classes(brain: Path) -> None:
    dataset = data.load("brain_slices", path=brain, scale=1)
    assert dataset.train.x.shape[1:] == (224, 192, 1)
    assert dataset.train.y is not None
    assert np.bincount(dataset.train.y[0].ravel()).tolist() == [224 * 192 - 6400, 6400 - 1600, 1600]
    assert data.load("brain_slices", path=brain).train.x.shape[1:] == (112, 96, 1)


def test_a_truncated_volume_is_named(brain: Path) -> None:
    file = brain / "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"mni_icbm152_gm.*: cannot be read to the end"):
        data.load("brain_slices", path=brain)


def test_a_missing_volume_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mni_icbm152_t1.*: no such file"):
        data.load("brain_slices", path=tmp_path)


def test_a_volume_keeps_its_axes(tmp_path: Path, random: np.random.Generator) -> None:
    voxels = random.integers(-99, 99, (2, 3, 4)).astype(np.int16)
    (tmp_path / "a.nii").write_bytes(encoded(voxels, code=4))
    assert (nifti.read(tmp_path / "a.nii") == voxels).all()


def test_a_scale_is_applied(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(encoded(np.full((1, 1, 2), 3, np.uint8), slope=0.5, intercept=1))
    assert nifti.read(tmp_path / "a.nii").tolist() == [[[2.5, 2.5]]]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\0" * 400, "expected a little-endian NIfTI-1 file"),
        (encoded(np.zeros((2, 2, 2, 5), np.uint8)), "one volume of three dimensions"),
        (encoded(np.zeros((2, 2, 2), np.uint8), code=128), "voxels of NIfTI type 128"),
        (encoded(np.zeros((2, 2, 2), np.uint8))[:-1], "has 359 bytes; expected 360"),
    ],
    ids=["another file", "four dimensions", "colour", "too short"],
)
def test_another_file_is_named(tmp_path: Path, raw: bytes, says: str) -> None:
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(DataError, match=rf"a\.nii: .*{says}"):
        nifti.read(tmp_path / "a.nii")
