"""Reads pickles of arrays safely.

A pickle can name any Python callable, which is then run with arguments from the file. This unpickler looks up only the
few names that arrays need.
"""

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
    """An unpickler that refuses every name outside _ALLOWED; Python's documentation recommends this hook."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a file of arrays does not need")
        # NumPy 2 renamed numpy.core; pickles written before name the old module.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load(path: Path, raw: bytes | Path) -> Any:
    """Unpickle bytes or a file; strings of Python 2 become bytes. DataError names `path`."""
    try:
        raw = raw if isinstance(raw, bytes) else raw.read_bytes()
        return _Arrays(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{path}: cannot be read as a pickle of arrays ({error}); get it again") from error


def npz_objects(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Read arrays from a NumPy archive, also object arrays such as lists of word ids, with the safe unpickler.

    np.load would unpickle them with Python's own, which runs any callable.
    """
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
        raise DataError(f"{path}: has no array ({error.args[0]}); get it again") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as a NumPy archive ({error}); get it again") from error
    return arrays
