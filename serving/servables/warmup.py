"""Reads the requests that a version answers before it is served: assets.extra/tf_serving_warmup_requests.

The file is a TFRecord of PredictionLog messages. As in TensorFlow Serving, a fault in it fails the load.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.tfrecord import read_records
from ladle.serving.errors import DataLoss, InvalidArgument, Unimplemented
from ladle.serving.servables.examples import serialize_input

FILE = "tf_serving_warmup_requests"
MAX_RECORDS = 1000
_NOT_A_TFRECORD = "the warm-up file is damaged. Please verify your warmup data is in TFRecord format."


def read_requests(folder: Path) -> Iterator[tuple[str, dict[str, Array]]]:
    """The signature name and the inputs of each recorded request, in order; nothing when the file is missing.

    DataLoss for a damaged file, InvalidArgument for a bad or the 1001st record, Unimplemented for an unknown kind.
    """
    path = folder / "assets.extra" / FILE
    if not path.exists():
        return
    for i, record in enumerate(_records(path)):
        if i == MAX_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS})")
        try:
            entry = pb.PredictionLog.FromString(record)
        except DecodeError:
            raise DataLoss(f"warm-up record {i} is not a PredictionLog; write the file again") from None
        yield from _requests(entry)


def _records(path: Path) -> Iterator[bytes]:
    try:
        yield from read_records(path)
    except ValueError:
        raise DataLoss(_NOT_A_TFRECORD) from None


def _requests(entry: Any) -> Iterator[tuple[str, dict[str, Array]]]:
    kind = entry.WhichOneof("log_type")
    if kind == "predict_log":
        request = entry.predict_log.request
        try:
            inputs = {alias: tensors.to_array(tensor) for alias, tensor in request.inputs.items()}
        except ValueError as error:
            raise InvalidArgument(f"a warm-up request cannot be read: {error}") from None
        yield _signature(request.model_spec), inputs
    elif kind in ("classify_log", "regress_log"):
        request = getattr(entry, kind).request
        yield _signature(request.model_spec), {"inputs": serialize_input(request.input)}
    elif kind == "multi_inference_log":
        request = entry.multi_inference_log.request
        for task in request.tasks:
            yield _signature(task.model_spec), {"inputs": serialize_input(request.input)}
    else:
        number = entry.DESCRIPTOR.fields_by_name[kind].number if kind else 0
        raise Unimplemented(f"Unsupported log_type for warmup: {number}")


def _signature(spec: Any) -> str:
    return spec.signature_name or "serving_default"
