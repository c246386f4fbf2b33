"""inference.GRPCInferenceService: the Open Inference Protocol over gRPC, on the core."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.open_inference import CONTENTS, SIGNATURE
from ladle.serving.dataplane.core import Core
from ladle.serving.errors import InvalidArgument, NotFound
from ladle.serving.grpc.calls import Answer, CallContext, StatusError
from ladle.serving.open_inference import datatypes, describe
from ladle.serving.open_inference.inference import (
    Output,
    check_parameters,
    count_refusal,
    find,
    infer,
    spec_of,
    take_id,
)
from ladle.serving.open_inference.model_control import ModelControl
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Snapshot

_RAW_ONLY = ("FP16", "BF16")
_THREAD_FROM_BYTES = 2**18  # of strings, which are split one by one


class OpenInferenceApi:
    """The methods of the service; each takes a parsed request.

    is_ready   whether the server's models are available
    snapshots  gives the metrics of every process of the server
    control    loads and unloads models by request
    max_bytes  of a request, by which its strings are limited, too
    """

    def __init__(
        self,
        core: Core,
        is_ready: Callable[[], bool],
        snapshots: Callable[[], Awaitable[Sequence[Snapshot]]] | None = None,
        control: ModelControl | None = None,
        max_bytes: int = 2**26,
    ) -> None:
        self._max_bytes = max_bytes
        self._core = core
        self._control = control or ModelControl(core)
        self._is_ready = is_ready
        self._snapshots = snapshots

    async def server_live(self, request: Any, context: CallContext) -> Answer:
        return _answer(pb.ServerLiveResponse(live=True))

    async def server_ready(self, request: Any, context: CallContext) -> Answer:
        return _answer(pb.ServerReadyResponse(ready=self._is_ready()))

    async def model_ready(self, request: Any, context: CallContext) -> Answer:
        """False for a model that the server does not know: the message has room for nothing else."""
        try:
            is_ready = describe.is_model_ready(self._core, spec_of(request.name, request.version))
        except NotFound:
            is_ready = False
        return _answer(pb.ModelReadyResponse(ready=is_ready), request.name)

    async def server_metadata(self, request: Any, context: CallContext) -> Answer:
        return _answer(pb.ServerMetadataResponse(**describe.server(self._core)))

    async def model_metadata(self, request: Any, context: CallContext) -> Answer:
        found = describe.metadata(self._core, spec_of(request.name, request.version))
        return _answer(pb.ModelMetadataResponse(**found), request.name)

    async def model_config(self, request: Any, context: CallContext) -> Answer:
        has_traffic = self._core.traffic(request.name) is not None
        snapshots = await self._snapshots() if has_traffic and self._snapshots is not None else ()
        found = describe.config(self._core, spec_of(request.name, request.version), snapshots)
        return _answer(_message({"config": found}, pb.ModelConfigResponse()), request.name)

    async def model_statistics(self, request: Any, context: CallContext) -> Answer:
        """Of all models without a name."""
        snapshots = await self._snapshots() if self._snapshots is not None else ()
        spec = spec_of(request.name, request.version) if request.name else None
        found = [
            {name: value for name, value in row.items() if name != "batch_stats"}
            for row in describe.statistics(self._core, spec, snapshots)
        ]
        return _answer(_message({"model_stats": found}, pb.ModelStatisticsResponse()), request.name)

    async def index(self, request: Any, context: CallContext) -> Answer:
        models = describe.index(self._core, only_ready=request.ready)
        return _answer(pb.RepositoryIndexResponse(models=models))

    async def load(self, request: Any, context: CallContext) -> Answer:
        await self._control.load(request.model_name, request.repository_name, request.parameters, context.deadline)
        return _answer(pb.RepositoryModelLoadResponse(), request.model_name)

    async def unload(self, request: Any, context: CallContext) -> Answer:
        await self._control.unload(request.model_name, request.repository_name)
        return _answer(pb.RepositoryModelUnloadResponse(), request.model_name)

    async def infer(self, request: Any, context: CallContext) -> Answer:
        """Errors as `inference.infer`; InvalidArgument for contents that do not fit their shape."""
        has_strings = any(tensor.datatype == "BYTES" for tensor in request.inputs)
        is_slow = has_strings and request.ByteSize() > _THREAD_FROM_BYTES
        try:
            read = functools.partial(_read_inputs, request, self._max_bytes)
            inputs = await asyncio.to_thread(read) if is_slow else read()
        except InvalidArgument:
            count_refusal(self._core, spec_of(request.model_name, request.model_version))
            raise
        parameters = _parameters(request.parameters)
        check_parameters(parameters)
        signature_name = parameters.get(SIGNATURE, "")
        if not isinstance(signature_name, str):
            raise InvalidArgument(f"got the parameter {SIGNATURE} {signature_name!r}; expected a string_param")
        spec = spec_of(request.model_name, request.model_version, signature_name)
        take_id(context.observation, request.id)
        servable, signature = find(self._core, spec, context.observation)
        outputs = tuple(_read_output(entry) for entry in request.outputs)
        form = tuple((name, array.dtype.char, array.shape) for name, array in inputs.items())
        shape_key = None if has_strings else (signature.name, "v2", form, outputs)
        deadline = _deadline(parameters, context.deadline)
        found = await infer(self._core, servable, signature, inputs, outputs, deadline, shape_key, context.observation)
        return Answer(_write(request, servable, found), servable.name, signature.name)

    async def stream(
        self,
        requests: AsyncIterator[bytes],
        context: CallContext,
        answer: Callable[[Any, CallContext], Awaitable[bytes]],
    ) -> AsyncIterator[bytes]:
        """One answer for each request, in order. An error is the answer to its request; the stream goes on."""
        async for payload in requests:
            response = pb.ModelStreamInferResponse()
            try:
                response.infer_response.MergeFromString(await answer(payload, context))
            except StatusError as error:
                response.error_message = error.details
            yield response.SerializeToString()


def _message(found: Mapping[str, Any], message: Any) -> Any:
    """The message, filled from what JSON says."""
    from google.protobuf import json_format  # here for a quick start: few clients ask for these

    return json_format.ParseDict(found, message)


def _answer(message: Any, model: str = "") -> Answer:
    return Answer(message.SerializeToString(), model)


def _parameters(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values."""
    found = {}
    for name, value in entries.items():
        kind = value.WhichOneof("parameter_choice")
        found[name] = getattr(value, kind) if kind is not None else None
    return found


