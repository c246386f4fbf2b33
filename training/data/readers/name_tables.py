"""Reads a CSV that names pictures and their classes, and perhaps their splits."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ladle.training.data.errors import DataError
from ladle.training.data.readers import files, folders

PICTURE = ("file", "filename", "file_name", "name", "path", "image", "image_name", "picture", "img")
CLASS = ("label", "labels", "class", "class_name", "category", "target")
SPLIT = ("split", "set", "subset", "fold")


@dataclass(frozen=True)
class NameTable:
    """Class and split of each picture by its relative name; `splits` is None if the CSV has no such column."""

    classes: Mapping[str, str]
    splits: Mapping[str, str] | None


def find(path: Path) -> Path | None:
    """The CSV itself, or the only one of a folder."""
    if path.is_file():
        return path if path.suffix.lower() in (".csv", ".tsv") else None
    found = [file for file in path.iterdir() if file.suffix.lower() in (".csv", ".tsv")] if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def read(table: Path, pictures: Mapping[str, Any]) -> NameTable | None:
    """The rows of a CSV that names `pictures`, by relative name; None if it names none of them.

    DataError: a row names no picture or has no class, a picture has no row, or columns cannot be told apart.
    """
    rows = [row for row in _rows(table) if any(cell.strip() for cell in row)]
    if not rows:
        return None
    by_name = _by_name(pictures)
    header = [cell.strip().lower() for cell in rows[0]]
    of_picture, of_class, of_split = (
        next((header.index(name) for name in names if name in header), None) for names in (PICTURE, CLASS, SPLIT)
    )
    if of_picture is None and of_class is None and len(header) == 2:  # no header that we know: look at the values
        named = [sum(_key(row[i]) in by_name for row in rows if len(row) == 2) for i in (0, 1)]
        if not any(named):
            return None
        of_picture, of_class = (0, 1) if named[0] >= named[1] else (1, 0)
        rows = rows if _key(rows[0][of_picture]) in by_name else rows[1:]
    elif of_picture is None or not any(_key(row[of_picture]) in by_name for row in rows[1:] if len(row) > of_picture):
        return None
    elif of_class is None:
        raise DataError(f"{table}: has the columns {', '.join(header)}; expected one for the class, such as label")
    else:
        rows = rows[1:]
    classes: dict[str, str] = {}
    splits: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        cells = [*map(str.strip, row), *[""] * len(header)]
        name = by_name.get(_key(cells[of_picture]))
        if name is None:
            raise DataError(f"{table}: row {number} names {cells[of_picture]!r}, which is not among the pictures")
        if not cells[of_class]:
            raise DataError(f"{table}: row {number} has no class for {cells[of_picture]}")
        if classes.get(name, cells[of_class]) != cells[of_class]:
            raise DataError(f"{table}: {name} has the classes {classes[name]} and {cells[of_class]}; expected one")
        classes[name] = cells[of_class]
        if of_split is not None:
            if cells[of_split].lower() not in folders.NAMES:
                raise DataError(f"{table}: row {number} has the split {cells[of_split]!r}; expected train, val or test")
            splits[name] = folders.NAMES[cells[of_split].lower()]
    missing = [name for name in pictures if name not in classes]
    if missing:
        raise DataError(
            f"{table}: has no row for {len(missing)} pictures, such as {missing[0]}; add rows or remove them"
        )
    return NameTable(classes, splits if of_split is not None else None)


def _rows(table: Path) -> list[list[str]]:
    text, _ = files.any_text(table)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{table}: cannot be read as CSV ({error})") from error


def _key(name: str) -> str:
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix()


def _by_name(pictures: Mapping[str, Any]) -> dict[str, str]:
    """Ways to name a picture -> its relative name: as it is, by file name and by stem, where only one has that."""
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name in pictures:
        path = PurePosixPath(name)
        for key in {path.name, path.stem, path.with_suffix("").as_posix()} - {name}:
            counts[key] = counts.get(key, 0) + 1
            found[key] = name
    return {key: name for key, name in found.items() if counts[key] == 1} | {name: name for name in pictures}
