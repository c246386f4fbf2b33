"""Your own table: CSV or Parquet with a header row, one row for each example, and a column to predict."""

from __future__ import annotations

import difflib
import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from ladle.training.data.dataset import TARGET, Array, Contents, Split, deal, part, take
from ladle.training.data.errors import DataError, counted
from ladle.training.data.readers import tables
from ladle.training.data.readers.written_numbers import number
from ladle.training.data.registry import Entry
from ladle.training.data.sets import synthetic

LAYOUT = "a table (.csv, .tsv, .parquet) with a header row, and --target COLUMN"
FEWEST_ROWS = 10
FEW_VALUES = 10
"""A target of so many different integers, or fewer, is taken for classes."""
MANY_VALUES = 20
"""Up to so many, the run says which of the two it takes the target for."""
STRAY = 0.1
"""A column whose share of texts is smaller holds numbers, and the texts are mistakes."""
LARGEST, LARGEST_TARGET = 1e30, 1e18
"""Most that numbers may be in float32, which also has to hold the squared errors of a target."""
ID_NAMES = ("id", "index", "row", "no", "nr", "number", "unnamed:_0", "column_1", "__index_level_0__")
"""Names, in lower case, of columns that number the rows."""
NAMED = 6
TASKS = ("classification", "regression")
Task = Literal["classification", "regression"]


def read(
    path: Path,
    seed: int,
    *,
    target: str = "",
    task: str = "",
    columns: Mapping[str, tuple[str, ...]] | None = None,
    labels: tuple[str, ...] | None = None,
    skip_broken: bool = False,
) -> Contents:
    """Rows float32 [n, columns]; targets float32 [n], or int64 [n] of classes, with their labels.

    Of a column with categories, a row holds the category's number, NaN or -1 for none; a missing number is NaN.

    target       name of the column to predict
    task         classification | regression; "": as the target's values suggest
    columns      the columns of a trained model with their categories; without them, those that the table has
    labels       the classes of a trained model
    skip_broken  leave out rows with too few or too many cells, and take texts among numbers for missing

    The seed draws a tenth for validation and a fifth for test, of each class as much.

    DataError: no such target, a target that cannot be predicted, no usable column, or too few rows.
    """
    file = tables.find(path)
    table = _table(file, skip_broken)
    target = check_target(file, table, target)
    notes = list(table.notes)
    task = task or decide(path, target, skip_broken)[0]
    cells = _target_cells(file, table, target, skip_broken)
    kept = [i for i, cell in enumerate(cells) if cell]
    if len(kept) < len(cells):
        notes.append(f"{counted(len(cells) - len(kept), 'row')} without {target} left out")
    if len(kept) < FEWEST_ROWS:
        raise DataError(f"{file}: has {counted(len(kept), 'row')} with {target}; expected at least {FEWEST_ROWS}")
    others = {name: [column[i] for i in kept] for name, column in table.columns.items() if name != target}
    cells = [cells[i] for i in kept]
    names = dict(zip(others, tables.input_names(others), strict=True))
    if columns is None:
        x, columns, left_out = _features(file, others, names, skip_broken)
        notes += [f"left out: {', '.join(left_out)}"] if left_out else []
    else:
        x = _encoded(file, others, names, columns, skip_broken)
    if not columns:
        raise DataError(
            f"{file}: has no column to predict {target} from; {notes[-1] if notes else 'it is the only one'}"
        )
    if task == "regression":
        y = _numbers(file, target, cells)
        splits = deal(x, y.astype(np.float32), seed, 0.1, 0.2)
        found = None
    else:
        found, y = _classes(file, target, cells, labels)
        splits = _stratified(x, y, seed, file)
    drawn = f"70/10/20 %, drawn by seed {seed}" + (", of each class" if task == "classification" else "")
    about = {plain: (name if name != plain else "", "") for name, plain in names.items() if plain in columns}
    return Contents(
        *splits,
        found,
        "; ".join([drawn, *notes]),
        tuple(columns),
        (file,),
        meanings={**about, TARGET: (target, "")},
        categories=columns,
    )


def decide(path: Path, target: str, skip_broken: bool = False) -> tuple[Task, str]:
    """What a target is taken for by its values; and a sentence that says so, where it could be the other.

    DataError as `read`.
    """
    file = tables.find(path)
    table = _table(file, skip_broken)
    target = check_target(file, table, target)
    cells = _target_cells(file, table, target, skip_broken)
    values = tables.numbers(cells)
    if values is None:
        return "classification", ""
    given = values[~np.isnan(values)]
    # Integers beyond 2**53, such as long numbers of products, have no float of their own.
    count = len(np.unique(given) if np.abs(given).max() < 2**53 else {*cells} - {""})
    whole = bool((given == np.round(given)).all())
    task: Task = "classification" if count == 2 or (whole and count <= FEW_VALUES) else "regression"
    if not whole or not 1 < count <= MANY_VALUES:
        return task, ""
    kinds = {"classification": "classes", "regression": "a number"}
    other = "regression" if task == "classification" else "classification"
    return task, (
        f"{target} has {counted(count, 'different integer')}; taken for {kinds[task]}: "
        f"give --task {other} for {kinds[other]}"
    )


