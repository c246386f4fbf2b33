"""Cell nuclei under the microscope: one real picture, 512x512, with 125 nuclei outlined by hand.

The PyPI package stardist contains it (Schmidt et al. 2018, arXiv:1806.03535).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array, Contents, Split
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import File, PyPI
from ladle.training.data.readers import images
from ladle.training.data.registry import Entry
from ladle.training.data.sets import mask_folder, synthetic

LABELS = ("background", "nucleus")
SIZE = 512
# Borders between the splits, in pixel columns. Training tiles may overlap each other, but not these borders.
TRAIN, VALIDATION = 320, 384
LAYOUT = f"a folder with img2d.tif and mask2d.tif, or {mask_folder.LAYOUT}"


def read(path: Path, seed: int, *, tile: int = 64, stride: int | None = None) -> Contents:
    """Images uint8 [n, tile, tile, 1], masks uint8 [n, tile, tile] with 1 inside a nucleus.

    tile    side of a tile in pixels: 16, 32 or 64
    stride  pixels between training tiles; below `tile` they overlap. None: tile // 2

    The left 320 columns of the picture are train, the next 64 validation, the right 128 test, so that no pixel is in
    two splits. The seed has no effect. A folder of pictures and masks is split as in mask_folder.
    """
    if mask_folder.is_folder(path):
        return mask_folder.read(path, seed, channels=1)
    if tile < 1 or tile > VALIDATION - TRAIN or (VALIDATION - TRAIN) % tile:
        raise DataError(f"nuclei: tile is {tile}; expected 16, 32 or 64")
    step = tile // 2 if stride is None else stride
    if not 1 <= step <= tile:
        raise DataError(f"nuclei: stride is {step}; expected 1 to {tile}")
    image, mask = (_tif(path / name) for name in ("img2d.tif", "mask2d.tif"))
    if image.max() > 255:
        raise DataError(f"{path / 'img2d.tif'}: has values up to {image.max()}; expected 0 to 255")
    x, y = image.astype(np.uint8)[..., None], (mask > 0).astype(np.uint8)  # [512, 512, 1], [512, 512]
    splits = [
        Split(_windows(x[:, left:right], tile, by), _windows(y[:, left:right], tile, by))
        for left, right, by in ((0, TRAIN, step), (TRAIN, VALIDATION, tile), (VALIDATION, SIZE, tile))
    ]
    note = (
        f"one picture cut into {tile}x{tile} tiles: columns 0-319 train (every {step} pixels), "
        "320-383 validation, 384-511 test; no pixel in two splits"
    )
    return Contents(splits[0], splits[1], splits[2], LABELS, note)


def _tif(path: Path) -> Array:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {LAYOUT}")
    pixels = np.asarray(images.decode(str(path), path, None))
    if pixels.shape != (SIZE, SIZE):
        raise DataError(f"{path}: is {list(pixels.shape)}; expected one grey picture of 512x512")
    return pixels


def _windows(pixels: Array, size: int, step: int) -> Array:
    """All windows at multiples of `step`: [h, w, ...] -> [n, size, size, ...]."""
    rows = range(0, pixels.shape[0] - size + 1, step)
    columns = range(0, pixels.shape[1] - size + 1, step)
    return np.stack([pixels[r : r + size, c : c + size] for r in rows for c in columns])


DATASETS = [
    Entry(
        name="nuclei",
        kind="masks",
        description="cell nuclei under the microscope, 64x64 grey tiles of one picture",
        origin="Schmidt, Weigert, Broaddus, Myers 2018 (StarDist), arXiv:1806.03535",
        licence="BSD-3-Clause (the package)",
        splits="train 135 overlapping tiles, validation 8, test 16",
        layout=LAYOUT,
        labels=LABELS,
        read=read,
        generate=synthetic.blobs,
        generated_name="synthetic_blobs",
        sources=(
            PyPI(
                "stardist",
                "0.9.2",
                3_071_290,
                (
                    File(
                        "img2d.tif",
                        "stardist/data/images/img2d.tif",
                        "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
                    ),
                    File(
                        "mask2d.tif",
                        "stardist/data/images/mask2d.tif",
                        "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
                    ),
                ),
                linux_wheel_of="3.11",  # its pictures are the same in every wheel
            ),
        ),
    )
]
