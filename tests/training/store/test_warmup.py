"""Warm-up requests against TensorFlow Serving's own messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from ladle.training.store import warmup
from ladle.training.store.warmup import WarmUp


def example(value: float) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()


@pytest.fixture
def requests() -> list[WarmUp]:
    examples = np.array([example(1.0), example(2.0)], dtype=object)
    image = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
    return [
        WarmUp("serving_default", {"image": image, "n": np.array(300, np.int32)}),
        WarmUp("serving_bytes", {"image_bytes": np.array([b"\x89PNG", b""], dtype=object)}),
        WarmUp("classify", {"inputs": examples}, "classify"),
        WarmUp("regress", {"inputs": examples[:1]}, "regress"),
    ]


def test_records_are_tensorflow_serving_s_messages(requests: list[WarmUp], tmp_path: Path) -> None:
    warmup.write(tmp_path / "requests", "lenet5", requests)
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(tmp_path / "requests"))]
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    default, encoded = logs[0].predict_log.request, logs[1].predict_log.request
    assert (default.model_spec.name, default.model_spec.signature_name) == ("lenet5", "serving_default")
    assert sorted(default.inputs) == ["image", "n"]
    np.testing.assert_array_equal(tf.make_ndarray(default.inputs["image"]), requests[0].inputs["image"])
    assert tf.make_ndarray(default.inputs["n"]) == 300
    assert list(encoded.inputs["image_bytes"].string_val) == [b"\x89PNG", b""]
    classify = logs[2].classify_log.request
    assert classify.model_spec.signature_name == "classify"
    assert [e.SerializeToString() for e in classify.input.example_list.examples] == [example(1.0), example(2.0)]
    assert len(logs[3].regress_log.request.input.example_list.examples) == 1


def test_what_was_written_is_read_back(requests: list[WarmUp], tmp_path: Path) -> None:
    warmup.write(tmp_path / "requests", "lenet5", requests)
    for wanted, got in zip(requests, warmup.read(tmp_path / "requests"), strict=True):
        assert (got.signature, got.method, sorted(got.inputs)) == (
            wanted.signature,
            wanted.method,
            sorted(wanted.inputs),
        )
        for name, array in wanted.inputs.items():
            np.testing.assert_array_equal(got.inputs[name], array)


def test_fields_that_only_others_write_are_passed_over(tmp_path: Path) -> None:
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.sampling_config.sampling_rate = 0.5
    request = log.predict_log.request
    request.model_spec.name = "theirs"
    request.model_spec.version.value = 7
    request.output_filter.append("y")
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    session = prediction_log_pb2.PredictionLog()
    session.session_run_log.request.model_spec.name = "theirs"
    with tf.io.TFRecordWriter(str(tmp_path / "requests")) as writer:
        writer.write(session.SerializeToString())
        writer.write(log.SerializeToString())
    (read,) = warmup.read(tmp_path / "requests")
    assert read.signature == "serving_default"
    np.testing.assert_array_equal(read.inputs["x"], np.array([1.0, 2.0], np.float32))


@pytest.mark.parametrize("content", [b"no record, but long enough for one", b""], ids=["words", "empty"])
def test_a_file_that_is_no_record_is_refused_and_an_empty_one_holds_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "requests").write_bytes(content)
    if content:
        with pytest.raises(ValueError, match="is not a TFRecord of PredictionLog"):
            warmup.read(tmp_path / "requests")
    else:
        assert warmup.read(tmp_path / "requests") == []


@pytest.mark.parametrize("record", [b"\xff\xff", b"\x32\x7f", b"\x33"], ids=["endless", "cut", "group"])
def test_a_record_that_is_no_message_is_refused(record: bytes, tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "requests")) as writer:
        writer.write(record)
    with pytest.raises(ValueError, match="is not a TFRecord of PredictionLog"):
        warmup.read(tmp_path / "requests")