def check_target(file: Path, table: tables.Table, target: str) -> str:
    """The name of the target's column. DataError: there is none, or no name was given."""
    if target in table.columns:
        return target
    known = list(table.columns)
    shown = ", ".join(known[:NAMED]) + (", ..." if len(known) > NAMED else "")
    if not target:
        raise DataError(f"{file}: say which column to predict with --target; its columns are {shown}")
    folded = {name.casefold(): name for name in known}
    if target.casefold() in folded:
        return folded[target.casefold()]
    near = difflib.get_close_matches(target, known, 1)
    raise DataError(
        f"{file}: has no column {target!r}; " + (f"did you mean {near[0]}?" if near else f"its columns are {shown}")
    )


def _target_cells(file: Path, table: tables.Table, target: str, skip_broken: bool) -> list[str]:
    """The cells of the target; a few texts among numbers are missing if broken cells are to be skipped."""
    cells = table.columns[target]
    if _refuse_stray(file, target, cells, skip_broken):
        return [cell if number(cell) is not None else "" for cell in cells]
    return cells


def _table(file: Path, skip_broken: bool) -> tables.Table:
    state = file.stat()
    return _read(file.resolve(), state.st_mtime_ns, state.st_size, skip_broken)


# A table is read to tell the task, and again to train.
@functools.lru_cache(maxsize=1)
def _read(file: Path, changed_ns: int, size: int, skip_broken: bool) -> tables.Table:
    return tables.read(file, skip_broken)


