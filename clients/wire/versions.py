"""Which names in a model's folder are versions: one rule for the server, the clients and the page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

# ASCII digits only: str.isdigit() is also true of "²", which int() refuses, and of Arabic-Indic digits, which it takes.
_NUMBER = re.compile(r"-?[0-9]{1,64}", re.ASCII)
_INT64 = 2**63


def number_of(name: str) -> int | None:
    """The version that a whole name spells, as TensorFlow Serving reads it; None for any other name.

    Zeros may lead (`007` is 7) and a minus sign may; a plus sign, a blank or a dot may not. The number fits into int64.
    """
    if not _NUMBER.fullmatch(name):
        return None
    number = int(name)
    return number if -_INT64 <= number < _INT64 else None


def numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    """Number and path of every entry whose name is a number, in the order of the names; files and negative ones too.

    This is what a server tries to load. OSError when the folder is missing or cannot be read.
    """
    for name in sorted(os.listdir(folder)):
        number = number_of(name)
        if number is not None:
            yield number, folder / name


def find_versions(folder: Path) -> dict[int, Path]:
    """The folders of a model's versions by number, lowest first: positive numbers only, as Ladle publishes them.

    Of two names for one number, `1` and `01`, the last one counts, as in the server. Empty when the folder is missing;
    OSError when it cannot be read.
    """
    if not folder.is_dir():
        return {}
    return dict(
        sorted((number, path) for number, path in dict(numbered(folder)).items() if number > 0 and path.is_dir())
    )
