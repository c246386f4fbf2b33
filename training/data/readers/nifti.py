"""Reads volumes from little-endian NIfTI-1 files (.nii, .nii.gz): size, type and scale from the header, then voxels."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array
from ladle.training.data.errors import DataError
from ladle.training.data.readers import files

HEADER_BYTES = 348
"""Size of the header, which is also its first field; other byte orders and formats have another value there."""
DTYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2"}
"""NumPy dtype by the header's type code."""


def read(path: Path) -> Array:
    """Voxels [x, y, z], in the file's dtype, or float32 if the header has a scale; x is in stored order."""
    raw = files.content(path)
    if len(raw) < HEADER_BYTES or struct.unpack_from("<i", raw)[0] != HEADER_BYTES or raw[344:347] not in (b"n+1",):
        raise DataError(
            f"{path}: has another header; expected a little-endian NIfTI-1 file in one piece (.nii or .nii.gz)"
        )
    rank, *sizes = struct.unpack_from("<8h", raw, 40)
    (code,) = struct.unpack_from("<h", raw, 70)
    offset, slope, intercept = struct.unpack_from("<3f", raw, 108)
    shape = tuple(sizes[:3])
    if rank < 3 or min(shape) < 1 or any(size > 1 for size in sizes[3:rank]):
        raise DataError(f"{path}: has size {sizes[:rank]}; expected one volume of three dimensions")
    if code not in DTYPES:
        raise DataError(f"{path}: has voxels of NIfTI type {code}; expected one of {', '.join(map(str, DTYPES))}")
    dtype = np.dtype(DTYPES[code])
    count = math.prod(shape)
    if len(raw) < int(offset) + count * dtype.itemsize:
        raise DataError(
            f"{path}: has {len(raw)} bytes; expected {int(offset) + count * dtype.itemsize} by its header: get it again"
        )
    voxels = np.frombuffer(raw, dtype, count, int(offset)).reshape(shape, order="F")  # x varies fastest
    # A slope of 0 means that the file has no scale (NIfTI-1 header, scl_slope).
    if slope not in (0.0, 1.0) or (slope and intercept):
        return voxels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return voxels
