"""Tables as people have them: each is read right, or refused in one sentence before any training."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle import models
from ladle.training import data
from ladle.training.data import DataError, Dataset
from ladle.training.errors import UsageError
from ladle.training.run.request import compose, for_table, load

Rows = Sequence[Sequence[object]]
COUNT = 40


def rows(count: int = COUNT) -> list[list[object]]:
    """A header and `count` houses; the price is ten times the area."""
    found: list[list[object]] = [["area", "city", "price"]]
    return found + [[30.5 + i, ("Lyon", "Nice, FR", "Évry")[i % 3], 305 + 10 * i] for i in range(count)]


def write(path: Path, table: Rows, *, encoding: str = "utf-8", **style: Any) -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, **style).writerows(table)
    return path


def with_column(name: str, values: Sequence[object]) -> list[list[object]]:
    """The houses with one column more, at the front."""
    table = rows(len(values))
    return [[name, *table[0]], *([value, *row] for value, row in zip(values, table[1:], strict=True))]


def read(path: Path, target: str = "price", **options: Any) -> Dataset:
    return data.load("table", path=path, target=target, **options)


def notes(path: Path, target: str = "price", **options: Any) -> str:
    return read(path, target, **options).provenance.notes


STYLES: dict[str, dict[str, Any]] = {
    "comma": {},
    "semicolon": {"delimiter": ";"},
    "tab": {"delimiter": "\t"},
    "pipe": {"delimiter": "|"},
    "all quoted": {"quoting": csv.QUOTE_ALL},
    "CR only": {"lineterminator": "\r"},
    "LF only": {"lineterminator": "\n"},
    "BOM": {"encoding": "utf-8-sig"},
    "Latin-1": {"encoding": "latin-1"},
    "UTF-16": {"encoding": "utf-16"},
}


@pytest.mark.parametrize("style", STYLES)
def test_every_way_to_write_a_csv_gives_the_same_rows(style: str, tmp_path: Path) -> None:
    found = read(write(tmp_path / "houses.csv", rows(), **STYLES[style]))
    assert found.columns == ("area", "city")
    assert found.categories == {"area": (), "city": ("Lyon", "Nice, FR", "Évry")}
    assert found.sizes() == {"train": 28, "validation": 4, "test": 8}
    x, y = found.train.x, found.train.y
    assert y is not None
    assert np.allclose(x[:, 0] * 10, y)
    assert ((x[:, 0] - 30.5) % 3 == x[:, 1]).all()


def test_a_decimal_comma_is_read_where_the_comma_does_not_separate(tmp_path: Path) -> None:
    table = [[str(cell).replace(".", ",") for cell in row] for row in rows()]
    assert read(write(tmp_path / "houses.csv", table, delimiter=";")).categories["area"] == ()


WRITTEN = {
    "thousands": (",", ["1,234.5", "950", "-12,345,678"], [1234.5, 950, -12345678], "',' separates thousands"),
    "thousands alone": (",", ["1,234", "2,345", ""], [1234, 2345, np.nan], "',' separates thousands"),
    "thousands beside tabs": ("\t", ["1,234", "2,345", "950"], [1234, 2345, 950], "',' separates thousands"),
    "a decimal comma of three digits": (";", ["1,234", "2,345", "950"], [1.234, 2.345, 950], ""),
    "a decimal comma": ("\t", ["1,5", "2,345", "0,125"], [1.5, 2.345, 0.125], ""),
    "points": (";", ["1.234,56", "950", "12.345"], [1234.56, 950, 12345], "'.' separates thousands"),
    "spaces": (";", ["1 234,5", "12\u00a0345", "1\u202f000"], [1234.5, 12345, 1000], "' ' separates thousands"),
    "apostrophes": (",", ["1'234.50", "950"], [1234.5, 950], '"\'" separates thousands'),
    "dollars": (",", ["$1,234.50", "-$ 950", "$3"], [1234.5, -950, 3], "$ taken off and ',' separates thousands"),
    "euros": (";", ["1.234,50 €", "950 €", "3,5€"], [1234.5, 950, 3.5], "€ taken off and '.' separates thousands"),
    "percent": (",", ["12%", "3.5 %", ""], [12, 3.5, np.nan], "% taken off"),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_numbers_are_read_as_people_write_them(way: str, tmp_path: Path) -> None:
    delimiter, cells, expected, note = WRITTEN[way]
    table = with_column("x", (cells * 40)[:40])
    found = read(write(tmp_path / "houses.csv", table, delimiter=delimiter))
    assert found.categories["x"] == ()
    values = np.concatenate([part.x[:, 0] for part in (found.train, found.validation, found.test)])
    np.testing.assert_array_equal(np.unique(values), np.unique(np.float32(expected)))
    assert note in found.provenance.notes
    assert bool(note) == ("x: " in found.provenance.notes)


@pytest.mark.parametrize(
    "cells", [["$5", "6", "7 kg"], ["1,2", "3,4", "5,6"], ["1,23,456", "7", "8"], ["1.2.3", "4.5.6", "7"]]
)
def test_texts_with_digits_stay_texts(cells: list[str], tmp_path: Path) -> None:
    found = read(write(tmp_path / "houses.csv", with_column("x", (cells * 40)[:40])))
    assert found.categories["x"] == tuple(sorted(cells))


def test_a_quoted_cell_may_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    table = with_column("kind", ['a "b"; c,\nd', "e"] * 20)
    assert read(write(tmp_path / "houses.csv", table)).categories["kind"] == ('a "b"; c,\nd', "e")


def test_seed_and_file_alone_decide_the_split(tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", rows())
    assert (read(path).test.x == read(path).test.x).all()
    assert not (read(path, seed=1).test.x[:, 0] == read(path, seed=2).test.x[:, 0]).all()


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "null", "?", " "])
def test_missing_values_are_nan_and_no_category(missing: str, tmp_path: Path) -> None:
    table = rows()
    table[1][0] = table[2][1] = missing
    found = read(write(tmp_path / "houses.csv", table))
    x = np.concatenate([part.x for part in (found.train, found.validation, found.test)])
    assert np.isnan(x[:, 0]).sum() == 1
    assert (x[:, 1] == -1).sum() == 1
    assert found.table()["columns"][0]["high"] <= 69.5


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    table = rows()
    table[3][2] = table[9][2] = ""
    path = write(tmp_path / "houses.csv", table)
    assert "2 rows without price left out" in notes(path)
    assert sum(read(path).sizes().values()) == COUNT - 2


LEFT_OUT = {
    "constant": ([7] * COUNT, "the same in every row"),
    "empty": ([""] * COUNT, "empty"),
    "ISO dates": ([f"2024-03-{1 + i % 28:02}" for i in range(COUNT)], "dates: add columns of numbers"),
    "dates with times": ([f"2024-03-01 10:{i:02}:00" for i in range(COUNT)], "dates: add columns of numbers"),
    "German dates": ([f"{1 + i % 28}.3.2024" for i in range(COUNT)], "dates: add columns of numbers"),
    "names": ([f"owner {i}" for i in range(COUNT)], "text with 40 different values"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_column_that_cannot_help_is_left_out_with_the_reason(kind: str, tmp_path: Path) -> None:
    values, reason = LEFT_OUT[kind]
    path = write(tmp_path / "houses.csv", with_column("extra", values))
    assert f"left out: extra ({reason}" in notes(path)
    assert read(path).columns == ("area", "city")


@pytest.mark.parametrize("name", ["id", "ID", "Unnamed: 0", "", "house_id"])
def test_numbers_of_the_rows_are_left_out(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", with_column(name, range(1, COUNT + 1)))
    assert "(numbers the rows)" in notes(path)


def test_rising_numbers_under_another_name_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", with_column("built", range(1900, 1900 + COUNT)))
    assert read(path).columns == ("built", "area", "city")


def test_names_of_inputs_are_plain_and_unique_and_the_card_keeps_the_header(tmp_path: Path) -> None:
    header = ["Wohnfläche (m²)", "2nd", "a b", "a-b", "class", "inputs", "A_B", "y"]
    table = [header, *([i, i * 2 % 7, i % 5, i % 3, i % 4, i % 6, i % 9, 3.5 * i] for i in range(COUNT))]
    found = read(write(tmp_path / "t.csv", table), "y")
    assert found.columns == ("Wohnflache_m2", "c_2nd", "a_b", "a_b_2", "class", "inputs_", "A_B_3")
    assert found.table()["columns"][0] == {
        "name": "Wohnflache_m2",
        "about": "Wohnfläche (m²)",
        "unit": "",
        "low": float(found.train.x[:, 0].min()),
        "high": float(found.train.x[:, 0].max()),
    }


def test_each_class_has_its_share_in_every_split(tmp_path: Path) -> None:
    table = [["x", "kind"], *([i, "rare" if i % 10 == 0 else "usual"] for i in range(200))]
    found = read(write(tmp_path / "t.csv", table), "kind")
    assert found.labels == ("rare", "usual")
    assert [
        np.bincount(part.y).tolist() for part in (found.train, found.validation, found.test) if part.y is not None
    ] == [
        [14, 126],
        [2, 18],
        [4, 36],
    ]


def test_a_class_of_two_rows_is_trained_and_tested(tmp_path: Path) -> None:
    table = [["x", "kind"], *([i, "rare" if i < 2 else "usual"] for i in range(30))]
    found = read(write(tmp_path / "t.csv", table), "kind")
    assert found.train.y is not None
    assert found.test.y is not None
    assert [int((part == 0).sum()) for part in (found.train.y, found.test.y)] == [1, 1]


TARGETS = {
    "text": (["a", "b"] * 20, "classification", ""),
    "two numbers": ([0.5, 1.5] * 20, "classification", ""),
    "0 and 1": ([0, 1] * 20, "classification", "taken for classes: give --task regression for a number"),
    "few integers": ([3, 4, 5, 6] * 10, "classification", "4 different integers; taken for classes"),
    "some integers": (
        [*range(15), *range(15), *range(10)],
        "regression",
        "taken for a number: give --task classification",
    ),
    "many integers": (range(COUNT), "regression", ""),
    "numbers": ([i / 4 for i in range(COUNT)], "regression", ""),
    "few fractions": ([0.25, 0.5, 0.75, 1] * 10, "regression", ""),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_the_values_of_a_target_say_what_it_is_taken_for(kind: str, tmp_path: Path) -> None:
    values, task, said = TARGETS[kind]
    path = write(tmp_path / "t.csv", [["x", "target"], *([7 * i % 40, value] for i, value in enumerate(values))])
    found, sentence = data.decide(path, "target")
    assert found == task
    assert said in sentence if said else not sentence
    network, options, _ = for_table(models.get("mlp"), path, "target", None)
    assert network.task == {"classification": "classify", "regression": "regress"}[task]
    assert options == {"target": "target", "task": task}


def test_the_task_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [["x", "grade"], *([i, 1 + i % 4] for i in range(COUNT))])
    assert for_table(models.get("mlp"), path, "grade", "regression")[0].task == "regress"
    assert for_table(models.get("mlp"), path, "grade", None)[0].task == "classify"


def test_labels_of_integers_sort_as_numbers(tmp_path: Path) -> None:
    table = [["x", "grade"], *([i, f"{(2, 10, 1)[i % 3]}.0"] for i in range(COUNT))]
    assert read(write(tmp_path / "t.csv", table), "grade").labels == ("1", "2", "10")


def damaged(change: str) -> Rows:
    table = rows()
    if change == "too few rows":
        return table[:6]
    if change == "stray text":
        table[5][0] = "about 30"
    if change == "broken row":
        table[5] = table[5][:2]
    if change == "no header":
        return [[i, 2 * i, 3 * i] for i in range(1, 20)]
    if change == "one column":
        return [row[:1] for row in table]
    if change == "name twice":
        table[0][1] = "area"
    if change == "only a header":
        return table[:1]
    if change == "only the target":
        return [[7, row[2]] if n else ["constant", "price"] for n, row in enumerate(table)]
    if change == "constant target":
        return [row if not n else [*row[:2], 5] for n, row in enumerate(table)]
    if change == "one class":
        return [[*row[:2], "cheap"] if n else row for n, row in enumerate(table)]
    if change == "class of one row":
        return [[*row[:2], "dear" if n == 7 else "cheap"] if n else row for n, row in enumerate(table)]
    return table


REFUSED = {
    "too few rows": "has 5 rows with price; expected at least 10",
    "stray text": "column area holds numbers, but row 5 has 'about 30' (1 such row); mend them, or give --skip-broken",
    "broken row": "row 5 has 2 cells and the header has 3 (1 such row); mend them, or give --skip-broken",
    "no header": "begins with a row of numbers; expected a header row",
    "one column": "has one column; expected several, separated by",
    "name twice": "has 2 columns named area; give each a name of its own",
    "only a header": "has no rows; expected a header row and one row for each example",
    "only the target": "has no column to predict price from",
    "constant target": "column price is 5 in every row",
    "one class": "column price is cheap in every row; expected two classes or more",
    "class of one row": "class dear of price has one row; expected two or more",
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_table_that_cannot_be_learnt_from_is_refused(change: str, tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", damaged(change))
    with pytest.raises(DataError) as refusal:
        read(path, task="regression" if change == "constant target" else "")
    assert str(path) in str(refusal.value)
    assert REFUSED[change] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is no text; expected CSV"),
        (b'a,b\n"1,2\n' * 20, "cannot be read as CSV"),
    ],
    ids=["empty", "binary", "open quote"],
)
def test_a_file_that_is_no_table_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(path, "b")


@pytest.mark.parametrize("change", ["stray text", "broken row"])
def test_broken_rows_are_left_out_on_request(change: str, tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", damaged(change))
    found = read(path, skip_broken=True)
    assert sum(found.sizes().values()) == COUNT - (change == "broken row")
    assert found.categories["area"] == ()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", "say which column to predict with --target; its columns are area, city, price"),
        ("prise", "has no column 'prise'; did you mean price?"),
        ("xyz", "has no column 'xyz'; its columns are area, city, price"),
    ],
    ids=["none", "misspelt", "unknown"],
)
def test_a_target_that_is_no_column_is_refused(target: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        read(write(tmp_path / "houses.csv", rows()), target)
    assert said in str(refusal.value)


def test_case_does_not_matter_in_the_target(tmp_path: Path) -> None:
    assert read(write(tmp_path / "houses.csv", rows()), "PRICE").columns == ("area", "city")


@pytest.mark.parametrize(
    ("network", "target", "task", "said"),
    [
        (
            "lenet5",
            "price",
            None,
            "takes no tables; train house_prices or linear_regression or logistic_regression or mlp",
        ),
        (
            "logistic_regression",
            "price",
            None,
            "price is taken for a number; train house_prices or linear_regression or mlp",
        ),
        ("house_prices", "city", None, "city is taken for classes; train logistic_regression or mlp"),
        ("mlp", "price", "guess", "got 'guess'; expected classification or regression"),
    ],
    ids=["images only", "no regression", "no classes", "unknown task"],
)
def test_networks_say_what_they_predict(network: str, target: str, task: str | None, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", rows())
    with pytest.raises(UsageError) as refusal:
        for_table(models.get(network), path, target, task)
    assert said in str(refusal.value)


def test_a_target_without_a_table_is_refused() -> None:
    with pytest.raises(UsageError, match="belong to a table of your own"):
        for_table(models.get("mlp"), None, "price", None)


@pytest.mark.parametrize("of_file", [False, True], ids=["folder", "file"])
def test_a_table_is_told_from_the_names_of_pictures(of_file: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", rows())
    assert data.holds_table(path if of_file else tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    assert data.holds_table(path)
    write(path, [["file", "label"], ["a.png", "cat"]])
    assert not data.holds_table(path if of_file else tmp_path)


def test_a_table_of_numbers_without_a_header_stays_the_stock_layout(tmp_path: Path) -> None:
    path = write(tmp_path / "boston_housing.csv", [list(range(14))] * 20)
    assert for_table(models.get("house_prices"), path, None, None)[0].takes == ""


def test_the_model_is_called_after_network_file_and_target(tmp_path: Path) -> None:
    path = write(tmp_path / "My houses.csv", rows())
    network, options, _ = for_table(models.get("mlp"), path, "price", None)
    request = compose(network, overrides=options, data_path=path)
    assert request.model == "mlp_my_houses_price"


def test_the_graph_gets_statistics_of_the_training_rows_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "houses.csv", rows())
    network, options, _ = for_table(models.get("mlp"), path, "price", None)
    prepared = load(compose(network, overrides=options, data_path=path))
    config: Any = prepared.config
    assert config.columns == ("area", "city")
    assert config.category_counts == (0, 3)
    x = np.asarray(prepared.dataset.train.x)[:, 0].astype(np.float64)
    assert config.means == pytest.approx((x.mean(), 0))
    assert config.deviations == pytest.approx((x.std(), 1))
    assert config.target_mean == pytest.approx(10 * x.mean())


def test_parquet_gives_what_the_csv_gives(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = rows()
    columns = {str(name): [row[i] for row in table[1:]] for i, name in enumerate(table[0])}
    parquet.write_table(arrow.table(columns), tmp_path / "houses.parquet")
    of_csv, of_parquet = read(write(tmp_path / "houses.csv", table)), read(tmp_path / "houses.parquet")
    assert of_parquet.categories == of_csv.categories
    assert (of_parquet.train.x == of_csv.train.x).all()


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "houses.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"needs pyarrow; install it: pip install 'ladle\[parquet\]'"):
        read(tmp_path / "houses.parquet")


def test_a_large_table_is_read(tmp_path: Path) -> None:
    table = rows(20_000)
    assert sum(read(write(tmp_path / "houses.csv", table)).sizes().values()) == 20_000