def _features(
    file: Path, others: Mapping[str, list[str]], names: Mapping[str, str], skip_broken: bool
) -> tuple[Array, dict[str, tuple[str, ...]], list[str]]:
    """The rows; the used columns by input name with their categories; and the columns that are not used, with why."""
    rows: list[Array] = []
    used: dict[str, tuple[str, ...]] = {}
    left_out: list[str] = []
    for name, cells in others.items():
        different = Counter(cell for cell in cells if cell)
        values = tables.numbers(cells)
        if values is None and _refuse_stray(file, name, cells, skip_broken):
            values = _without_texts(cells)
        if not different:
            left_out.append(f"{name} (empty)")
        elif len(different) == 1 and len(cells) == different.total():
            left_out.append(f"{name} (the same in every row)")
        elif values is not None:
            if _is_id(name, values):
                left_out.append(f"{name} (numbers the rows)")
                continue
            _check_size(file, name, values, LARGEST)
            rows.append(values)
            used[names[name]] = ()
        elif tables.are_dates(cells):
            left_out.append(f"{name} (dates: add columns of numbers, such as year or month)")
        elif len(different) > min(tables.MOST_CATEGORIES, max(2, different.total() // 2)):
            left_out.append(
                f"{name} (text with {len(different):,} different values, such as {next(iter(different))!r:.40})"
            )
        else:
            categories = tuple(sorted(different))
            rows.append(_indices(cells, categories))
            used[names[name]] = categories
    count = len(next(iter(others.values()), ()))
    return np.array(rows, np.float32).reshape(len(rows), count).T, used, left_out


def _encoded(
    file: Path,
    others: Mapping[str, list[str]],
    names: Mapping[str, str],
    columns: Mapping[str, tuple[str, ...]],
    skip_broken: bool,
) -> Array:
    """The rows as a trained model reads them. DataError: a column is missing, or holds texts in place of numbers."""
    by_input = {plain: name for name, plain in names.items()}
    rows = []
    for plain, categories in columns.items():
        if plain not in by_input:
            raise DataError(f"{file}: has no column {plain}; expected the columns of the model: {', '.join(columns)}")
        cells = others[by_input[plain]]
        if categories:
            rows.append(_indices(cells, categories))
            continue
        values = tables.numbers(cells)
        if values is None and any(cells) and not skip_broken:
            raise DataError(
                f"{file}: column {by_input[plain]} holds text; expected numbers, as the model was trained on"
            )
        rows.append(_without_texts(cells) if values is None else values)
    return np.array(rows, np.float32).T


def _indices(cells: list[str], categories: tuple[str, ...]) -> Array:
    numbers = {category: number for number, category in enumerate(categories)}
    return np.array([numbers.get(cell, -1) for cell in cells], np.float64)


def _refuse_stray(file: Path, name: str, cells: list[str], skip_broken: bool = False) -> bool:
    """DataError for a column of numbers with a few texts among them; True if those are to be left out."""
    texts = [i for i, cell in enumerate(cells) if cell and number(cell) is None]
    given = sum(bool(cell) for cell in cells)
    # Few different numbers may be categories, such as house numbers of a short street.
    if not texts or len(texts) > STRAY * given or len({cells[i] for i in texts}) == len(texts) == given:
        return False
    if not skip_broken:
        raise DataError(
            f"{file}: column {name} holds numbers, but row {texts[0] + 1} has {cells[texts[0]]!r} "
            f"({counted(len(texts), 'such row')}); mend them, or give --skip-broken to take them for missing"
        )
    return True


def _without_texts(cells: list[str]) -> Array:
    values = [number(cell) if cell else None for cell in cells]
    return np.array([np.nan if value is None else value for value in values])


def _check_size(file: Path, name: str, values: Array, most: float) -> None:
    """DataError for numbers beyond what float32 can compute with."""
    largest = values[np.nanargmax(np.abs(values))]
    if abs(largest) > most:
        raise DataError(
            f"{file}: column {name} has the number {largest:g}; expected at most {most:g}: divide the column by a "
            "power of ten, or remove it"
        )


def _is_id(name: str, values: Array) -> bool:
    """Whether a column only numbers the rows: rising integers under a name that says so."""
    plain = name.casefold().replace(" ", "_")
    says_so = plain in ID_NAMES or plain.endswith("_id")
    return says_so and not np.isnan(values).any() and bool((np.diff(values) > 0).all() and (values % 1 == 0).all())


def _numbers(file: Path, target: str, cells: list[str]) -> Array:
    values = tables.numbers(cells)
    if values is None:
        text = next(cell for cell in cells if number(cell) is None)
        raise DataError(
            f"{file}: column {target} holds text such as {text!r}; expected numbers: give --task classification"
        )
    _check_size(file, target, values, LARGEST_TARGET)
    if np.ptp(values) == 0:
        raise DataError(f"{file}: column {target} is {values[0]:g} in every row; expected numbers that differ")
    return values


def _classes(
    file: Path, target: str, cells: list[str], labels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Array]:
    """The classes in order, and the class of each row."""
    values = tables.numbers(cells)
    if values is not None and (values == np.round(values)).all():  # 1.0 of a spreadsheet is the class 1
        # An integer beyond 2**53 has no float of its own.
        cells = [cell if cell.isdecimal() else f"{value:.0f}" for cell, value in zip(cells, values, strict=True)]
    cells = [" ".join(cell.split()) for cell in cells]
    counts = Counter(cells)
    names = tuple(sorted(counts, key=lambda name: (number(name) or 0.0, name))) if labels is None else labels
    if len(names) < 2:
        raise DataError(f"{file}: column {target} is {names[0]} in every row; expected two classes or more")
    if unknown := sorted(counts.keys() - set(names)):
        raise DataError(f"{file}: {target} has the class {unknown[0]!r}; expected one of {', '.join(names)}")
    if labels is None and (single := [name for name in names if counts[name] == 1]):
        if tables.are_dates(cells):
            raise DataError(
                f"{file}: column {target} holds dates; expected classes or numbers: add a column of numbers, such as "
                "year"
            )
        more = f" ({len(single)} such classes)" if len(single) > 1 else ""
        advice = ", or give --task regression" if values is not None else ""
        raise DataError(
            f"{file}: class {single[0]} of {target} has one row{more}; expected two or more, to train and to test: "
            f"add rows or remove it{advice}"
        )
    index = {name: number for number, name in enumerate(names)}
    return names, np.array([index[cell] for cell in cells], np.int64)


def _stratified(x: Array, y: Array, seed: int, file: Path) -> tuple[Split, Split, Split]:
    """70/10/20 % of each class, at least one row of each in train and test."""
    random = np.random.default_rng(seed)
    parts: tuple[list[Array], ...] = ([], [], [])
    for class_id in np.unique(y):
        rows = random.permutation(np.flatnonzero(y == class_id))
        tested = min(part(len(rows), 0.2), len(rows) - 1)
        held = min(round(0.1 * len(rows)), len(rows) - tested - 1)
        for found, chosen in zip(parts, np.split(rows, [len(rows) - tested - held, len(rows) - tested]), strict=True):
            found.append(chosen)
    train, validation, test = (random.permutation(np.concatenate(found)) for found in parts)
    if not len(validation):
        counts = np.bincount(y[train])
        spare = np.flatnonzero(counts[y[train]] > 1)
        if not len(spare):
            raise DataError(f"{file}: has two rows of each class; expected more, to train, to validate and to test")
        validation, train = train[spare[:1]], np.delete(train, spare[0])
    return take(x, y, train), take(x, y, validation), take(x, y, test)


DATASETS = [
    Entry(
        name="table",
        kind="table",
        description="your own table, CSV or Parquet: a column to predict from the others",
        origin="the user",
        licence="the user's",
        splits="70/10/20 % by seed, of each class",
        layout=LAYOUT,
        read=read,
        generate=synthetic.table,
        generated_name="synthetic_table",
    )
]
