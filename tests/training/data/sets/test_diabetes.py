from __future__ import annotations

import gzip
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError
from ladle.training.data.sets import diabetes


def written(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    """The two files as scikit-learn has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in ((diabetes.FEATURES, x), (diabetes.PROGRESS, y)):
        with gzip.open(folder / name, "wt") as file:
            np.savetxt(file, table, delimiter=" ")
    return folder


def test_both_files_are_one_table(tmp_path: Path, random: np.random.Generator) -> None:
    x, y = random.normal(size=(30, 10)), random.normal(150, 70, size=30)
    found = data.load("diabetes", path=written(tmp_path, x, y))
    assert found.sizes() == {"train": 21, "validation": 3, "test": 6}
    assert found.train.x.dtype == np.float32
    rows = {tuple(row): target for row, target in zip(x.astype("f4").tolist(), y.astype("f4"), strict=True)}
    assert all(rows[tuple(row)] == target for row, target in zip(found.test.x.tolist(), found.test.y, strict=True))
    described = found.table()
    assert [column["name"] for column in described["columns"]][:3] == ["AGE", "SEX", "BMI"]
    assert described["columns"][3]["unit"] == "mmHg"


def test_an_installed_scikit_learn_has_it_and_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random: np.random.Generator
) -> None:
    package = tmp_path / "sklearn"
    written(package / "datasets" / "data", random.normal(size=(9, 10)), random.normal(size=9))
    (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    [source] = diabetes.DATASETS[0].sources
    assert source.installed() == package / "datasets" / "data"
    assert "sklearn" not in sys.modules


@pytest.mark.parametrize(("width", "says"), [(9, "holds 9 features"), (10, "targets")], ids=["columns", "rows"])
def test_files_that_do_not_fit_are_named(tmp_path: Path, width: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        data.load("diabetes", path=written(tmp_path, np.ones((5, width)), np.ones(4 + (width == 9))))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"diabetes_data_raw\.csv\.gz: no such file; expected a folder with"):
        data.load("diabetes", path=tmp_path)
