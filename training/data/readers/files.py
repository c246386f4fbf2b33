"""Reads single files: text, gzip, IDX, NumPy archives. Every failure is a DataError that names the file."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ladle.training.data.dataset import Array
from ladle.training.data.errors import DataError

IDX_UINT8 = 8
"""Code of the element type uint8 in the header of an IDX file."""


def find(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of `names` that is a file in the folder, or None."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def content(path: Path) -> bytes:
    """A file's bytes, unpacked if they begin with the gzip signature."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read to the end ({error}); get it again") from error


def text(path: Path) -> str:
    """The text of a UTF-8 file without its byte-order mark, unpacked if it is gzip."""
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}); convert it") from error


def any_text(path: Path) -> tuple[str, bool]:
    """The text of a file in UTF-8, UTF-16, UTF-32 or, if it is none of them, Latin-1; and whether it is the latter.

    DataError: it holds NUL bytes, as files of other kinds do.
    """
    raw = content(path)
    if raw[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return raw.decode("utf-32", "replace"), False
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace"), False
    if b"\0" in raw[:4096]:
        raise DataError(f"{path}: holds NUL bytes, so it is no text; expected CSV in UTF-8, or Parquet")
    try:
        return raw.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace"), True


def idx(path: Path, rank: int) -> Array:
    """Read an IDX file of bytes, plain or gzip: uint8 [d1, ..., d_rank]."""
    raw = content(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != IDX_UINT8:
        raise DataError(
            f"{path}: got a file that begins {raw[:4].hex()}; expected an IDX file of bytes, which begins 000008"
        )
    if raw[3] != rank or len(raw) < 4 + 4 * rank:
        raise DataError(f"{path}: has {raw[3]} dimensions; expected {rank}")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", rank, 4))
    if len(raw) - 4 - 4 * rank != math.prod(shape):
        raise DataError(
            f"{path}: has {len(raw) - 4 - 4 * rank} bytes after its header; expected {math.prod(shape)} for "
            f"{list(shape)}: get it again"
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def npz(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Read arrays from a NumPy archive; DataError for pickled objects, which could run code."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise DataError(f"{path}: has no array {missing[0]}; got {', '.join(archive)}")
            return {name: archive[name] for name in names}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a NumPy archive of plain arrays ({error}); get it again") from error


def same_count(path: Path, x: Array, y: Array, what: str = "labels") -> None:
    """DataError unless x and y have equal length."""
    if len(x) != len(y):
        raise DataError(f"{path}: holds {len(y)} {what} for {len(x)} examples; expected one for each")


def classes(path: Path, y: Array, count: int) -> Array:
    """Labels as int64 [n]; DataError if one is not in 0..count-1."""
    if y.size and (int(y.min()) < 0 or int(y.max()) >= count):
        wrong = int(y.max()) if int(y.max()) >= count else int(y.min())
        raise DataError(f"{path}: has label {wrong}; expected 0 to {count - 1}")
    return y.astype(np.int64)
