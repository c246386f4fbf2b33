"""PredictRequest from bytes: everything around a tensor's content is parsed once.

A client that asks one model again and again sends the same bytes except for the numbers: model, version, signature,
input name, dtype and shape repeat. So a message with one input in `tensor_content` is kept as a template: the bytes
before and after the content, and what they say. A later message of the same length that starts and ends with the same
bytes says the same about other numbers, and needs no protobuf parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.dataplane.core import ModelSpec

_TEMPLATES_PER_LENGTH = 4
_LENGTHS = 256
_MAX_AROUND_BYTES = 1024  # before and after the content
_MAX_MESSAGE_BYTES = 2**21  # to copy the content of a larger message takes so long that a thread should do it
_LEARN_EVERY = 8  # messages without a template: if no two are alike, templates must not cost more than they save


@dataclass(eq=False, slots=True)
class RequestTemplate:
    """The bytes before and after a tensor's content, and what they say. Hashed by identity: a key of request shapes."""

    head: bytes
    tail: bytes
    spec: ModelSpec
    output_filter: tuple[str, ...]
    alias: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class MatchedRequest(NamedTuple):
    """A PredictRequest that matched a template. `inputs` by alias, read-only."""

    template: RequestTemplate
    inputs: dict[str, Array]


class PredictRequestParser:
    """Parses PredictRequests, and learns templates from them. Threads may share it."""

    def __init__(self) -> None:
        self._templates: dict[int, list[RequestTemplate]] = {}  # by the length of the message
        self._misses = 0

    def parse(self, payload: bytes) -> Any:
        """A MatchedRequest or a PredictRequest message. DecodeError when the bytes are no such message."""
        if (matched := self.match(payload)) is not None:
            return matched
        length = len(payload)
        request = pb.PredictRequest.FromString(payload)
        if length <= _MAX_MESSAGE_BYTES and len(request.inputs) == 1:
            ((alias, proto),) = request.inputs.items()
            if proto.tensor_content:
                if not self._misses % _LEARN_EVERY:
                    self._learn(payload, request, alias)
                self._misses += 1
        return request

    def match(self, payload: bytes) -> MatchedRequest | None:
        """The request, if a template fits: it takes a copy of the content, and no more. Else None."""
        length = len(payload)
        for template in self._templates.get(length, ()):
            if payload.startswith(template.head) and payload.endswith(template.tail):
                content = payload[len(template.head) : length - len(template.tail)]
                array: Array = np.ndarray(template.shape, template.dtype, content)
                return MatchedRequest(template, {template.alias: array})
        return None

    def _learn(self, payload: bytes, request: Any, alias: str) -> None:
        template = _make_template(payload, request, alias)
        if template is None:
            return
        if len(payload) not in self._templates and len(self._templates) >= _LENGTHS:
            self._templates.clear()
        # A new list: another thread may be looking through the old one.
        self._templates[len(payload)] = [template, *self._templates.get(len(payload), ())][:_TEMPLATES_PER_LENGTH]


def spec_of(request: Any) -> ModelSpec | None:
    """The `model_spec` of a request message; None without one."""
    if not request.HasField("model_spec"):
        return None
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
        spec.signature_name,
    )


def _make_template(payload: bytes, request: Any, alias: str) -> RequestTemplate | None:
    """The template of a message whose one input is in `tensor_content`; None when the bytes around it do not decide."""
    spec, proto = spec_of(request), request.inputs[alias]
    content = proto.tensor_content
    if spec is None or len(payload) - len(content) > _MAX_AROUND_BYTES or proto.dtype == tensors.STRING.number:
        return None
    start = payload.find(content)
    try:
        array = tensors.to_array(proto)
    except ValueError:
        return None
    head, tail = payload[:start], payload[start + len(content) :]
    # The content's bytes may occur elsewhere in the message too, say in a name, and `find` may have found that place.
    # So flip every bit there: if the message now differs in the content alone, the place is the right one.
    flipped = (~np.frombuffer(content, np.uint8)).tobytes()
    expected = pb.PredictRequest()
    expected.CopyFrom(request)
    expected.inputs[alias].tensor_content = flipped
    try:
        if pb.PredictRequest.FromString(head + flipped + tail) != expected:
            return None
    except DecodeError:
        return None
    return RequestTemplate(head, tail, spec, tuple(request.output_filter), alias, array.dtype, array.shape)
