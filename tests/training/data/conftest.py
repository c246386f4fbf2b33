"""Tiny real files in the layouts that people have, and an empty cache."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ladle.training.data.dataset import Array


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def write_idx() -> Callable[[Path, Array], Path]:
    """Write uint8 [..] as an IDX file, gzip when its name ends so."""

    def write(path: Path, array: Array) -> Path:
        raw = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
        return path

    return write


@pytest.fixture
def idx_folder(tmp_path: Path, random: np.random.Generator, write_idx: Callable[[Path, Array], Path]) -> Path:
    """60 training and 20 test pictures in MNIST's layout; a picture's first pixel is its number."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for prefix, count in (("train", 60), ("t10k", 20)):
        images = random.integers(0, 256, (count, 28, 28))
        images[:, 0, 0] = np.arange(count)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return folder


@pytest.fixture
def write_picture() -> Callable[..., Path]:
    def write(path: Path, pixels: Array, mode: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(path)
        return path

    return write
