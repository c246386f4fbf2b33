"""Reads tables, CSV and Parquet, into columns of text; and tells what each column holds."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array
from ladle.training.data.errors import DataError, counted
from ladle.training.data.readers import files
from ladle.training.data.readers.written_numbers import as_plain, number

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".pq")
DELIMITERS = ",;\t|"
MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?"))
"""Texts that stand for a missing value, in lower case."""
MISSING_NUMBERS = frozenset(("none", "nil", "-", "--", "–", "—", ".", "n.a.", "n.v.", "k.a."))
"""Texts that stand for a missing number among numbers. Among texts, they are texts: "none" may be a class."""
OTHER_FORMATS = {
    "an Excel workbook": (".xlsx", ".xlsm", ".xlsb", ".xls"),
    "a spreadsheet of LibreOffice": (".ods",),
    "JSON": (".json", ".jsonl", ".ndjson"),
    "NumPy's format": (".npz", ".npy"),
    "an Arrow file": (".feather", ".arrow", ".orc"),
    "a database": (".db", ".sqlite", ".sqlite3", ".mdb", ".accdb"),
    "a pickle": (".pkl", ".pickle", ".joblib"),
    "an HDF5 file": (".h5", ".hdf5"),
    "a file of statistics software": (".sav", ".dta", ".sas7bdat", ".rds", ".rdata", ".mat"),
    "an archive": (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar"),
}
"""Formats that tables come in and that are not read, by the endings of their names."""
LOOKED_AT = 50
"""Lines from which the delimiter is told."""
MOST_COLUMNS = 1000
MOST_CATEGORIES = 100
"""Different texts in a column beyond which they are no categories."""
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([T ]\d{1,2}:\d{2}.*)?"
    r"|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
)

Cells = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Columns of text by name, all of one length; a missing value is "".

    notes  what was special about the file
    """

    columns: dict[str, list[str]]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


class NumbersError(DataError):
    """A table has no header row."""


def is_table(path: Path) -> bool:
    """Whether the file's name ends as that of a table."""
    return path.name.lower().endswith(SUFFIXES)


def refuse_other_formats(path: Path) -> None:
    """DataError for a file whose name says that it is a table in a format that is not read."""
    name = path.name.lower()
    for what, endings in OTHER_FORMATS.items():
        if name.endswith(endings):
            advice = "unpack it and give its" if what == "an archive" else "save it as"
            raise DataError(f"{path}: is {what}; expected a table as CSV or Parquet: {advice} .csv or .parquet file")


def find(path: Path) -> Path:
    """The file itself, or the only table in a folder. DataError: there is none, or there are several."""
    if path.is_file():
        refuse_other_formats(path)
        return path
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; expected a table ({', '.join(SUFFIXES)})")
    found = sorted(file for file in path.iterdir() if is_table(file))
    if not found:
        for file in sorted(path.iterdir()):
            refuse_other_formats(file)
    if len(found) != 1:
        named = f"{len(found)} tables ({found[0].name}, {found[1].name} ...)" if found else "no table"
        raise DataError(f"{path}: holds {named}; expected one: give the path of a file ({', '.join(SUFFIXES)})")
    return found[0]


def read(path: Path, skip_broken: bool = False) -> Table:
    """The table in a file, with a header row.

    skip_broken  leave out rows with too few or too many cells

    DataError: it cannot be read, has no header row, no rows, one column, two columns of one name, or a broken row.
    """
    table = _parquet(path) if _is_parquet(path) else _csv(path, skip_broken)
    if not table.columns or not len(table):
        raise DataError(f"{path}: has no rows; expected a header row and one row for each example")
    if len(table.columns) > MOST_COLUMNS:
        raise DataError(f"{path}: has {len(table.columns):,} columns; expected at most {MOST_COLUMNS:,}")
    return table


def has_header(path: Path) -> bool:
    """Whether a table's first row names its columns; also of a file that cannot be read, so that its reader tells."""
    if _is_parquet(path):
        return True
    try:
        text, delimiter = _given_delimiter(_decoded(path)[0])
        row = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter(path, text)))
        _names(path, row)
    except NumbersError:
        return False
    except (DataError, csv.Error, StopIteration):
        return True
    return True


def _csv(path: Path, skip_broken: bool) -> Table:
    text, notes = _decoded(path)
    if not text.strip():
        raise DataError(f"{path}: is empty; expected a header row and one row for each example")
    text, delimiter = _given_delimiter(text)
    delimiter = delimiter or _delimiter(path, text)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); check its quotes") from error
    header, rows = _names(path, rows[0]), rows[1:]
    wrong = [n for n, row in enumerate(rows) if len(row) != len(header)]
    if wrong and not skip_broken:
        raise DataError(
            f"{path}: row {wrong[0] + 1} has {len(rows[wrong[0]])} cells and the header has {len(header)} "
            f"({counted(len(wrong), 'such row')}); mend them, or give --skip-broken"
        )
    if wrong:
        notes.append(f"{counted(len(wrong), 'row')} with too few or too many cells left out")
        left_out = set(wrong)
        rows = [row for n, row in enumerate(rows) if n not in left_out]
    columns = {name: [_cell(row[i]) for row in rows] for i, name in enumerate(header)}
    return _with_plain_numbers(columns, delimiter, notes)


def _with_plain_numbers(columns: dict[str, list[str]], delimiter: str, notes: list[str]) -> Table:
    for name, cells in columns.items():
        columns[name], note = as_plain(_without_missing_numbers(cells, delimiter), delimiter)
        notes += [f"{name}: {note}"] if note else []
    return Table(columns, tuple(notes))


