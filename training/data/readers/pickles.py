"""Pickles that hold arrays and nothing else: an unpickler that refuses to build anything more."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ladle.training.data.dataset import Array
from ladle.training.data.errors import DataError

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a file of arrays does not need")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load(path: Path, raw: bytes | Path) -> Any:
    """Unpickle bytes or a file; strings of Python 2 come as bytes. DataError names `path`."""
    try:
        raw = raw if isinstance(raw, bytes) else raw.read_bytes()
        return _Arrays(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{path}: is not a pickle of arrays ({error})") from error


def npz_objects(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Arrays out of a NumPy archive, arrays of Python lists among them, without trusting its pickles."""
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                raw = archive.read(f"{name}.npy")
                stream = io.BytesIO(raw)
                version = np.lib.format.read_magic(stream)
                first = version == (1, 0)
                header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                shape, _, dtype = header(stream)
                if dtype.hasobject:
                    arrays[name] = load(path, raw[stream.tell() :]).reshape(shape)
                else:
                    arrays[name] = np.frombuffer(raw, dtype, offset=stream.tell()).reshape(shape)
    except KeyError as error:
        raise DataError(f"{path}: has no array {error.args[0]}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is not a NumPy archive ({error})") from error
    return arrays
