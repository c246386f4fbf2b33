from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ladle.training import data
from ladle.training.data import DataError


def test_both_layouts_hold_the_same(tmp_path: Path, random: np.random.Generator) -> None:
    table = random.normal(size=(30, 14))
    np.savetxt(tmp_path / "boston_housing.csv", table, delimiter=",")
    from_table = data.load("boston_housing", path=tmp_path)
    np.savez(tmp_path / "boston_housing.npz", x=table[:, :13], y=table[:, 13])
    from_archive = data.load("boston_housing", path=tmp_path)
    assert from_archive.sizes() == {"train": 21, "validation": 3, "test": 6}
    assert from_archive.train.x.dtype == np.float32
    np.testing.assert_array_equal(from_table.train.x, from_archive.train.x)
    assert from_archive.columns is not None
    assert from_archive.columns[11] == "B"
    assert "racial proxy" in from_archive.provenance.notes
    described = from_archive.table()
    assert [column["name"] for column in described["columns"]] == list(from_archive.columns)
    assert described["columns"][6]["unit"] == "%"
    assert described["columns"][6]["low"] == pytest.approx(from_archive.train.x[:, 6].min(), rel=1e-5)
    assert described["target"]["unit"] == "thousand dollars"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n", "cannot be read as a table of numbers"),
        ("1,2\n3,4\n", r"holds features \[2, 1\]; expected \[n, 13\]"),
        (",".join(["nan"] * 14), "not a finite number"),
    ],
    ids=["words", "too few columns", "nan"],
)
def test_a_broken_table_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "boston_housing.csv").write_text(content)
    with pytest.raises(DataError, match=rf"boston_housing\.csv: .*{says}"):
        data.load("boston_housing", path=tmp_path)