def _deadline(parameters: Mapping[str, Any], deadline: float | None) -> float | None:
    """The earlier one of the call's deadline and the parameter `timeout`, in microseconds."""
    timeout_us = parameters.get("timeout", 0)
    if not isinstance(timeout_us, int) or timeout_us < 0:
        raise InvalidArgument(f"got the parameter timeout {timeout_us!r}; expected microseconds, as an int64_param")
    if not timeout_us:
        return deadline
    wanted = time.monotonic() + timeout_us / 1e6
    return wanted if deadline is None else min(deadline, wanted)


def _read_output(entry: Any) -> Output:
    parameters = _parameters(entry.parameters)
    check_parameters(parameters)
    classes = parameters.get("classification", 0)
    if not isinstance(classes, int) or classes < 0:
        raise InvalidArgument(f'output "{entry.name}": got classification {classes!r}; expected how many classes')
    return Output(entry.name, classes)


def _read_inputs(request: Any, max_bytes: int) -> dict[str, Array]:
    datatypes.check_strings([(tensor.datatype, tensor.shape) for tensor in request.inputs], max_bytes)
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidArgument(f"got {len(raw)} raw_input_contents for {len(request.inputs)} inputs; expected one each")
    found: dict[str, Array] = {}
    for i, tensor in enumerate(request.inputs):
        if tensor.name in found:
            raise InvalidArgument(f'the input "{tensor.name}" is given twice')
        if tensor.parameters:
            check_parameters(_parameters(tensor.parameters))
        if raw:
            if tensor.HasField("contents"):
                raise InvalidArgument(f'input "{tensor.name}" has contents beside raw_input_contents; send one of them')
            found[tensor.name] = datatypes.unpack(tensor.name, tensor.datatype, tensor.shape, raw[i])
        else:
            found[tensor.name] = _read_contents(tensor)
    return found


def _read_contents(tensor: Any) -> Array:
    """The array in typed contents."""
    name, datatype = tensor.name, tensor.datatype
    dtype, count = datatypes.dtype_of(name, datatype), datatypes.count_elements(name, tensor.shape)
    if datatype in _RAW_ONLY:
        raise InvalidArgument(f'input "{name}": {datatype} has no typed contents; send raw_input_contents')
    field = CONTENTS[datatype]
    values = getattr(tensor.contents, field)
    if len(values) != count:
        raise InvalidArgument(f'input "{name}": got {len(values)} {field}; shape {list(tensor.shape)} has {count}')
    if dtype.kind == "O":
        array = np.empty(count, object)
        array[:] = list(values)
        return array.reshape(tensor.shape)
    wide = np.array(values, np.int64 if field == "int_contents" else np.uint64 if field == "uint_contents" else dtype)
    if dtype.kind in "iu" and dtype != wide.dtype and count:
        datatypes.check_range(name, datatype, wide.min(), wide.max())
    return wide.astype(dtype, copy=False).reshape(tensor.shape)


def _write(request: Any, servable: Servable, outputs: Mapping[str, Array]) -> bytes:
    """The answer with raw_output_contents, whatever form the inputs had: every client reads it."""
    response = pb.ModelInferResponse(model_name=servable.name, model_version=str(servable.version), id=request.id)
    for name, array in outputs.items():
        datatype = datatypes.name_of(array.dtype)
        if not datatype:
            raise InvalidArgument(f'the output "{name}" is {array.dtype}, which the protocol cannot carry')
        response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        response.raw_output_contents.append(datatypes.pack(array))
    message: bytes = response.SerializeToString()
    return message
