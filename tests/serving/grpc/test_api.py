"""gRPC only: the version in the answer, output filters, tensor encodings, health; on both gRPC servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from tests.stubs import grpc_stub


@pytest.fixture(scope="module")
def grpcio_server(serve: Any, tiny_repository: Path) -> Any:
    models = sorted(path.name for path in tiny_repository.iterdir())
    return serve("--repository", tiny_repository, "--grpc_backend=grpcio", models=models)


@pytest.fixture(params=["native", "grpcio"])
def channel(request: pytest.FixtureRequest) -> Any:
    server = request.getfixturevalue("tiny_server" if request.param == "native" else "grpcio_server")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture
def prediction(channel: Any) -> Any:
    return grpc_stub(channel, services.PREDICTION)


def request(model: str = "half_plus_two", signature: str = "", **inputs: Any) -> Any:
    made = pb.PredictRequest(model_spec=pb.ModelSpec(name=model, signature_name=signature))
    for alias, array in inputs.items():
        tensors.fill(made.inputs[alias], np.asarray(array))
    return made


def refusal(call: Any, message: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30)
    return caught.value.code().name, caught.value.details()


X = np.array([[1.0]], np.float32)


def test_the_answer_names_model_version_and_signature(prediction: Any) -> None:
    spec = prediction.Predict(request(x=X)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus_two", 1, "serving_default")
    assert spec.WhichOneof("version_choice") == "version"


def test_outputs_come_as_typed_values(prediction: Any) -> None:
    output = prediction.Predict(request(x=X)).outputs["y"]
    assert list(output.float_val) == [2.5]
    assert not output.tensor_content


def test_inputs_may_be_tensor_content(prediction: Any) -> None:
    made = request()
    tensors.fill(made.inputs["x"], X, content=True)
    assert list(prediction.Predict(made).outputs["y"].float_val) == [2.5]


def test_a_large_tensor_is_answered_the_same_again_and_with_other_numbers(prediction: Any) -> None:
    """The first one is parsed in a thread; those that are alike are read without a parser."""
    numbers = np.arange(150_000, dtype=np.float32)
    for x in (numbers, numbers, numbers[::-1].copy(), numbers[:100_000]):
        message = request()
        tensors.fill(message.inputs["x"], x, content=True)
        found = tensors.to_array(prediction.Predict(message).outputs["y"])
        np.testing.assert_array_equal(found, x / 2 + 2)


def test_half_precision_travels(prediction: Any) -> None:
    half = np.array([0.5, -2, np.inf], np.float16)
    output = prediction.Predict(request("identities", "float16", x=half)).outputs["y"]
    np.testing.assert_equal(tensors.to_array(output), half)


def test_an_output_filter_chooses_outputs(prediction: Any) -> None:
    made = request("classifier", image=np.zeros((1, 2, 2, 1), np.float32))
    made.output_filter.extend(["label", "class_id"])
    assert sorted(prediction.Predict(made).outputs) == ["class_id", "label"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["nope"],
            "output tensor alias not found in signature: nope Outputs expected to be in the set "
            "{class_id,label,logits,probabilities}.",
        ),
        (["label", "label"], "duplicate output tensor alias: label"),
    ],
    ids=["unknown", "twice"],
)
def test_a_bad_output_filter_is_refused(prediction: Any, names: list[str], message: str) -> None:
    made = request("classifier", image=np.zeros((1, 2, 2, 1), np.float32))
    made.output_filter.extend(names)
    assert refusal(prediction.Predict, made) == ("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("made", "code", "message"),
    [
        (pb.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (
            pb.PredictRequest(model_spec=pb.ModelSpec()),
            "INVALID_ARGUMENT",
            "ModelSpec has no name specified.",
        ),
        (
            request(signature="missing", x=X),
            "FAILED_PRECONDITION",
            'Serving signature key "missing" not found.',
        ),
        (
            request(x=X, z=X),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. "
            "Missing but required: {}.",
        ),
        (
            request(),
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        (
            request(z=X),
            "INVALID_ARGUMENT",
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {x}, or default input alias set: {}",
        ),
        (
            request(x=np.array([["a"]], object)),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but string is provided",
        ),
    ],
    ids=["no spec", "no name", "signature", "extra input", "no input", "other input", "dtype"],
)
def test_predict_refuses(prediction: Any, made: Any, code: str, message: str) -> None:
    assert refusal(prediction.Predict, made) == (code, message)


def test_a_malformed_tensor_is_refused_by_name(prediction: Any) -> None:
    made = request(x=X)
    made.inputs["x"].tensor_shape.dim[0].size = -1
    assert refusal(prediction.Predict, made) == ("INVALID_ARGUMENT", "tensor parsing error: x")


def test_long_messages_are_cut(prediction: Any) -> None:
    code, details = refusal(prediction.Predict, request("n" * 5000, x=X))
    assert code == "NOT_FOUND"
    assert len(details) == 1024 + len("...TRUNCATED")
    assert details.endswith("n...TRUNCATED")


def test_metadata_needs_the_field_that_there_is(prediction: Any) -> None:
    made = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
    assert refusal(prediction.GetModelMetadata, made)[1] == (
        "GetModelMetadataRequest must specify at least one metadata_field"
    )
    made.metadata_field.append("weights")
    assert refusal(prediction.GetModelMetadata, made) == (
        "INVALID_ARGUMENT",
        "Metadata field weights is not supported",
    )


def test_classify_without_examples_is_refused(prediction: Any) -> None:
    made = pb.ClassificationRequest(model_spec=pb.ModelSpec(name="half_plus_two", signature_name="classify_x"))
    assert refusal(prediction.Classify, made) == ("INVALID_ARGUMENT", "Input is empty.")


def test_the_context_is_merged_into_each_example(prediction: Any) -> None:
    made = pb.RegressionRequest(model_spec=pb.ModelSpec(name="half_plus_two", signature_name="regress_x"))
    given = made.input.example_list_with_context
    given.context.features.feature["x"].float_list.value.append(6.0)
    given.examples.add()
    given.examples.add().features.feature["x"].float_list.value.append(8.0)
    assert [one.value for one in prediction.Regress(made).result.regressions] == [5.0, 6.0]


def test_health_says_serving(channel: Any) -> None:
    health = grpc_stub(channel, services.HEALTH)
    for name in ("", "PredictionService", "tensorflow.serving.ModelService"):
        answer = health.Check(pb.HealthCheckRequest(service=name))
        assert pb.ServingStatus.Name(answer.status) == "SERVING"
    assert refusal(health.Check, pb.HealthCheckRequest(service="nope"))[0] == "NOT_FOUND"
