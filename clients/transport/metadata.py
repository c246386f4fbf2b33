"""What a server declares about a model: the signatures of a version, and the state of each version.

A signature also turns a caller's values into the arrays that it declares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
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
    """A declared input or output. In `shape`, None is a free axis; a `shape` of None means any rank."""

    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of its arrays: object for strings, float32 for bfloat16."""
        if self.dtype == "string":
            return np.dtype(object)
        return np.dtype(np.float32 if self.dtype == "bfloat16" else self.dtype)

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            declared in (None, size) for declared, size in zip(self.shape, shape, strict=True)
        )

    def array(self, value: Any, what: str) -> Array:
        """`value` as an array of the declared dtype and shape; `what` names the input in errors.

        Arrays keep their dtype, except that float64 becomes float32 where every value stays the same. Lists, numbers,
        bytes and str get the declared dtype. InvalidArgument: the value does not fit.
        """
        if isinstance(value, (np.ndarray, np.generic)):
            array = self._exactly_narrowed(np.asarray(value))
        else:
            array = self._converted(value, what)
        if dtype_name(array) != self.dtype or not self.admits(array.shape):
            raise InvalidArgument(f"{what}: got {describe(array)}; expected {self}{self._remedy(array)}")
        return array

    def _remedy(self, array: Array) -> str:
        if self.dtype == "float32" and array.dtype == np.float64 and self.admits(array.shape):
            return "; float32 would round these values, so convert them yourself: .astype(numpy.float32)"
        return ""

    def _exactly_narrowed(self, array: Array) -> Array:
        # NumPy makes float64 by default, so callers send it without meaning to. 0.5 fits float32; 0.1 does not, and
        # rounding it silently would change the question.
        if array.dtype == np.float64 and self.dtype == "float32":
            with np.errstate(over="ignore"):
                narrow = array.astype(np.float32)
            return narrow if np.array_equal(narrow, array, equal_nan=True) else array
        return array

    def _converted(self, value: Any, what: str) -> Array:
        try:
            if self.dtype == "string":
                return np.array(value, object)
            array = np.asarray(value)
            if array.dtype.kind == "O":
                missing = [row for row, entry in enumerate(array) if entry is None] if array.ndim else []
                if missing:
                    raise ValueError(f"its row {missing[0]} is None")
                raise ValueError("its rows differ in length or hold something other than numbers")
            if array.size and not np.can_cast(array.dtype, self.numpy, "same_kind"):
                raise InvalidArgument(f"{what}: got {describe(array)}; expected {self}")
            return array.astype(self.numpy)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidArgument(f"{what}: got a value that is not a tensor ({error}); expected {self}") from None

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

    @cached_property
    def output_dtypes(self) -> dict[str, np.dtype[Any]]:
        """The NumPy dtype of each output."""
        return {name: info.numpy for name, info in self.outputs.items()}

    def arrays(self, model: str, inputs: Any) -> dict[str, Array]:
        """A caller's inputs by name, or its only input, as arrays of the declared dtypes and shapes.

        `TensorInfo.array` converts each value. InvalidArgument begins with the model's name; it names the input, what
        came and what the signature declares.
        """
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                known = ", ".join(f"{alias}: {declared}" for alias, declared in self.inputs.items())
                raise InvalidArgument(f"{model}: got an input without a name; expected a mapping with {known}")
            inputs = {next(iter(self.inputs)): inputs}
        if inputs.keys() != self.inputs.keys():
            known = ", ".join(f"{alias}: {declared}" for alias, declared in self.inputs.items()) or "no inputs"
            for key in inputs:
                if key not in self.inputs:
                    raise InvalidArgument(f'{model}: got an input "{key}"; expected {known}')
            missing = next(key for key in self.inputs if key not in inputs)
            raise InvalidArgument(f'{model}: got no input "{missing}"; expected {known}')
        return {key: self.inputs[key].array(value, f'{model}: input "{key}"') for key, value in inputs.items()}


@dataclass(frozen=True)
class Metadata:
    """A model version and its signatures by name."""

    name: str
    version: int
    signatures: Mapping[str, Signature]

    def signature(self, key: str) -> Signature:
        """One signature; InvalidArgument names those that exist."""
        try:
            return self.signatures[key]
        except KeyError:
            known = ", ".join(sorted(self.signatures))
            raise InvalidArgument(
                f'{self.name}: version {self.version} has no signature "{key}"; it has {known}'
            ) from None


@dataclass(frozen=True)
class VersionStatus:
    """One version's state (START, LOADING, AVAILABLE, UNLOADING, END), and the error that ended it."""

    version: int
    state: str
    error_code: str
    error_message: str


def metadata_from_proto(name: str, version: int, signatures: Any) -> Metadata:
    """Metadata from a SignatureDefMap, without TensorFlow's own initialiser."""
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
    """The states in a GetModelStatusResponse, highest version first."""
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
    """An array's dtype and shape, written as `TensorInfo` writes them: `float32 [2, 28, 28, 1]`."""
    return f"{dtype_name(array)} [{', '.join(map(str, array.shape))}]"
