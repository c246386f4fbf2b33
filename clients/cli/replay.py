"""`ladle replay`: sends the requests of PredictionLog files again and compares the answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ladle.clients.cli.options import access, resolve
from ladle.clients.errors import InvalidArgument, LadleError
from ladle.clients.json_output import print_json
from ladle.clients.library.client import Client
from ladle.clients.transport.grpc_protocol import GrpcProtocol, GrpcRequest
from ladle.clients.transport.protocol import Deadline
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.arrays import Array
from ladle.clients.wire.tfrecord import frame, read_records

MAX_WARMUP = 1000
"""Records that a server accepts in a warm-up file."""
_METHODS = {
    "predict_log": "Predict",
    "classify_log": "Classify",
    "regress_log": "Regress",
    "multi_inference_log": "MultiInference",
}


@dataclass
class Totals:
    """How many answers were the same, differed or failed; `skipped` are records without a request to send.

    difference  the largest between two numbers, over all answers
    """

    same: int = 0
    differs: int = 0
    failed: int = 0
    skipped: int = 0
    difference: float = 0.0
    first: str = ""


@dataclass
class Outcome:
    """What became of one record. `word` is a field of Totals; `why` says where two answers differ, or what failed."""

    word: str
    why: str = ""
    difference: float = 0.0


def replay(client: Client, given: argparse.Namespace) -> None:
    """Print the totals. LadleError: an answer differs or failed."""
    _check_grpc(client)
    totals = Totals()
    with ExitStack() as stack:
        other = client if given.version is not None else None
        if given.against is not None:
            other = stack.enter_context(Client(resolve(given.against, "grpc"), given.timeout, **access(given)))
            _check_grpc(other)
        pool = stack.enter_context(ThreadPoolExecutor(given.connections))
        saved: dict[bytes, None] = {}
        records = islice(_records(given.files), given.limit)
        # In portions: a file may hold more requests than memory does.
        while portion := list(islice(records, 16 * given.connections)):
            for (number, path, log), outcome in zip(
                portion, pool.map(lambda item: _one(client, other, item[2], given), portion), strict=True
            ):
                setattr(totals, outcome.word, getattr(totals, outcome.word) + 1)
                totals.difference = max(totals.difference, outcome.difference)
                if outcome.why and not totals.first:
                    totals.first = f"{path}, record {number}: {outcome.why}"
                if outcome.word in ("same", "differs") and len(saved) < MAX_WARMUP:
                    saved[_without_answer(log)] = None
            if sys.stderr.isatty():
                print(f"\r{totals.same + totals.differs + totals.failed} sent", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if given.save_warmup is not None:
        given.save_warmup.write_bytes(b"".join(map(frame, saved)))
    _report(totals, given)


def _report(totals: Totals, given: argparse.Namespace) -> None:
    if given.json:
        print_json({name: getattr(totals, name) for name in ("same", "differs", "failed", "skipped", "difference")})
    else:
        print(f"same     {totals.same}\ndiffers  {totals.differs}\nfailed   {totals.failed}")
        if totals.skipped:
            print(f"skipped  {totals.skipped} (no request that can be sent)")
        print(f"largest difference  {totals.difference:.3g}")
    if not totals.same + totals.differs + totals.failed:
        raise InvalidArgument("no request was sent: the files hold none")
    if totals.differs or totals.failed:
        raise LadleError(f"{totals.differs} answers differ, {totals.failed} failed; the first: {totals.first}")


def _check_grpc(client: Client) -> None:
    if type(client.transport.protocol) is not GrpcProtocol:
        raise InvalidArgument(
            f"got {client.transport.address} by another protocol; replay sends gRPC messages of TensorFlow Serving: "
            "give grpc://HOST:PORT"
        )


def _records(files: list[Path]) -> Iterator[tuple[int, Path, Any]]:
    """Number, file and message of each record. ValueError: a file is damaged, or holds something else."""
    for path in files:
        for number, record in enumerate(read_records(path)):
            try:
                yield number, path, pb.PredictionLog.FromString(record)
            except DecodeError:
                raise ValueError(f"{path}: record {number} is not a PredictionLog") from None


def _one(client: Client, other: Client | None, log: Any, given: argparse.Namespace) -> Outcome:
    """Send one request, to `other` too if there is one, and compare its answer."""
    kind = log.WhichOneof("log_type")
    if kind not in _METHODS:
        return Outcome("skipped")
    entry, method = getattr(log, kind), _METHODS[kind]
    try:
        answer = _read(kind, _ask(client, method, entry.request))
        if other is None:
            expected = _read(kind, entry.response)
            if not expected:
                return Outcome("skipped")
        else:
            expected = _read(kind, _ask(other, method, _with_version(entry.request, given.version)))
    except (LadleError, ValueError) as error:
        return Outcome("failed", str(error))
    return compare(answer, expected, given.tolerance)


def _ask(client: Client, method: str, request: Any) -> Any:
    known = services.methods(services.PREDICTION)[method]
    message = GrpcRequest(known.path, request.SerializeToString(), known.response)
    transport = client.transport
    return transport.run(
        transport.protocol.send_with_retries(message, Deadline(transport.address, client.timeout_s), idempotent=True)
    )


def _with_version(request: Any, version: int | None) -> Any:
    if version is None:
        return request
    changed = type(request)()
    changed.CopyFrom(request)
    for spec in [task.model_spec for task in changed.tasks] if hasattr(changed, "tasks") else [changed.model_spec]:
        spec.version.value = version
    return changed


def _without_answer(log: Any) -> bytes:
    """The record as a warm-up file has it; equal requests become equal bytes."""
    kind = log.WhichOneof("log_type")
    record = pb.PredictionLog()
    getattr(record, kind).request.CopyFrom(getattr(log, kind).request)
    serialized: bytes = record.SerializeToString(deterministic=True)
    return serialized


def _read(kind: str, response: Any) -> dict[str, Array]:
    """An answer as arrays by name; empty for one that was not logged."""
    if kind == "predict_log":
        return tensors.to_arrays(response.outputs)
    if kind == "classify_log":
        return _classes("", response.result)
    if kind == "regress_log":
        return _values("", response.result)
    found: dict[str, Array] = {}
    for result in response.results:
        name = f"{result.model_spec.signature_name}/"
        if result.HasField("classification_result"):
            found |= _classes(name, result.classification_result)
        else:
            found |= _values(name, result.regression_result)
    return found


def _classes(name: str, result: Any) -> dict[str, Array]:
    rows = [classification.classes for classification in result.classifications]
    if not rows:
        return {}
    labels = np.array([one.label.encode() for row in rows for one in row], object)
    return {f"{name}classes": labels, f"{name}scores": np.array([one.score for row in rows for one in row], np.float32)}


def _values(name: str, result: Any) -> dict[str, Array]:
    values = [regression.value for regression in result.regressions]
    return {f"{name}outputs": np.array(values, np.float32)} if values else {}


def compare(answer: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float) -> Outcome:
    """Whether two answers are the same: names, shapes, and values, numbers within the tolerance.

    tolerance  times the larger of 1 and the expected number
    """
    if answer.keys() != expected.keys():
        return Outcome("differs", f"the outputs are {sorted(answer)}, the other's {sorted(expected)}")
    difference, why = 0.0, ""
    for name, array in answer.items():
        other = expected[name]
        if array.shape != other.shape or (array.dtype == object) != (other.dtype == object):
            shown = f"{name} is {array.dtype} {list(array.shape)}, the other {other.dtype} {list(other.shape)}"
            return Outcome("differs", shown)
        if array.dtype == object:
            places = np.argwhere(array != other)
            if len(places):
                at = tuple(places[0])
                why = why or f"{name}{list(map(int, at))} is {array[at]!r}, the other {other[at]!r}"
            continue
        wide = np.complex128 if array.dtype.kind == "c" else np.float64
        left, right = array.astype(wide), other.astype(wide)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        gap = np.where(same, 0.0, np.abs(np.where(same, 0, left) - np.where(same, 0, right)))
        gap = np.where(np.isnan(gap), np.inf, gap)
        if gap.size:
            difference = max(difference, float(gap.max()))
            beyond = np.argwhere(gap > tolerance * np.maximum(1.0, np.abs(np.where(np.isfinite(right), right, 1.0))))
            if len(beyond):
                at = tuple(beyond[0])
                why = why or f"{name}{list(map(int, at))} is {array[at]:.6g}, the other {other[at]:.6g}"
    return Outcome("differs" if why else "same", why, difference)
