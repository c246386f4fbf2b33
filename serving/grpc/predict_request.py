"""PredictRequest from bytes: what stands around a tensor's content is parsed once.

A client that asks one model again and again sends the same bytes but for the numbers: model, version, signature, name,
dtype and shape. Where a message has one tensor, with `tensor_content`, the bytes before and after it are remembered
with what they say. A message of the same length that begins and ends so says the same of other numbers.
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

_FORMS = 4  # of messages of one length
_LENGTHS = 256
_MOST_AROUND = 1024  # bytes before and after the content
_MOST_BYTES = 2**16  # of a message: in larger ones what is saved is of less account, and to learn them takes longer
_LEARN_EVERY = 8  # so that many clients, each with a form of its own, cost little more than without all this


class Known(NamedTuple):
    """As much of a PredictRequest of a remembered form as the gRPC API needs. `inputs` by alias, read-only."""

    form: Form
    inputs: dict[str, Array]

    @property
    def model_spec(self) -> Any:
        return self.form.model_spec


@dataclass(eq=False, slots=True)
class Form:
    """Bytes before and after the content, and what they say."""

    head: bytes
    tail: bytes
    model_spec: Any
    spec: ModelSpec
    output_filter: tuple[str, ...]
    alias: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class PredictRequests:
    """Parses messages, and remembers their forms."""

    def __init__(self) -> None:
        self._forms: dict[int, list[Form]] = {}
        self._missed = 0

    def parse(self, payload: bytes) -> Any:
        """The message, or what is known of its form; DecodeError when it is none."""
        length = len(payload)
        for form in self._forms.get(length, ()):
            if payload.startswith(form.head) and payload.endswith(form.tail):
                content = payload[len(form.head) : length - len(form.tail)]
                inputs = {form.alias: np.frombuffer(content, form.dtype).reshape(form.shape)}
                return Known(form, inputs)
        request = pb.PredictRequest.FromString(payload)
        if length <= _MOST_BYTES and len(request.inputs) == 1:
            ((alias, proto),) = request.inputs.items()
            if proto.tensor_content:
                if not self._missed % _LEARN_EVERY:
                    self._learn(payload, request, alias)
                self._missed += 1
        return request

    def _learn(self, payload: bytes, request: Any, alias: str) -> None:
        form = _form(payload, request, alias)
        if form is None:
            return
        if len(payload) not in self._forms and len(self._forms) >= _LENGTHS:
            self._forms.clear()
        forms = self._forms.setdefault(len(payload), [])
        forms.insert(0, form)
        del forms[_FORMS:]


def spec_of(request: Any) -> ModelSpec | None:
    """The model that a request with a `model_spec` asks for; None without it."""
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


def _form(payload: bytes, request: Any, alias: str) -> Form | None:
    """The form of a message with one input, which has `tensor_content`; None for one that cannot be told by it."""
    spec, proto = spec_of(request), request.inputs[alias]
    content = proto.tensor_content
    if spec is None or len(payload) - len(content) > _MOST_AROUND or proto.dtype == tensors.STRING.number:
        return None
    start = payload.find(content)
    try:
        array = tensors.to_array(proto)
    except ValueError:
        return None
    form = Form(
        payload[:start],
        payload[start + len(content) :],
        pb.ModelSpec.FromString(request.model_spec.SerializeToString()),  # not a part of `request`, which is large
        spec,
        tuple(request.output_filter),
        alias,
        array.dtype,
        array.shape,
    )
    # The same bytes may stand elsewhere too: other numbers in this place must be the only difference.
    other = (~np.frombuffer(content, np.uint8)).tobytes()
    expected = pb.PredictRequest()
    expected.CopyFrom(request)
    expected.inputs[alias].tensor_content = other
    try:
        found = pb.PredictRequest.FromString(form.head + other + form.tail)
    except DecodeError:
        return None
    return form if found == expected else None
