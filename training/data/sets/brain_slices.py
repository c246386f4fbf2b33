"""Slices of a brain with grey and white matter: the ICBM 152 average of 152 magnetic resonance scans.

The PyPI package nilearn contains it (Fonov et al. 2011, NeuroImage 54). It is a single average brain whose left half
mirrors its right: good for a demonstration of segmentation, not for judging a method.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array, Contents, Split
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import File, PyPI
from ladle.training.data.readers import nifti
from ladle.training.data.registry import Entry
from ladle.training.data.sets import mask_folder, synthetic

LABELS = ("background", "grey matter", "white matter")
HEIGHT, WIDTH = 224, 192  # contain the brain; both and their halves are divisible by 16
BRAIN_PIXELS = 2_000  # slices with fewer pixels of grey and white matter are left out
# Split of each twelfth of the brain's height, from below, and number of slices left out beside a border.
BLOCKS = ("train",) * 3 + ("validation",) + ("train",) * 2 + ("test",) * 2 + ("train",) * 4
GAP = 4
LAYOUT = f"a folder with mni_icbm152_{{t1,gm,wm}}_tal_nlin_sym_09a_converted.nii.gz, or {mask_folder.LAYOUT}"
SHA256 = {
    "t1": "eeb8a792a93948c83462305c71db783800e95eb3f6ce35975a4dd0f374f79bff",
    "gm": "9800242e730cec0d4ae97358d232904d09771bb0f10202ea4bf80eee50609b43",
    "wm": "7c78a23ddd786979edbb50bdada52c86c405cf2986baee5df5791e0200d7ffeb",
}


def _name(volume: str) -> str:
    return f"mni_icbm152_{volume}_tal_nlin_sym_09a_converted.nii.gz"


def read(path: Path, seed: int, *, scale: int = 2) -> Contents:
    """Images uint8 [n, 224 // scale, 192 // scale, 1], masks uint8 of the same size: 0 background, 1 grey, 2 white.

    scale  1: full resolution (1 mm per pixel), 2: half

    Neighbouring slices look alike. So validation and test are whole blocks of slices, and the 4 training slices next to
    a block are left out. The seed has no effect. A folder of pictures and masks is split as in mask_folder.
    """
    if mask_folder.is_folder(path):
        return mask_folder.read(path, seed)
    if scale not in (1, 2):
        raise DataError(f"brain_slices: scale is {scale}; expected 1 or 2")
    t1, grey, white = (_volume(path / _name(volume)) for volume in ("t1", "gm", "wm"))
    if not t1.shape == grey.shape == white.shape:
        raise DataError(f"{path}: the volumes are {t1.shape}, {grey.shape} and {white.shape}; expected one shape")
    # The maps are probabilities times 255; uint16, as the sum of two exceeds uint8.
    matter = (grey.astype(np.uint16) + white > 127).sum(axis=(0, 1))  # pixels a slice
    usable = np.flatnonzero(matter > BRAIN_PIXELS)
    if len(usable) < len(BLOCKS) * (GAP + 1):
        raise DataError(
            f"{path / _name('gm')}: {len(usable)} slices show a brain; expected at least {len(BLOCKS) * (GAP + 1)}"
        )
    image = _shrunk(_slices(t1, usable), scale)
    maps = [_shrunk(_slices(volume, usable), scale) for volume in (grey, white)]
    ground = 255 - np.minimum(maps[0] + maps[1], 255)
    x = np.rint(image).astype(np.uint8)[..., None]  # [n, h, w, 1]
    y = np.argmax([ground, *maps], axis=0).astype(np.uint8)  # [n, h, w]
    names = _blocks(len(usable))
    splits = [Split(x[names == name], y[names == name]) for name in ("train", "validation", "test")]
    note = (
        "horizontal slices of one averaged brain in blocks of neighbours, "
        f"the {GAP} training slices next to validation or test left out"
    )
    return Contents(splits[0], splits[1], splits[2], LABELS, note)


def _volume(path: Path) -> Array:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {LAYOUT}")
    voxels = nifti.read(path)
    if voxels.dtype != np.uint8 or voxels.shape[0] < WIDTH or voxels.shape[1] < HEIGHT:
        raise DataError(f"{path}: is {voxels.dtype} {list(voxels.shape)}; expected uint8 [197, 233, 189]")
    return voxels


def _slices(volume: Array, indices: Array) -> Array:
    """Horizontal slices, cropped at the centre, nose up: [x, y, z] -> float32 [n, 224, 192]."""
    left, front = (volume.shape[0] - WIDTH) // 2, (volume.shape[1] - HEIGHT) // 2
    cut = volume[left : left + WIDTH, front : front + HEIGHT, indices]
    return np.ascontiguousarray(cut.transpose(2, 1, 0)[:, ::-1], np.float32)


def _shrunk(slices: Array, scale: int) -> Array:
    """Reduce slices by averaging blocks of scale x scale pixels."""
    n, height, width = slices.shape
    return np.asarray(slices.reshape(n, height // scale, scale, width // scale, scale).mean(axis=(2, 4)))


def _blocks(count: int) -> Array:
    """Split of each slice; empty for slices that are left out."""
    names = np.array(BLOCKS)[np.arange(count) * len(BLOCKS) // count].astype(object)
    borders = np.flatnonzero(names[1:] != names[:-1]) + 1
    for border in borders:
        near = names[border - GAP : border + GAP]
        near[near == "train"] = ""
    return names


DATASETS = [
    Entry(
        name="brain_slices",
        kind="masks",
        description="horizontal slices of an averaged brain: grey and white matter, 112x96 grey",
        origin="McConnell Brain Imaging Centre: Fonov et al. 2011 (ICBM 152 2009a, symmetric)",
        licence="unknown according to the package (which is BSD-3-Clause)",
        splits="blocks of neighbouring slices with gaps",
        layout=LAYOUT,
        labels=LABELS,
        read=read,
        generate=partial(synthetic.blobs, height=112, width=96, classes=3),
        generated_name="synthetic_blobs",
        sources=(
            PyPI(
                "nilearn",
                "0.14.1",
                11_509_444,
                tuple(
                    File(_name(volume), f"nilearn/datasets/data/{_name(volume)}", digest, unpacked=True)
                    for volume, digest in SHA256.items()
                ),
            ),
        ),
    )
]
