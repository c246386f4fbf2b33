"""TensorFlow Serving's contract as one table, over both protocols on one server: tests/golden/contract.json.

A case has a REST request with its status and answer, a gRPC request with its answer, or both. JSON answers are compared
as text, without the blanks between tokens. gRPC requests and answers are messages in text format; an error is
`<CODE>: <details>`.
"""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services
from tests.stubs import grpc_stub

CASES = json.loads((Path(__file__).parent.parent / "golden" / "contract.json").read_text())
METHODS = {
    "Predict": (services.PREDICTION, pb.PredictRequest, pb.PredictResponse),
    "Classify": (services.PREDICTION, pb.ClassificationRequest, pb.ClassificationResponse),
    "Regress": (services.PREDICTION, pb.RegressionRequest, pb.RegressionResponse),
    "MultiInference": (services.PREDICTION, pb.MultiInferenceRequest, pb.MultiInferenceResponse),
    "GetModelMetadata": (services.PREDICTION, pb.GetModelMetadataRequest, pb.GetModelMetadataResponse),
    "GetModelStatus": (services.MODEL, pb.GetModelStatusRequest, pb.GetModelStatusResponse),
}
CONFIG = """
model_config_list {{
  config {{
    name: "half_plus_two" base_path: "{folder}/half_plus_two" model_platform: "tensorflow"
    model_version_policy {{ all {{ }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "classifier" base_path: "{folder}/classifier" model_platform: "tensorflow" }}
  config {{ name: "identities" base_path: "{folder}/identities" model_platform: "tensorflow" }}
  config {{ name: "broken" base_path: "{folder}/broken" model_platform: "tensorflow" }}
}}
"""
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """half_plus_two/1 and /2 (which adds three) with labels, classifier, identities, and broken, which has no files."""
    folder = tmp_path_factory.mktemp("contract")
    tiny.half_plus(2).write(folder / "half_plus_two", 1)
    tiny.half_plus(3).write(folder / "half_plus_two", 2)
    tiny.image_classifier().write(folder / "classifier")
    tiny.identities().write(folder / "identities")
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "models.config").write_text(CONFIG.format(folder=folder))
    server = serve(
        f"--model_config_file={folder / 'models.config'}",
        "--allow_version_labels_for_unavailable_models",
        "--max_num_load_retries=0",
        models=["half_plus_two", "classifier", "identities"],
    )
    server.wait_for(lambda: server.states("half_plus_two") == {1: "AVAILABLE", 2: "AVAILABLE"})
    server.wait_for_state("broken", 1, "END")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stubs(server: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield {name: grpc_stub(channel, name) for name in (services.PREDICTION, services.MODEL)}


@pytest.fixture(scope="module")
def connection(server: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    yield connection
    connection.close()


def tokens(text: str) -> str:
    """JSON without the blanks between tokens."""
    return "".join(_TOKENS.findall(text))


@pytest.mark.parametrize("case", [c for c in CASES if "rest" in c], ids=lambda c: c["name"])
def test_rest_answers_as_the_contract_says(connection: Any, case: dict[str, Any]) -> None:
    expected = case["rest"]
    method, path = expected["request"].split(" ", 1)
    connection.request(method, path, expected["body"].encode() or None)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert (answer.status, tokens(text)) == (expected["status"], tokens(expected["answer"]))
    assert answer.getheader("content-type") == "application/json"


@pytest.mark.parametrize("case", [c for c in CASES if "grpc" in c], ids=lambda c: c["name"])
def test_grpc_answers_as_the_contract_says(stubs: Any, case: dict[str, Any]) -> None:
    method, request, answer = case["grpc"]["method"], case["grpc"]["request"], case["grpc"]["answer"]
    service, asked, answered = METHODS[method]
    call = getattr(stubs[service], method)
    message = text_format.Parse(request, asked(), descriptor_pool=pb.POOL)
    if re.match(r"[A-Z_]+: ", answer):
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=30)
        assert f"{caught.value.code().name}: {caught.value.details()}" == answer
    else:
        expected = text_format.Parse(answer, answered(), descriptor_pool=pb.POOL)
        found = call(message, timeout=30)
        assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_the_table_covers_both_protocols() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) > 200
    assert sum("rest" in case and "grpc" in case for case in CASES) > 50
