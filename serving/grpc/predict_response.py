"""PredictResponse as bytes, without a message in between: what is the same in every answer is made once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.varints import varint
from ladle.serving.scheduling.batch import RowView

_OUTPUT = b"\x0a"  # PredictResponse.outputs, and the key of its entries
_TENSOR = b"\x12"  # the value of an entry of outputs


class PredictResponse:
    """As much of the message as the gRPC API needs.

    outputs  by alias    content  as tensor_content in place of typed values
    """

    def __init__(self, model: str, version: int, signature: str, outputs: Mapping[str, Array], content: bool) -> None:
        self.model_spec, tail = _model_spec(model, version, signature)
        if isinstance(outputs, RowView) and outputs.is_small():
            if "messages" not in outputs.cache:
                outputs.cache["messages"] = _rows(outputs.whole, content)
            messages: list[bytes] = outputs.cache["messages"]
            self._serialized = messages[outputs.at] + tail
            return
        parts: list[bytes] = []
        for alias, array in outputs.items():
            head, values = tensors.serialize_parts(array, content)
            parts += (_before(alias, head, len(values)), values)
        parts.append(tail)
        self._serialized = b"".join(parts)

    def SerializeToString(self) -> bytes:  # noqa: N802 (as messages have it)
        return self._serialized


def _rows(outputs: Mapping[str, Array], content: bool) -> list[bytes]:
    """The entries of outputs for each row of all of them."""
    columns = [
        [_before(alias, head, len(values)) + values for head, values in tensors.serialize_rows(array, content)]
        for alias, array in outputs.items()
    ]
    return [b"".join(entries) for entries in zip(*columns, strict=True)]


@lru_cache(maxsize=1024)
def _model_spec(model: str, version: int, signature: str) -> tuple[Any, bytes]:
    """The ModelSpec, and the bytes of a response that has nothing else."""
    response = pb.PredictResponse()
    response.model_spec.name = model
    response.model_spec.version.value = version
    response.model_spec.signature_name = signature
    return response.model_spec, response.SerializeToString()


@lru_cache(maxsize=4096)
def _before(alias: str, head: bytes, size: int) -> bytes:
    """All of an entry of outputs that stands before so many bytes of values; `head` is the tensor's."""
    encoded = alias.encode()
    key = _OUTPUT + varint(len(encoded)) + encoded
    entry = key + _TENSOR + varint(len(head) + size) + head
    return _OUTPUT + varint(len(entry) + size) + entry
