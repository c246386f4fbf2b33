"""Tables as spreadsheets, exports and other programs leave them: read right, or refused in one sentence."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ladle import models
from ladle.training import data
from ladle.training.data import DataError, Dataset
from ladle.training.run.request import for_table

HEADER = ["area", "city", "price"]
ROWS = [[str(20 + 3 * n), ("Lyon", "Nice")[n % 2], str(1000 + 41 * n % 977)] for n in range(40)]


def lines(rows: list[list[str]], delimiter: str = ",", header: list[str] | None = None) -> str:
    return "".join(delimiter.join(row) + "\n" for row in [header or HEADER, *rows])


def load(path: Path, target: str = "price", task: str = "") -> Dataset:
    return data.load("table", path=path, target=target, task=task)


def column(dataset: Dataset, name: str) -> list[float]:
    """All values of a column, sorted; NaN left out."""
    assert dataset.columns is not None
    i = dataset.columns.index(name)
    x = np.concatenate([split.x[:, i] for split in (dataset.train, dataset.validation, dataset.test)])
    return sorted(x[~np.isnan(x)].tolist())


READ: dict[str, bytes] = {
    "excel's separator line": b"sep=;\r\n" + lines(ROWS, ";").encode(),
    "utf-16": lines(ROWS).encode("utf-16"),
    "utf-32": lines(ROWS).encode("utf-32"),
}


@pytest.mark.parametrize("way", READ)
def test_an_export_gives_the_same_rows(way: str, tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_bytes(READ[way])
    assert data.holds_table(path)
    dataset = load(path)
    assert dataset.columns == ("area", "city")
    assert column(dataset, "area") == [20.0 + 3 * n for n in range(40)]


@pytest.mark.parametrize("missing", ["-", "–", "None", "nil", "n.a."])
def test_a_dash_or_none_among_numbers_is_a_missing_number(missing: str, tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_text(lines([[missing if n % 4 == 0 else row[0], *row[1:]] for n, row in enumerate(ROWS)]))
    assert column(load(path), "area") == [20.0 + 3 * n for n in range(40) if n % 4]


def test_none_among_texts_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    rows = [[*row, ("none", "dent", "scratch")[n % 3]] for n, row in enumerate(ROWS)]
    path.write_text(lines(rows, header=[*HEADER, "defect"]))
    assert load(path, "defect").labels == ("dent", "none", "scratch")
    assert load(path).categories["defect"] == ("dent", "none", "scratch")


def test_a_typographers_minus_sign_is_one(tmp_path: Path) -> None:
    path = tmp_path / "weather.csv"
    path.write_text(lines([[f"−{n}.5" if n % 2 else f"{n}", *row[1:]] for n, row in enumerate(ROWS)]))
    assert column(load(path), "area")[:2] == [-39.5, -37.5]


def test_classes_of_long_integers_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    path.write_text(lines([[*row[:2], str(2**53 + n % 2)] for n, row in enumerate(ROWS)]))
    options = for_table(models.get("mlp"), path, "price", None)[1]
    assert options["task"] == "classification"
    assert load(path).labels == (str(2**53), str(2**53 + 1))


def refused(path: Path, target: str = "price") -> str:
    with pytest.raises(DataError) as refusal:
        load(path, target)
    return str(refusal.value).removeprefix(f"{path}: ")


TITLES: dict[str, Callable[[], str]] = {
    "begins with 'Houses of 2024'": lambda: "Houses of 2024\n\n" + lines(ROWS),
    "begins with '# made by us'": lambda: "# made by us\n" + lines(ROWS),
    "begins with a row that names 1 of 3 columns (Houses of 2024)": lambda: "Houses of 2024,,\n" + lines(ROWS),
}


@pytest.mark.parametrize("said", TITLES)
def test_what_stands_above_the_header_is_named(said: str, tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_text(TITLES[said]())
    assert refused(path) == f"{said}; expected the header row first: remove what stands above it"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("houses.xlsx", "is an Excel workbook; expected a table as CSV or Parquet: save it as .csv or .parquet file"),
        ("houses.json", "is JSON; expected a table as CSV or Parquet: save it as .csv or .parquet file"),
        ("houses.npz", "is NumPy's format; expected a table as CSV or Parquet: save it as .csv or .parquet file"),
        (
            "houses.zip",
            "is an archive; expected a table as CSV or Parquet: unpack it and give its .csv or .parquet file",
        ),
        ("zip.csv", "is a workbook or an archive; expected a table as CSV or Parquet: save it as .csv file"),
        ("json.csv", "is JSON; expected a table as CSV or Parquet: save it as .csv or .parquet file"),
    ],
)
def test_other_formats_are_refused_by_what_they_are(name: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if "json" in name:
        path.write_text(json.dumps([dict(zip(HEADER, row, strict=True)) for row in ROWS]))
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("houses.csv", lines(ROWS))
    assert refused(path).startswith(what)
    if name == "houses.xlsx":
        assert refused(tmp_path) == f"{path}: {what}".removeprefix(f"{tmp_path}: ")


def test_parquet_of_pandas_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {name: [row[i] for row in ROWS] for i, name in enumerate(HEADER)}
    columns["when"] = pyarrow.array([1_700_000_000_000_000_001 + n for n in range(40)], pyarrow.timestamp("ns"))
    columns["tags"] = [["a", "bc"[n % 2]] for n in range(40)]
    columns["__index_level_0__"] = list(range(40))
    parquet.write_table(pyarrow.table(columns), tmp_path / "houses.parquet")
    dataset = load(tmp_path / "houses.parquet")
    assert dataset.columns == ("area", "city")
    for said in ("when (dates: ", "tags left out, as it holds list<", "__index_level_0__ (numbers the rows)"):
        assert said in dataset.provenance.notes


def test_parquet_under_another_name_is_read_as_parquet(tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_bytes(b"PAR1 and no more")
    assert re.match(r"cannot be read as Parquet|Parquet needs pyarrow", refused(path))


@pytest.mark.parametrize("place", ["column", "target"])
def test_numbers_whose_square_is_infinite_are_refused(place: str, tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    i = 0 if place == "column" else 2
    path.write_text(lines([[*row[:i], f"{row[i]}e30", *row[i + 1 :]] for row in ROWS]))
    assert re.search(r"expected at most 1e\+(18|30): divide the column by a power of ten", refused(path))


def test_a_target_of_dates_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_text(lines([[*row[:2], f"2024-0{n % 9 + 1}-{n % 28 + 1:02}"] for n, row in enumerate(ROWS)]))
    assert refused(path).startswith("column price holds dates; expected classes or numbers")


def test_labels_in_utf_8_with_a_byte_order_mark_have_plain_names(tmp_path: Path) -> None:
    from ladle.training.data.readers import files

    (tmp_path / "labels.txt").write_bytes("background\ncell\n".encode("utf-8-sig"))
    assert files.text(tmp_path / "labels.txt").splitlines() == ["background", "cell"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_a_csv_of_pictures_may_have_any_encoding_and_quoted_line_breaks(encoding: str, tmp_path: Path) -> None:
    from PIL import Image

    rows = ["file;label;note"]
    for n in range(10):
        Image.fromarray(np.full((6, 6), n, np.uint8)).save(tmp_path / f"{n}.png")
        rows.append(f'{n}.png;{("été", "hiver")[n % 2]};"one\nmore"')
    (tmp_path / "labels.csv").write_bytes("\n".join(rows).encode(encoding))
    assert data.load("image_folder", path=tmp_path, channels=1).labels == ("hiver", "été")
