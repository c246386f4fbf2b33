from __future__ import annotations

import os
import subprocess
import sys

import pytest
from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services


def test_configuration_files_are_read_in_text_form() -> None:
    config = text_format.Parse(
        'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" '
        'model_version_policy { specific { versions: 3 } } version_labels { key: "stable" value: 3 } } }',
        pb.ModelServerConfig(),
    )
    assert config.model_config_list.config[0].version_labels["stable"] == 3
    batching = text_format.Parse("max_batch_size { value: 8 } allowed_batch_sizes: 8", pb.BatchingParameters())
    assert batching.max_batch_size.value == 8
    assert text_format.Parse('prometheus_config { path: "/p" }', pb.MonitoringConfig()).prometheus_config.path
    assert text_format.Parse("client_verify: true", pb.SSLConfig()).client_verify


def test_an_any_packs_and_unpacks() -> None:
    response, signatures = pb.GetModelMetadataResponse(), pb.SignatureDefMap()
    signatures.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    response.metadata["signature_def"].Pack(signatures)
    url = response.metadata["signature_def"].type_url
    assert url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    back = pb.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(back)
    assert back == signatures


def test_health_messages_have_the_published_bytes() -> None:
    serving = pb.HealthCheckResponse(status=pb.ServingStatus.Value("SERVING"))
    assert serving.SerializeToString() == b"\x08\x01"
    assert pb.HealthCheckRequest(service="x").SerializeToString() == b"\x0a\x01x"


def test_paths_are_those_of_the_service_descriptors() -> None:
    for name in (services.PREDICTION, services.MODEL):
        described = pb.POOL.FindServiceByName(name).methods
        assert {f"/{name}/{method.name}" for method in described} == {
            method.path for method in services.methods(name).values()
        }
        for method in described:
            known = services.methods(name)[method.name]
            assert known.request.DESCRIPTOR is method.input_type
            assert known.response.DESCRIPTOR is method.output_type


def test_importing_the_client_is_fast_and_brings_no_tensorflow() -> None:
    script = """
import sys, time
started = time.process_time()
import ladle.clients.transport.grpc, ladle.clients.transport.rest
seconds = time.process_time() - started
print(seconds)
heavy = {"tensorflow", "keras", "tensorflow_serving", "ml_dtypes", "PIL", "onnxruntime"} & set(sys.modules)
assert not heavy, heavy
"""

    def seconds() -> float:
        return float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)

    assert any(seconds() < 0.5 for _ in range(5))  # processor time, which a busy machine stretches


def _in_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_messages_import_neither_the_text_format_nor_messages_in_pure_python() -> None:
    """Together they take a twelfth of the server's start-up time."""
    heavy = ("google.protobuf.text_format", "google.protobuf.internal.python_message", "google.protobuf.descriptor_pb2")
    code = f"import sys, ladle.serving.server; print([name for name in {heavy} if name in sys.modules])"
    assert _in_python(code) == "[]"


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_each_implementation_of_protobuf_writes_the_same_message(implementation: str) -> None:
    code = (
        "from ladle.clients.wire import messages as pb\n"
        "from google.protobuf.message_factory import GetMessageClass\n"
        "request = pb.PredictRequest(output_filter=['y'])\n"
        "request.model_spec.version.value = 3\n"
        "request.inputs['x'].CopyFrom(pb.TensorProto(dtype=1, float_val=[0.5]))\n"
        "assert GetMessageClass(pb.PredictRequest.DESCRIPTOR) is pb.PredictRequest is type(request)\n"
        "assert type(request.model_spec) is pb.ModelSpec\n"
        "print(request.SerializeToString(deterministic=True).hex())"
    )
    written = _in_python(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)
    assert pb.PredictRequest.FromString(bytes.fromhex(written)).inputs["x"].float_val == [0.5]
    assert written == "0a0412020803120d0a0178120808012a040000003f1a0179"