def _decoded(path: Path) -> tuple[str, list[str]]:
    """The text of a file, and a note of its encoding if that is a guess. DataError: it is no text."""
    with path.open("rb") as file:
        begin = file.read(8)
    if begin.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):  # whatever its name says
        raise DataError(
            f"{path}: is a workbook or an archive; expected a table as CSV or Parquet: save it as .csv file"
        )
    text, guessed = files.any_text(path)
    if text.lstrip()[:2] in ("[{", '{"', "[\n", "{\n"):
        raise DataError(f"{path}: is JSON; expected a table as CSV or Parquet: save it as .csv or .parquet file")
    return text, ["read as Latin-1 (Windows-1252), as it is not UTF-8"] if guessed else []


def _is_parquet(path: Path) -> bool:
    """Whether a file is Parquet by its name or, if it is named otherwise, by its first bytes."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _given_delimiter(text: str) -> tuple[str, str]:
    """The text after a first line `sep=;`, as Excel writes it, and that delimiter; else the text as it is and ""."""
    line, _, rest = text.partition("\n")
    given = line.strip('\r"').removeprefix("sep=")
    return (rest, given) if len(given) == 1 and "sep=" in line else (text, "")


def _without_missing_numbers(cells: list[str], delimiter: str) -> list[str]:
    """A column of numbers whose missing ones are written as a dash or `none`: those are "". Others as they are."""
    left = ["" if cell.lower() in MISSING_NUMBERS else cell for cell in cells]
    if left == cells:
        return cells
    plain, _ = as_plain(left, delimiter)
    return left if numbers(plain) is not None else cells


def _delimiter(path: Path, text: str) -> str:
    """The delimiter that gives most of the first rows the same number of cells, more than one."""
    lines = list(_lines(text))
    best, most, title = "", (0, 0), ""
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            continue
        counts = [len(row) for row in rows]
        width = counts[0] if counts else 1
        score = (sum(count == width for count in counts), width)
        if width > 1 and score > most:
            best, most = delimiter, score
        usual, often = Counter(counts).most_common(1)[0] if counts else (1, 0)
        if 1 == width < usual and often > len(counts) / 2:
            title = rows[0][0]
    if title and not best:
        raise DataError(
            f"{path}: begins with {title!r:.60}; expected the header row first: remove what stands above it"
        )
    if not best:
        raise DataError(f"{path}: has one column; expected several, separated by a comma, semicolon, tab or |")
    return best


def _lines(text: str) -> Iterable[str]:
    stream = io.StringIO(text, newline="")
    for _, line in zip(range(LOOKED_AT), stream, strict=False):
        yield line


def _names(path: Path, header: Cells) -> list[str]:
    """The names of the columns. DataError: the row holds numbers, or a name twice."""
    given = [cell for cell in header if cell.strip()]
    if len(given) < len(header) / 2:
        raise DataError(
            f"{path}: begins with a row that names {len(given)} of {len(header)} columns ({', '.join(given)[:60]}); "
            "expected the header row first: remove what stands above it"
        )
    names = [" ".join(cell.split()) or f"column_{n}" for n, cell in enumerate(header, 1)]
    if sum(number(name) is not None for name in names) > len(names) / 2:
        raise NumbersError(f"{path}: begins with a row of numbers; expected a header row with the names of the columns")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: has {names.count(twice[0])} columns named {twice[0]}; give each a name of its own")
    return names


def _cell(text: str) -> str:
    text = text.strip()
    return "" if text.lower() in MISSING else text


def _parquet(path: Path) -> Table:
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs pyarrow; install it: pip install 'ladle[parquet]'") from error
    try:
        read = parquet.read_table(path)
    except Exception as error:  # Arrow's errors have no common base class
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    names = [" ".join(str(name).split()) or f"column_{n}" for n, name in enumerate(read.column_names, 1)]
    _names(path, names)
    columns: dict[str, list[str]] = {}
    notes = []
    for name, field, column in zip(names, read.schema, read.columns, strict=True):
        if types.is_nested(field.type) or types.is_duration(field.type):
            notes.append(f"{name} left out, as it holds {field.type}: expected numbers or texts")
            continue
        if types.is_temporal(field.type):  # Python's own hold no nanoseconds, which pandas writes
            column = column.cast("string")
        columns[name] = [_text(value) for value in column.to_pylist()]
    return _with_plain_numbers(columns, ",", notes)


def _text(value: object) -> str:
    """A value of Parquet as CSV writes it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return _cell(value.decode("utf-8", "replace"))
    return _cell(str(value))


def numbers(cells: Cells) -> Array | None:
    """float64 [n], NaN where a value is missing; None if a cell is no number, or none is there."""
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell:
            value = number(cell)
            if value is None:
                return None
            values[i] = value
    return None if np.isnan(values).all() else values


def are_dates(cells: Cells) -> bool:
    """Whether every cell that is not missing holds a date or a time of day."""
    return all(not cell or _DATE.fullmatch(cell) for cell in cells)


def input_names(names: Iterable[str]) -> list[str]:
    """Names that a signature's inputs can have, one for each column: letters, digits and "_", none twice.

    "Living area (m²)" -> Living_area_m2. Names that mean something else in a signature get "_" at the end.
    """
    found: list[str] = []
    for name in names:
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^0-9A-Za-z]+", "_", plain).strip("_") if not plain.isidentifier() else plain
        plain = f"c_{plain}" if not plain or plain[0].isdigit() else plain
        plain += "_" * (plain in ("self", "inputs"))
        free, n = plain, 2
        # TensorFlow's names of operations do not tell upper from lower case.
        while free.lower() in {other.lower() for other in found}:
            free, n = f"{plain}_{n}", n + 1
        found.append(free)
    return found
