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
from ladle.clients.transport import casting
from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array

_NAMES = {dtype.number: "string" if dtype is tensors.STRING else str(dtype.numpy) for dtype in tensors.DTYPES.values()}
_NAMES[pb.DataType.Value("DT_BFLOAT16")] = "bfloat16"
INDEX_STATES = {"READY": "AVAILABLE", "UNAVAILABLE": "END"}
"""TensorFlow Serving's states by those of the Open Inference Protocol, where they differ."""


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

    def array(self, value: Any, what: str, rounding: bool = False) -> Array:
        """`value` as an array of the declared dtype and shape; `what` names the input in errors.

        Numbers, nested lists, bytes and str get the declared dtype. An array of another dtype is converted where every
        value stays the same; floats in lists are rounded as literals are. Nothing wraps, is cut or becomes infinite.
        rounding  round the floats of arrays too

        InvalidArgument: the value does not fit; the text has the first value that the dtype does not hold.
        """
        array = value if isinstance(value, np.ndarray) else None
        if array is None or dtype_name(array) != self.dtype:
            array = self._converted(value, what, rounding)
        if dtype_name(array) != self.dtype or not self.admits(array.shape):
            raise InvalidArgument(f"{what}: got {describe(array)}; expected {self}")
        return array

    def _converted(self, value: Any, what: str, rounding: bool) -> Array:
        try:
            if isinstance(value, np.ndarray | np.generic) and value.dtype.kind != "O":
                return self._cast(np.asarray(value), what, rounding)
            if self.dtype == "string":
                array = np.array(value, object)
                if any(text is None for text in array.flat):
                    casting.refuse_none(array)
                return array
            return casting.cast_values(value, self.dtype)
        except casting.MisfitError as misfit:
            raise InvalidArgument(f"{what}: {misfit}; expected {self}, {misfit.expected}") from None
        except TypeError:
            raise InvalidArgument(f"{what}: got {describe(np.asarray(value))}; expected {self}") from None
        except (ValueError, OverflowError) as error:
            raise InvalidArgument(f"{what}: got a value that is not a tensor ({error}); expected {self}") from None

    def _cast(self, array: Array, what: str, rounding: bool) -> Array:
        if self.dtype == "string":
            return array  # of bytes or str; of numbers, the caller refuses it
        if not rounding and array.dtype == np.uint8 and self._is_image:
            raise InvalidArgument(
                f"{what}: got {describe(array)}; expected {self}; divide the pixels by 255 if the model takes "
                "values from 0 to 1, or convert them yourself: .astype(numpy.float32)"
            )
        try:
            return casting.cast(array, self.dtype, rounding)
        except casting.MisfitError as misfit:
            if not misfit.rounded:
                raise
            library = "ml_dtypes" if self.dtype == "bfloat16" else "numpy"
            remedy = (
                f"; {self.dtype} would round these values, so convert them yourself: .astype({library}.{self.dtype})"
            )
            raise InvalidArgument(f"{what}: {misfit} of {describe(array)}; expected {self}{remedy}") from None

    @property
    def _is_image(self) -> bool:
        """Whether it may be images as floats, which arrays of uint8 have in another scale."""
        return self.dtype.startswith("float") and len(self.shape or ()) == 4 and (self.shape or ())[-1] in (1, 3, 4)

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
