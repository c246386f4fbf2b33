"""The requests that a version answers before it is served: assets.extra/tf_serving_warmup_requests.

The file is a TFRecord of PredictionLog messages. A fault in it fails the load, as in TensorFlow Serving.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import DataLoss, InvalidArgument, Unimplemented
from ladle.serving.servables.examples import serialize_input

FILE = "tf_serving_warmup_requests"
MAX_RECORDS = 1000
_NOT_A_TFRECORD = "the warm-up file is damaged. Please verify your warmup data is in TFRecord format."


def read_requests(folder: Path) -> Iterator[tuple[str, dict[str, Array]]]:
    """The signature and inputs of each recorded request, in order; none without a file."""
    path = folder / "assets.extra" / FILE
    if not path.exists():
        return
    for i, record in enumerate(read_records(path)):
        if i == MAX_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS})")
        try:
            entry = pb.PredictionLog.FromString(record)
        except DecodeError:
            raise DataLoss(f"warm-up record {i} is not a PredictionLog; write the file again") from None
        yield from _requests(entry)


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


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file; DataLoss when it is not one."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        head, checksum = data[at : at + 8], data[at + 8 : at + 12]
        if len(checksum) < 4 or _masked_crc(head) != checksum:
            raise DataLoss(_NOT_A_TFRECORD)
        (length,) = struct.unpack("<Q", head)
        record, checksum = data[at + 12 : at + 12 + length], data[at + 12 + length : at + 16 + length]
        if len(checksum) < 4 or _masked_crc(record) != checksum:
            raise DataLoss(_NOT_A_TFRECORD)
        yield record
        at += 16 + length


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C (Castagnoli), rotated and shifted as TFRecord stores it."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
