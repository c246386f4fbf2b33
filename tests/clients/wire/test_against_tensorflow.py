"""The wire codec against TensorFlow's own, in a process that holds both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from tools import generate_wire


def tensor(dtype: str, shape: list[int], **fields: Any) -> Any:
    proto = pb.TensorProto(dtype=pb.DataType.Value(dtype), **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


RNG = np.random.default_rng(42)
ARRAYS = [
    RNG.standard_normal((2, 3)).astype(np.float32),
    RNG.standard_normal((2, 0, 3)),
    np.array(RNG.standard_normal(), np.float16),
    RNG.integers(-9, 9, (4, 1)).astype(np.int8),
    RNG.integers(0, 255, 100).astype(np.uint8),
    RNG.integers(-9999, 9999, (5,)).astype(np.int16),
    RNG.integers(0, 65535, (5,)).astype(np.uint16),
    RNG.integers(-(2**31), 2**31, 200).astype(np.int32),
    RNG.integers(0, 2**32, (2, 2)).astype(np.uint32),
    RNG.integers(-(2**62), 2**62, 200),
    RNG.integers(0, 2**63, 200).astype(np.uint64),
    np.array([True, False]),
    np.array([1 + 2j, -0.5j], np.complex64),
    np.array([[1 + 2j]], np.complex128),
    np.array([[b"a", b""], [b"\xff\x00", b"x" * 300]], object),
]
ODD = [
    tensor("DT_FLOAT", [2, 3], float_val=[1, 2]),
    tensor("DT_FLOAT", [3]),
    tensor("DT_FLOAT", [1], float_val=[1, 2, 3]),
    tensor("DT_UINT8", [2], int_val=[300, -1]),
    tensor("DT_INT8", [1], int_val=[200]),
    tensor("DT_UINT16", [1], int_val=[-2]),
    tensor("DT_HALF", [3], half_val=[15360, 16384]),
    tensor("DT_COMPLEX64", [3], scomplex_val=[1, 2, 3]),
    tensor("DT_STRING", [3], string_val=[b"a", b"b"]),
    tensor("DT_STRING", [2]),
    tensor("DT_STRING", [2], tensor_content=b"\x01\x02abc"),
    tensor("DT_BOOL", [3], bool_val=[False, True]),
    tensor("DT_FLOAT", [-1], float_val=[1]),
    tensor("DT_FLOAT", [2], tensor_content=b"1234"),
    tensor("DT_FLOAT", [2**62, 8]),
    tensor("DT_FLOAT", [0, 5]),
]


def theirs(protos: list[tuple[bytes, int]], request: bytes) -> dict[str, Any]:
    """TensorFlow's messages and what it reads: `protos` are TensorProtos, each with its dtype; a PredictRequest."""
    import tensorflow as tf
    from tensorflow_serving.apis import classification_pb2, get_model_status_pb2, predict_pb2

    def decode(data, number):  # tensorflow::Tensor::FromProto, in C++
        try:
            return tf.io.parse_tensor(data, tf.as_dtype(number)).numpy()
        except tf.errors.InvalidArgumentError:
            return None

    predict = predict_pb2.PredictRequest()
    predict.model_spec.name = "m"
    predict.model_spec.version.value = 7
    predict.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.5, 2.5]]))
    predict.output_filter.append("y")
    classify = classification_pb2.ClassificationRequest()
    feature = classify.input.example_list.examples.add().features.feature["image"]
    feature.float_list.value.extend([1, 2])
    status = get_model_status_pb2.GetModelStatusResponse()
    status.model_version_status.add(version=3, state=30)
    return {
        "files": generate_wire.describe().SerializeToString(deterministic=True),
        "decoded": [decode(*item) for item in protos],
        "content": [tf.io.serialize_tensor(array).numpy() for array in ARRAYS],
        "typed": [tf.make_tensor_proto(array).SerializeToString() for array in ARRAYS],
        "predict": predict.SerializeToString(),
        "classify": classify.SerializeToString(),
        "status": status.SerializeToString(),
        "theirs": predict_pb2.PredictRequest.FromString(request) == predict,
    }


@pytest.fixture(scope="module")
def tensorflow() -> dict[str, Any]:
    ours = [pb.TensorProto.FromString(tensors.serialize(a, content)) for a in ARRAYS for content in (False, True)]
    request = pb.PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.version.value = 7
    tensors.fill(request.inputs["x"], np.array([[1.5, 2.5]], np.float32), content=True)
    request.output_filter.append("y")
    protos = [(proto.SerializeToString(), proto.dtype) for proto in ours + ODD]
    return theirs(protos, request.SerializeToString())


def test_the_committed_protocol_is_the_installed_one(tensorflow: dict[str, Any]) -> None:
    installed = descriptor_pb2.FileDescriptorSet.FromString(tensorflow["files"])
    committed = descriptor_pb2.FileDescriptorSet.FromString(generate_wire.PATH.read_bytes())
    assert [file.name for file in committed.file] == [file.name for file in installed.file]
    for ours, theirs in zip(committed.file, installed.file, strict=True):
        assert ours == theirs, f"{ours.name} differs; run python -m tools.generate_wire and commit the result"


def test_tensorflow_reads_what_we_write(tensorflow: dict[str, Any]) -> None:
    decoded = tensorflow["decoded"][: 2 * len(ARRAYS)]
    for array, read in zip([array for array in ARRAYS for _ in range(2)], decoded, strict=True):
        assert read is not None
        np.testing.assert_array_equal(np.asarray(read, array.dtype), array)
    assert tensorflow["theirs"]


def test_odd_tensors_are_read_as_tensorflow_reads_them(tensorflow: dict[str, Any]) -> None:
    for proto, wanted in zip(ODD, tensorflow["decoded"][2 * len(ARRAYS) :], strict=True):
        if wanted is None:
            with pytest.raises(ValueError, match="tensor"):
                tensors.to_array(proto)
        else:
            np.testing.assert_array_equal(tensors.to_array(proto), wanted, err_msg=str(proto))


@pytest.mark.parametrize("form", ["content", "typed"])
def test_we_read_what_tensorflow_writes(tensorflow: dict[str, Any], form: str) -> None:
    for array, data in zip(ARRAYS, tensorflow[form], strict=True):
        read = tensors.to_array(pb.TensorProto.FromString(data))
        assert read.shape == array.shape
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_messages_parse_what_tensorflow_serving_serialises(tensorflow: dict[str, Any]) -> None:
    predict = pb.PredictRequest.FromString(tensorflow["predict"])
    assert (predict.model_spec.name, predict.model_spec.version.value) == ("m", 7)
    assert tensors.to_array(predict.inputs["x"]).tolist() == [[1.5, 2.5]]
    classify = pb.ClassificationRequest.FromString(tensorflow["classify"])
    example = classify.input.example_list.examples[0]
    assert list(example.features.feature["image"].float_list.value) == [1, 2]
    status = pb.GetModelStatusResponse.FromString(tensorflow["status"])
    assert pb.State.Name(status.model_version_status[0].state) == "AVAILABLE"
