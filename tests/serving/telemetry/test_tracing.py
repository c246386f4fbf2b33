"""Traces from client through gateway to server, received by a real OTLP receiver."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.otlp import is_wanted
from ladle.serving.telemetry import prometheus
from tests.stubs import grpc_stub

ROOT = Path(__file__).resolve().parents[3]
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{'1' * 32}-{CALLER}-00"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


class Receiver:
    """An OTLP/HTTP receiver of traces: `spans` are those that have come."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
            ExportTraceServiceResponse,
        )

        self.spans: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    service = next(
                        a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
                    )
                    receiver.spans += [_plain(s, service) for scope in resource.scope_spans for s in scope.spans]
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *values: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def named(self, name: str, service: str = "ladle-server") -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name and span["service"] == service]


def _plain(span: Any, service: str) -> dict[str, Any]:
    attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
    return {
        "service": service,
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "links": [link.span_id.hex() for link in span.links],
        **attributes,
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()


GATEWAY = """
import io, sys
from ladle.clients.web import Config, create_app
server, collector, traceparent, image = sys.argv[1:]
web = create_app(Config(server=server, models=("classifier",), otlp_endpoint=collector)).test_client()
headers = {"traceparent": traceparent, "x-request-id": "r1"}
with open(image, "rb") as file:
    answer = web.post("/api/v1/models/classifier:classify", data=file.read(), content_type="image/png", headers=headers)
assert answer.status_code == 200, answer.text
"""


def test_one_trace_leads_from_the_caller_through_gateway_and_client_to_the_server(
    serve: Callable[..., Any], tiny_repository: Path, receiver: Receiver, tmp_path: Path
) -> None:
    flags = f"--otlp_endpoint={receiver.url}", "--access_log", "--log_format=json"
    server = serve("--repository", tiny_repository, *flags, models=["classifier"], env=QUICK)
    Image.new("L", (2, 2), 250).save(tmp_path / "image.png")
    where = f"grpc://127.0.0.1:{server.grpc_port}"
    command = [sys.executable, "-c", GATEWAY, where, receiver.url, SAMPLED, str(tmp_path / "image.png")]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **QUICK})
    server.stop()

    (gateway,) = receiver.named("POST /api/v1/models/<model:name>:classify", "ladle-gateway")
    assert (gateway["trace"], gateway["parent"]) == (TRACE, CALLER)
    assert gateway["http.response.status_code"] == 200
    clients = {span["id"]: span for span in receiver.named("ladle Predict", "ladle-gateway")}
    assert {span["parent"] for span in clients.values()} == {gateway["id"]}
    served = receiver.named("gRPC predict")
    assert served
    for span in served:
        assert (span["trace"], span["ladle.request_id"], span["ladle.status"]) == (TRACE, "r1", "OK")
        assert (span["ladle.model"], span["ladle.version"], span["rpc.system"]) == ("classifier", 1, "grpc")
        client = clients[span["parent"]]
        slack = 50_000_000  # two processes read two clocks at different times
        assert client["start"] - slack <= span["start"] <= span["end"] <= client["end"] + slack
        parts = [part for part in receiver.spans if part["parent"] == span["id"]]
        parts.sort(key=lambda part: (part["start"], part["end"]))
        assert [part["name"] for part in parts] == ["read", "queue", "run", "write"]
        assert [span["start"], *(part["end"] for part in parts)] == [*(part["start"] for part in parts), span["end"]]
    logged = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {line["trace_id"] for line in logged if line.get("request_id") == "r1"} == {TRACE}


@pytest.mark.parametrize("backend", ["native", "grpcio"])
def test_the_callers_decision_counts_merged_runs_are_linked_and_buckets_have_exemplars(
    serve: Callable[..., Any], tiny_repository: Path, receiver: Receiver, backend: str
) -> None:
    flags = "--enable_metrics", "--enable_batching", f"--grpc_backend={backend}"
    env = {**QUICK, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    server = serve("--repository", tiny_repository, *flags, models=["half_plus_two"], env=env)
    body = b'{"instances": [[1.0]]}'
    for headers in ({}, {"traceparent": UNSAMPLED}, {"traceparent": "nonsense"}, {"traceparent": SAMPLED}):
        assert server.send("POST", "/v1/models/half_plus_two:predict", body, **headers)[0] == 200
    assert server.send("POST", "/v1/models/nobody:predict", body, traceparent=SAMPLED)[0] == 404
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
    tensors.fill(request.inputs["x"], np.ones((1, 1), np.float32))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        predict = grpc_stub(channel, services.PREDICTION).Predict
        calls = [predict.future(request, metadata=[("traceparent", SAMPLED)], timeout=60) for _ in range(64)]
        for call in calls:
            call.result()
    status, text = server.send("GET", prometheus.PATH, None, Accept="application/openmetrics-text;version=1.0.0,*/*")
    assert status == 200
    plain = server.get(prometheus.PATH)[1].decode()
    server.stop()

    assert {span["trace"] for span in receiver.spans} == {TRACE}
    found = receiver.named("REST predict")
    assert sorted(span["ladle.status"] for span in found) == ["NOT_FOUND", "OK"]
    assert len(receiver.named("gRPC predict")) == 64
    ids = {span["id"] for span in receiver.named("gRPC predict")}
    runs = {span["parent"] for span in receiver.named("run")}
    for batch in receiver.named("batch"):  # how many runs are merged depends on how the requests arrive
        assert batch["ladle.batch.requests"] == batch["ladle.batch.rows"] == len(batch["links"]) + 1 > 1
        assert set(batch["links"]) < ids
        assert batch["id"] in runs
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    samples = families[":ladle:serving:request_latency"].samples
    traced = [sample for sample in samples if sample.exemplar is not None]
    assert {sample.exemplar.labels["trace_id"] for sample in traced} == {TRACE}
    assert {sample.labels["entrypoint"] for sample in traced} == {"GRPC", "REST"}
    assert all(sample.exemplar.value <= float(sample.labels["le"]) for sample in traced)
    assert "EOF" not in plain
    assert "trace_id" not in plain


def test_a_server_that_is_not_asked_for_traces_neither_imports_nor_reads_anything() -> None:
    code = (
        "import sys, ladle.serving.server, ladle.clients.library.client, ladle.clients.web.app\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_traces_are_wanted_by_the_flag_or_by_the_variables_of_opentelemetry() -> None:
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert is_wanted("http://127.0.0.1:4318", {})
    assert is_wanted("", there)
    assert not is_wanted("", {})
    assert not is_wanted("", {**there, "OTEL_TRACES_EXPORTER": "none"})
    assert not is_wanted("http://127.0.0.1:4318", {"OTEL_SDK_DISABLED": "true"})


def test_an_endpoint_that_is_no_url_ends_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ladle.serving", f"--repository={tmp_path}", "--otlp_endpoint=collector:4318"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 255
    assert "got --otlp_endpoint=collector:4318; expected http://HOST:PORT" in done.stdout
