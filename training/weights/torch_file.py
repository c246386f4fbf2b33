"""Read tensors from a PyTorch checkpoint, without PyTorch and without running code from the file.

A checkpoint is a pickle that refers to storages, and the bytes of the storages: in a zip archive (PyTorch 1.6 and
later), or one after another in a single file (earlier versions). An ordinary unpickler would import and call whatever
the file names. This one accepts only the few names that tensors are made of, so a file can hold numbers and nothing
else.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ladle.training.data import DataError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""The first two values of the older layout."""
DTYPES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class _Storage:
    """A storage as the pickle describes it: key, dtype and number of elements."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor as a view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dictionary by name.

    Raises DataError: the file cannot be read, is not a checkpoint, or its pickle names anything but tensors.
    """
    try:
        views, stored = _zipped(path) if zipfile.is_zipfile(path) else _plain(path.read_bytes())
        if not isinstance(views, Mapping):
            raise ValueError(f"it holds a {type(views).__name__}; expected tensors by name")
        views = views.get("state_dict", views)
        return {str(name): _array(view, stored) for name, view in views.items() if isinstance(view, _View)}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); give a PyTorch checkpoint") from error
    except Exception as error:  # a broken pickle raises errors of any type
        raise DataError(f"{path}: is not a PyTorch checkpoint of tensors only ({error}); give another file") from error


Stored = Callable[[_Storage], bytes]


def _zipped(path: Path) -> tuple[Any, Stored]:
    archive = zipfile.ZipFile(path)
    names = [info.filename for info in archive.infolist() if info.filename.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError("its archive has no data.pkl")
    folder = names[0].removesuffix("data.pkl")

    def stored(storage: _Storage) -> bytes:
        info = archive.getinfo(f"{folder}data/{storage.key}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its archive is compressed; PyTorch never compresses")
        return archive.read(info)

    return _Tensors(io.BytesIO(archive.read(names[0]))).load(), stored


def _plain(raw: bytes) -> tuple[Any, Stored]:
    file = io.BytesIO(raw)
    if (_Tensors(file).load(), _Tensors(file).load()) != (MAGIC, PROTOCOL):
        raise ValueError("its first values are not those of a checkpoint")
    system = _Tensors(file).load()
    if not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    unpickler = _Tensors(file)
    views = unpickler.load()
    blocks: dict[str, bytes] = {}
    for key in _Tensors(file).load():
        storage = unpickler.storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} elements; expected {storage.count}")
        blocks[key] = file.read(count * storage.dtype.itemsize)
    return views, lambda storage: blocks[storage.key]


class _Tensors(pickle.Unpickler):
    """Unpickles dictionaries and views; refuses every other name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda view, *rest: view
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        raise pickle.UnpicklingError(f"it names {module}.{name}, which tensors do not need")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, np.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("it refers to something that is not a storage")
        return self.storages.setdefault(key, _Storage(key, dtype, int(count)))


def _view(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: Any) -> _View:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("it builds a tensor from something that is not a storage")
    return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _array(view: _View, stored: Stored) -> np.ndarray:
    storage = view.storage
    flat = np.frombuffer(stored(storage), storage.dtype)
    if len(view.shape) != len(view.strides) or min((view.offset, *view.shape, *view.strides)) < 0:
        raise ValueError(f"storage {storage.key} has an invalid view")
    count = math.prod(map(int, view.shape))
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    # as_strided does not check bounds: a forged view could read memory outside the file.
    if len(flat) != storage.count or count > len(flat) or (count and last >= len(flat)):
        raise ValueError(f"storage {storage.key} is cut short")
    strides = tuple(stride * flat.itemsize for stride in view.strides)
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides).copy()
