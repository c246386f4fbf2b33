"""Warm-up files are read as TensorFlow writes them."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.tfrecord import read_records
from ladle.serving import flags
from ladle.serving.errors import DataLoss, FailedPrecondition, InvalidArgument, Unimplemented
from ladle.serving.servables.loader import make_loader
from ladle.serving.servables.servable import Servable
from ladle.serving.servables.warmup import MAX_RECORDS, read_requests
from ladle.serving.telemetry.metrics import Metrics


def write(folder: Path, data: bytes) -> Path:
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    path.write_bytes(data)
    return path


def predict_log(**inputs: Any) -> Any:
    log = pb.PredictionLog()
    log.predict_log.request.model_spec.name = "m"
    for alias, array in inputs.items():
        tensors.fill(log.predict_log.request.inputs[alias], np.asarray(array))
    return log


def test_records_are_read_as_tensorflow_wrote_them(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    records = [b"", b"one", bytes(range(256)) * 20]
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        for record in records:
            writer.write(record)
    assert list(read_records(tmp_path / "records")) == records


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:5], lambda d: d[:14] + b"x" + d[15:]])
def test_a_damaged_file_is_refused(tiny: Any, tmp_path: Path, damage: Any) -> None:
    write(tmp_path, damage(tiny.record(b"content")))
    with pytest.raises(DataLoss, match="verify your warmup data is in TFRecord format"):
        list(read_requests(tmp_path))


def test_thirty_megabytes_of_requests_are_checked_in_well_below_a_second(tmp_path: Path) -> None:
    def masked(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    content = bytes(range(256)) * 120_000
    length = struct.pack("<Q", len(content))
    (tmp_path / "records").write_bytes(length + masked(length) + content + masked(content))
    start = time.thread_time()
    (record,) = read_records(tmp_path / "records")
    assert time.thread_time() - start < 0.5
    assert record == content


def test_requests_of_each_kind_are_read(tiny: Any, tmp_path: Path) -> None:
    predict = predict_log(x=np.ones((1, 2), np.float32))
    classify, regress, multi = pb.PredictionLog(), pb.PredictionLog(), pb.PredictionLog()
    for log in (classify.classify_log, regress.regress_log, multi.multi_inference_log):
        log.request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    classify.classify_log.request.model_spec.signature_name = "c"
    for name in ("d", "e"):
        multi.multi_inference_log.request.tasks.add().model_spec.signature_name = name
    logs = (predict, classify, regress, multi)
    write(tmp_path, b"".join(tiny.record(log.SerializeToString()) for log in logs))
    requests = list(read_requests(tmp_path))
    assert [name for name, _ in requests] == ["serving_default", "c", "serving_default", "d", "e"]
    assert requests[0][1]["x"].tolist() == [[1, 1]]
    assert requests[1][1]["inputs"].shape == (1,)


def test_a_missing_file_means_no_requests(tmp_path: Path) -> None:
    assert list(read_requests(tmp_path)) == []


def test_records_that_cannot_be_replayed_are_refused(tiny: Any, tmp_path: Path) -> None:
    session = pb.PredictionLog()
    session.session_run_log.SetInParent()
    path = write(tmp_path, tiny.record(session.SerializeToString()))
    with pytest.raises(Unimplemented, match="Unsupported log_type for warmup: 5"):
        list(read_requests(tmp_path))
    path.write_bytes(tiny.record(predict_log(x=1.0).SerializeToString()) * (MAX_RECORDS + 1))
    with pytest.raises(InvalidArgument, match=r"Number of warmup records exceeds the maximum \(1000\)"):
        list(read_requests(tmp_path))
    path.write_bytes(tiny.record(b"\xff\xff"))
    with pytest.raises(DataLoss, match="record 0 is not a PredictionLog"):
        list(read_requests(tmp_path))


def load(tiny: Any, folder: Path, *logs: Any, **flags_given: str) -> Servable:
    """The version that a server with these flags would serve, warmed up with these records."""
    model = tiny.half_plus(1)
    model.warm_up = logs
    options = flags.parse([f"--{name}={value}" for name, value in flags_given.items()])
    servable: Servable = make_loader(options, Metrics())("m", 1, model.write(folder, 1))
    return servable


def with_example(kind: str, *signatures: str) -> Any:
    """A log of this kind that asks these signatures about one example."""
    log = pb.PredictionLog()
    request = getattr(log, kind).request
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    for name in signatures:
        spec = request.tasks.add().model_spec if kind == "multi_inference_log" else request.model_spec
        spec.signature_name = name
    return log


def test_logs_of_each_kind_warm_up_a_version(tiny: Any, tmp_path: Path) -> None:
    logs = [
        predict_log(x=np.ones((1, 1), np.float32)),
        with_example("classify_log", "classify_x"),
        with_example("regress_log", "regress_x"),
        with_example("multi_inference_log", "classify_x", "regress_x"),
    ]
    servable = load(tiny, tmp_path, *logs, num_request_iterations_for_warmup="3")
    assert servable.version == 1


def test_a_record_that_cannot_be_answered_fails_the_load(tiny: Any, tmp_path: Path) -> None:
    session = pb.PredictionLog()
    session.session_run_log.SetInParent()
    for number, (log, kind, message) in enumerate(
        (
            (session, Unimplemented, "Unsupported log_type for warmup: 5"),
            (with_example("classify_log", "nothing"), FailedPrecondition, 'Serving signature key "nothing" not found'),
            (with_example("regress_log"), InvalidArgument, "input size does not match signature|not found in request"),
            (predict_log(x=np.ones((1, 2), np.int64)), InvalidArgument, "Expects arg"),
        )
    ):
        folder = tmp_path / str(number)
        with pytest.raises(kind, match=message):
            load(tiny, folder, log)
        assert load(tiny, tmp_path / f"cold-{number}", log, enable_model_warmup="false").version == 1
