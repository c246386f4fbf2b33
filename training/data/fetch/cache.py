"""The cache: folders of fetched files that are checked, then published by a rename.

`<cache>/data/<data set>/<source>/` holds the files of one source and their SHA256SUMS.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ladle.training.data.errors import DataError

SUMS = "SHA256SUMS"


def root(cache: str | Path | None = None) -> Path:
    """The argument, else $LADLE_CACHE, else $XDG_CACHE_HOME/ladle, else ~/.cache/ladle."""
    if cache is not None:
        return Path(cache).expanduser()
    if own := os.environ.get("LADLE_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ladle"


def folder(cache: Path, name: str, source: str) -> Path:
    """Where the files of a data set's source lie in a cache."""
    return cache / "data" / name / source


def sha256(path: Path, unpacked: bool = False) -> str:
    """Hex digest of a file, or with `unpacked` of its gzip content. DataError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path, "rb") if unpacked else open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read to the end ({error}); fetch it again") from error
    return digest.hexdigest()


def combine(sums: dict[str, str]) -> str:
    """One digest for several files: that of their sorted SHA256SUMS lines. A single file keeps its own."""
    if len(sums) == 1:
        return next(iter(sums.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def seal(path: Path) -> None:
    """Write SHA256SUMS for every file in a folder."""
    names = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{sha256(path / name)}  {name}\n" for name in names)
    (path / SUMS).write_text(lines)


def present(path: Path) -> bool:
    """Whether the folder was filled; its files may have changed since."""
    return (path / SUMS).is_file()


def intact(path: Path) -> bool:
    """Whether every file is unchanged since the folder was sealed."""
    if not present(path):
        return False
    for line in (path / SUMS).read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if not (path / name).is_file() or sha256(path / name) != digest:
            return False
    return True


def fill(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill an empty folder beside `target`, seal it and rename it to `target`.

    If another process fills it at the same time, the second waits and finds it done. DataError when the cache cannot be
    written; errors of `write` pass through. In both cases `target` is unchanged.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.with_name(f".{target.name}.lock")):
            if intact(target):
                return
            for left in target.parent.glob(
                f".{target.name}-*"
            ):  # left by a killed fetch: nobody else can be writing, we hold the lock
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
                whole = Path(work, "whole")
                whole.mkdir()
                write(whole)
                seal(whole)
                if target.exists():  # damaged; a folder cannot be renamed over one that has files
                    shutil.rmtree(target)
                whole.rename(target)
    except OSError as error:
        raise DataError(
            f"{target.parent}: the cache cannot be written ({error.strerror}); set LADLE_CACHE to a folder "
            "that you can write to"
        ) from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """A lock between processes; the system releases the lock of a process that dies."""
    try:
        import fcntl
    except ImportError:  # Windows: both processes fetch, and the rename keeps the result whole
        yield
        return
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
