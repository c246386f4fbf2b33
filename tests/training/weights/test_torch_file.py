"""Checkpoints of PyTorch are read without it, and can do no more than hold numbers."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.training.data import DataError
from ladle.training.weights import torch_file

Write = Callable[..., Path]
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


class Tensor:
    """A view of a storage, as a checkpoint says it."""

    def __init__(self, key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.key, self.told = key, (offset, shape, strides)


@pytest.fixture
def pickled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """A pickle with tensors as PyTorch writes them; its two names stand in modules made here."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    storage = type("FloatStorage", (), {"__module__": "torch"})

    def rebuild(*told: Any) -> None:
        raise AssertionError("only named, never called")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2 = storage, rebuild  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            return ("storage", storage, item.key, "cpu", 6, None) if isinstance(item, types.SimpleNamespace) else None

        def reducer_override(self, item: Any) -> Any:
            if isinstance(item, Tensor):
                named = types.SimpleNamespace(key=item.key)
                return rebuild, (named, *item.told, False, collections.OrderedDict())
            return NotImplemented

    def made(content: Any) -> bytes:
        file = io.BytesIO()
        Pickler(file, 2).dump(content)
        return file.getvalue()

    return made


def zipped(path: Path, told: bytes, stored: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", told)
        archive.writestr("net/data/0", stored)
    return path


def plain(path: Path, told: bytes, stored: bytes) -> Path:
    """The layout before PyTorch 1.6."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    parts = [pickle.dumps(part, 2) for part in head] + [told, pickle.dumps(["0"], 2), struct.pack("<q", 6), stored]
    path.write_bytes(b"".join(parts))
    return path


LAYOUTS = pytest.mark.parametrize("write", [zipped, plain], ids=["zip", "single file"])


@LAYOUTS
def test_tensors_are_read_by_name_with_their_strides(write: Write, tmp_path: Path, pickled: Any) -> None:
    told = collections.OrderedDict(kernel=Tensor("0", 0, (2, 3), (3, 1)), turned=Tensor("0", 0, (3, 2), (1, 3)))
    told["one"] = Tensor("0", 4, (), ())
    read = torch_file.read(write(tmp_path / "net.pth", pickled(told), MATRIX.tobytes()))
    assert list(read) == ["kernel", "turned", "one"]
    np.testing.assert_array_equal(read["kernel"], MATRIX)
    np.testing.assert_array_equal(read["turned"], MATRIX.T)
    assert read["one"] == 4


@LAYOUTS
def test_a_pickle_that_would_run_code_is_refused_in_one_sentence(write: Write, tmp_path: Path, pickled: Any) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(DataError, match=r"net.pth: is not a PyTorch checkpoint of tensors only \(it names \S+") as e:
        torch_file.read(write(tmp_path / "net.pth", pickled({"kernel": Attack()}), MATRIX.tobytes()))
    assert "\n" not in str(e.value)
    assert not (tmp_path / "ran").exists()


@LAYOUTS
def test_a_storage_that_is_cut_short_is_refused(write: Write, tmp_path: Path, pickled: Any) -> None:
    file = write(tmp_path / "net.pth", pickled({"kernel": Tensor("0", 0, (2, 3), (3, 1))}), MATRIX.tobytes()[:-4])
    with pytest.raises(DataError, match="cut short"):
        torch_file.read(file)


@pytest.mark.parametrize(
    "view", [(3, (2, 3), (3, 1)), (0, (7,), (0,)), (-1, (1,), (1,))], ids=["past", "huge", "before"]
)
def test_a_view_beyond_its_storage_is_refused(view: Any, tmp_path: Path, pickled: Any) -> None:
    with pytest.raises(DataError, match="storage 0"):
        torch_file.read(zipped(tmp_path / "net.pth", pickled({"kernel": Tensor("0", *view)}), MATRIX.tobytes()))


def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"PNG and more")
    with pytest.raises(DataError, match="is not a PyTorch checkpoint"):
        torch_file.read(tmp_path / "net.pth")
