"""What a server of the Open Inference Protocol says of a model, as the client's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ladle.clients.errors import InvalidArgument
from ladle.clients.transport.metadata import Metadata, Signature, TensorInfo, dtype_name
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import DTYPES, SIGNATURE, name_of

DEFAULT = "serving_default"
_NAMES = {name: "string" if name == "BYTES" else dtype.name for name, dtype in DTYPES.items()} | {"BF16": "bfloat16"}


@dataclass(frozen=True)
class Described(Metadata):
    """Metadata of a model. The protocol has one function a model; servers may name signatures in the configuration.

    named  the signatures that the configuration names, described or not
    """

    named: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_silent(self) -> bool:
        """Whether the server declares no inputs and outputs, and so checks them itself."""
        return not any(signature.inputs or signature.outputs for signature in self.signatures.values())

    def signature(self, key: str) -> Signature:
        """One signature; InvalidArgument: the server describes no such one."""
        if key in self.signatures:
            return self.signatures[key]
        which = f"version {self.version} " if self.version else ""
        raise InvalidArgument(
            f'{self.name}: {which}has no signature "{key}" that the Open Inference Protocol describes; '
            f"it has {', '.join(sorted(self.signatures))}"
        )


def metadata_from(
    name: str, version: int | None, document: Mapping[str, Any], parameters: Mapping[str, str]
) -> Described:
    """Metadata from a ModelMetadata answer and the parameters of the model's configuration.

    version  the one that was asked for; None: the highest of the answer

    ValueError, KeyError or TypeError: the answer is not what the protocol has.
    """
    numbers = [int(text) for text in document.get("versions") or () if str(text).isdigit()]
    named = frozenset(filter(None, parameters.get("signatures", "").split(",")))
    signatures = {
        key.removeprefix("signature."): _signature(json.loads(text))
        for key, text in parameters.items()
        if key.startswith("signature.")
    }
    if SIGNATURE in parameters or not named:
        signatures[parameters.get(SIGNATURE, DEFAULT)] = _signature(document)
    found = max(numbers, default=0) if version is None else version
    return Described(name, found, dict(sorted(signatures.items())), named)


def _signature(document: Mapping[str, Any]) -> Signature:
    return Signature(_infos(document.get("inputs")), _infos(document.get("outputs")), "")


def _infos(rows: Any) -> dict[str, TensorInfo]:
    return {str(row["name"]): _info(row) for row in rows or ()}


def _info(row: Mapping[str, Any]) -> TensorInfo:
    dtype = _NAMES.get(row["datatype"])
    if dtype is None:
        raise ValueError(f'"{row["name"]}" has the datatype {row["datatype"]!r}')
    sizes = [int(size) for size in row.get("shape") or ()]
    # The protocol has no word for a shape of any rank: servers leave it out, as they do for a single number.
    return TensorInfo(dtype, tuple(None if size < 0 else size for size in sizes) if sizes else None)


def wire_tensor(model: str, name: str, array: Array) -> tuple[str, Array]:
    """Datatype and array, little-endian, of an input. InvalidArgument: the protocol cannot carry it."""
    if dtype_name(array) == "string":
        for value in array.ravel():
            if not isinstance(value, str | bytes):
                raise InvalidArgument(f'{model}: input "{name}": got {type(value).__name__}; expected bytes or str')
        return "BYTES", array.astype(object)
    if dtype_name(array) == "bfloat16":
        return "BF16", array.view(tensors.BFLOAT16)
    array = np.ascontiguousarray(array).reshape(array.shape)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    datatype = name_of(array.dtype)
    if not datatype:
        raise InvalidArgument(
            f'{model}: input "{name}" is {array.dtype}, for which the Open Inference Protocol has no datatype; '
            "ask by TensorFlow Serving's, grpc://"
        )
    return datatype, array
