"""Diabetes: 442 patients, 10 features, and how far the disease went in a year (Efron et al. 2004).

scikit-learn comes with it. A second regression set beside the house prices, without a column about a neighbourhood's
residents.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import TARGET, Array, Contents, deal
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.sources import File, PyPI
from ladle.training.data.readers import files
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

MEANINGS = {
    "AGE": ("age", "years"),
    "SEX": ("1 or 2; the source does not say which is which", ""),
    "BMI": ("body mass index", "kg/m²"),
    "BP": ("blood pressure, mean of a beat", "mmHg"),
    "TC": ("total cholesterol in the serum", "mg/dl"),
    "LDL": ("low-density lipoproteins", "mg/dl"),
    "HDL": ("high-density lipoproteins", "mg/dl"),
    "TCH": ("total cholesterol over HDL", ""),
    "LTG": ("logarithm of the serum's triglycerides, probably", ""),
    "GLU": ("blood sugar", "mg/dl"),
    TARGET: ("progression of the disease a year later", ""),
}
"""What the columns hold and their units, as far as the source says."""
COLUMNS = tuple(name for name in MEANINGS if name != TARGET)
FEATURES, PROGRESS = "diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"
LAYOUT = f"a folder with {FEATURES} (10 columns between spaces) and {PROGRESS} (one number a row), as scikit-learn has"


def read(path: Path, seed: int) -> Contents:
    """Features float32 [n, 10], progression float32 [n]; a tenth is validation, a fifth test."""
    x, y = _table(path / FEATURES), _table(path / PROGRESS)
    if x.shape[1] != len(COLUMNS) or y.shape[1] != 1:
        raise DataError(f"{path}: holds {x.shape[1]} features and {y.shape[1]} targets; expected 10 and 1")
    files.same_count(path / FEATURES, x, y, "targets")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"{path / FEATURES}: has a value that is not a finite number; remove its row")
    splits = deal(x.astype(np.float32), y[:, 0].astype(np.float32), seed, 0.1, 0.2)
    read_files = (path / FEATURES, path / PROGRESS)
    return Contents(*splits, None, f"split by seed {seed}: 70/10/20 %", COLUMNS, read_files, meanings=MEANINGS)


def _table(path: Path) -> Array:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {LAYOUT}")
    try:
        return np.loadtxt(files.text(path).splitlines(), ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as numbers between spaces ({error}); get it again") from error


def _member(name: str, sha256: str) -> File:
    return File(name, f"sklearn/datasets/data/{name}", sha256)


DATASETS = [
    Entry(
        name="diabetes",
        kind="table",
        description="progression of diabetes in 442 patients, 10 features",
        origin="Efron, Hastie, Johnstone, Tibshirani 2004, Least angle regression",
        licence="none stated (the package: BSD-3-Clause)",
        splits="train 310, validation 44, test 88, by seed",
        layout=LAYOUT,
        read=read,
        generate=partial(synthetic.table, features=len(COLUMNS)),
        generated_name="synthetic_table",
        sources=(
            PyPI(
                "scikit-learn",
                "1.9.1",
                9_315_422,
                (
                    _member(FEATURES, "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009"),
                    _member(PROGRESS, "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803"),
                ),
                linux_wheel_of="3.11",  # its data are the same in every wheel
            ),
        ),
    )
]
