"""What a server says about a model: its signatures, and the state of its versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladle.clients.errors import InvalidArgument
from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array

_NAMES = {dtype.number: "string" if dtype is tensors.STRING else str(dtype.numpy) for dtype in tensors.DTYPES.values()}
_NAMES[pb.DataType.Value("DT_BFLOAT16")] = "bfloat16"


@dataclass(frozen=True)
class TensorInfo:
    """A declared input or output. `shape`: None for a free axis; None as a whole when the rank is free."""

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type of its arrays: objects for strings, float32 for bfloat16."""
        if self.dtype == "string":
            return np.dtype(object)
        return np.dtype(np.float32 if self.dtype == "bfloat16" else self.dtype)

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of that shape fits."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            wanted in (None, size) for wanted, size in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any rank"
        return f"{self.dtype} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """A served function: its inputs and outputs by name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method: str


@dataclass(frozen=True)
class Metadata:
    """A model version and its signatures by name."""

    name: str
    version: int
    signatures: Mapping[str, Signature]

    def signature(self, key: str) -> Signature:
        """One signature; InvalidArgument names those there are."""
        try:
            return self.signatures[key]
        except KeyError:
            known = ", ".join(sorted(self.signatures))
            raise InvalidArgument(
                f'{self.name} version {self.version} has no signature "{key}"; it has {known}'
            ) from None


@dataclass(frozen=True)
class VersionStatus:
    """One version's state (START, LOADING, AVAILABLE, UNLOADING, END), and the error that ended it."""

    version: int
    state: str
    error_code: str
    error_message: str


def metadata_from_proto(name: str, version: int, signatures: Any) -> Metadata:
    """`signatures`: a SignatureDefMap. TensorFlow's own initialiser is left out."""
    return Metadata(
        name,
        version,
        {
            key: Signature(_infos(definition.inputs), _infos(definition.outputs), definition.method_name)
            for key, definition in sorted(signatures.signature_def.items())
            if key != "__saved_model_init_op"
        },
    )


def _infos(declared: Any) -> dict[str, TensorInfo]:
    return {name: _info(declared[name]) for name in sorted(declared)}


def _info(proto: Any) -> TensorInfo:
    dtype = _NAMES.get(proto.dtype) or pb.DataType.Name(proto.dtype)
    shape = proto.tensor_shape
    if shape.unknown_rank:
        return TensorInfo(dtype, None)
    return TensorInfo(dtype, tuple(None if dim.size < 0 else dim.size for dim in shape.dim))


def statuses_from_proto(response: Any) -> list[VersionStatus]:
    """`response`: a GetModelStatusResponse; the highest version first."""
    return [
        VersionStatus(
            status.version,
            pb.State.Name(status.state),
            pb.ErrorCode.Name(status.status.error_code),
            status.status.error_message,
        )
        for status in sorted(response.model_version_status, key=lambda status: -status.version)
    ]


def dtype_name(array: Array) -> str:
    """The dtype as `TensorInfo` names it."""
    if array.dtype == tensors.BFLOAT16:
        return "bfloat16"
    return "string" if array.dtype.kind in "OSU" else array.dtype.name


def describe(array: Array) -> str:
    """An array's dtype and shape, written as `TensorInfo` writes them."""
    return f"{dtype_name(array)} [{', '.join(map(str, array.shape))}]"
