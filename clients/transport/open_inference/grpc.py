"""The Open Inference Protocol over gRPC: inference.GRPCInferenceService, tensors as raw contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.errors import Internal
from ladle.clients.transport.grpc_protocol import GrpcProtocol, GrpcRequest
from ladle.clients.transport.open_inference.described import wire_tensor
from ladle.clients.transport.open_inference.protocol import OpenInferenceProtocol, version_text
from ladle.clients.transport.operation import Operation
from ladle.clients.transport.protocol import Deadline
from ladle.clients.wire import messages as pb
from ladle.clients.wire import open_inference, services, tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import CONTENTS, SIGNATURE


class OpenInferenceGrpc(OpenInferenceProtocol, GrpcProtocol):
    """gRPC. bfloat16 outputs come as float32, since NumPy has no bfloat16."""

    methods: Mapping[str, tuple[str, Any]] = {
        method.name: (method.path, method.response) for method in services.methods(services.INFERENCE).values()
    }

    def predict_request(
        self,
        name: str,
        arrays: Mapping[str, Array],
        signature: str,
        version: int | None,
        label: str | None,
        outputs: Sequence[str] | None,
    ) -> GrpcRequest:
        message = pb.ModelInferRequest(model_name=name, model_version=version_text(name, version, label))
        if chosen := self.chosen(name, signature, version, label):
            message.parameters[SIGNATURE].string_param = chosen
        for key, array in arrays.items():
            datatype, values = wire_tensor(name, key, array)
            message.inputs.add(name=key, datatype=datatype, shape=array.shape)
            message.raw_input_contents.append(open_inference.pack(values))
        for output in outputs or ():
            message.outputs.add(name=output)
        return self._request("ModelInfer", message)

    def predict_outputs(
        self, answer: Any, name: str, signature: str, version: int | None, label: str | None, deadline: Deadline
    ) -> Operation[dict[str, Array]]:
        try:
            return _outputs(answer)
        except (KeyError, ValueError) as error:
            raise Internal(f"{self.address} sent a malformed answer of {name}: {error}") from None
        yield  # makes this a generator, as over REST

    def _describe(self, name: str, version: str, deadline: Deadline) -> Operation[Mapping[str, Any]]:
        answer = yield from self._ask("ModelMetadata", pb.ModelMetadataRequest(name=name, version=version), deadline)
        inputs, outputs = (
            [{"name": row.name, "datatype": row.datatype, "shape": list(row.shape)} for row in rows]
            for rows in (answer.inputs, answer.outputs)
        )
        return {"versions": list(answer.versions), "inputs": inputs, "outputs": outputs}

    def _index(self, deadline: Deadline) -> Operation[Sequence[Mapping[str, Any]]]:
        answer = yield from self._ask("RepositoryIndex", pb.RepositoryIndexRequest(), deadline)
        return [
            {"name": row.name, "version": row.version, "state": row.state, "reason": row.reason}
            for row in answer.models
        ]

    def _is_ready(self, name: str, version: str, deadline: Deadline) -> Operation[bool]:
        answer = yield from self._ask("ModelReady", pb.ModelReadyRequest(name=name, version=version), deadline)
        return bool(answer.ready)

    def _names(self, deadline: Deadline) -> Operation[Sequence[str] | None]:
        return None
        yield  # makes this a generator: the protocol has no such method

    def _ask(self, method: str, message: Any, deadline: Deadline) -> Operation[Any]:
        return self.send_with_retries(self._request(method, message), deadline, idempotent=True)


def _outputs(answer: Any) -> dict[str, Array]:
    """The arrays, from raw contents or typed ones. ValueError, KeyError: the message is malformed."""
    found: dict[str, Array] = {}
    raw = answer.raw_output_contents
    for i, output in enumerate(answer.outputs):
        shape = list(output.shape)
        if output.datatype not in open_inference.DTYPES or min(shape, default=0) < 0:
            raise ValueError(f'"{output.name}" is {output.datatype} {shape}')
        if raw:
            if len(raw) != len(answer.outputs):
                raise ValueError(f"{len(answer.outputs)} outputs and {len(raw)} raw contents")
            array = tensors.widen(open_inference.unpack(output.datatype, shape, raw[i]))
        else:
            values = getattr(output.contents, CONTENTS[output.datatype])
            dtype = open_inference.DTYPES[output.datatype]
            array = np.array(list(values), dtype).reshape(shape)
        found[output.name] = array
    return found
