"""What requests leave in the server's log: nothing, unless `--access_log` asks for a line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.serving import flags
from tests.stubs import grpc_stub


def ask(server: Any, model: str, request_id: str, rows: Any) -> None:
    """Asks a model over both protocols, whatever it answers."""
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model))
    tensors.fill(request.inputs["x"], rows)
    metadata = [("x-request-id", f"{request_id}-grpc")] if request_id else []
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = grpc_stub(channel, services.PREDICTION).Predict.future(request, metadata=metadata, timeout=60)
        call.exception()
    headers = {"X-Request-ID": f"{request_id}-rest"} if request_id else {}
    body = b'{"instances": %b}' % str(rows.tolist()).encode()
    server.send("POST", f"/v1/models/{model}:predict", body, **headers)


@pytest.mark.parametrize("backend", ["grpcio", "native"])
def test_the_access_log_has_the_same_line_for_each_protocol(
    serve: Callable[..., Any], tiny_repository: Path, backend: str, one: Any
) -> None:
    flags = ("--access_log", f"--grpc_backend={backend}")
    server = serve("--repository", tiny_repository, *flags, models=["half_plus_two"])
    ask(server, "half_plus_two", "good", one)
    ask(server, "nobody", "bad", one)
    ask(server, "half_plus_two", "", one)
    ask(server, "half_plus_two", "x" * 200, one)
    lines = [line for line in server.log.read_text().splitlines() if " predict " in line]
    found = [line.split(" request ")[1].split(" in ")[0] for line in lines]
    assert found == [
        "good-grpc: gRPC predict half_plus_two: OK",
        "good-rest: REST predict half_plus_two: OK",
        "bad-grpc: gRPC predict nobody: NOT_FOUND",
        "bad-rest: REST predict nobody: NOT_FOUND",
        *["-: gRPC predict half_plus_two: OK", "-: REST predict half_plus_two: OK"] * 2,
    ]
    server.stop()


def test_requests_leave_no_lines_in_the_log(tiny_server: Any, one: Any) -> None:
    ask(tiny_server, "half_plus_two", "warm", one)
    before = tiny_server.log.read_text()
    for i in range(5):
        ask(tiny_server, "half_plus_two", f"id{i}", one)
        ask(tiny_server, "nobody", f"id{i}", one)
    assert tiny_server.log.read_text() == before


def test_errors_of_callers_are_counted_in_the_log_not_listed(tiny_server: Any, one: Any) -> None:
    before = len(tiny_server.log.read_text().splitlines())
    for _ in range(10):
        ask(tiny_server, "classifier", "", one)  # it takes images
        tiny_server.get(f"/v1/models/half_plus_two/versions/{10**20}")
    after = tiny_server.log.read_text().splitlines()
    assert len(after) - before <= 4, after[before:]


@pytest.mark.parametrize("workers", [1, 2])
def test_with_log_format_json_every_line_is_an_object_and_a_request_has_fields(
    serve: Callable[..., Any], tiny_repository: Path, workers: int, one: Any
) -> None:
    flags = ("--access_log", "--log_format=json", f"--workers={workers}", "--unknown")
    server = serve("--repository", tiny_repository, *flags, models=["half_plus_two", "classifier"])
    ask(server, "half_plus_two", "good", one)
    ask(server, "nobody", "x" * 200, one)
    server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all(line["time"].endswith("+00:00") and line["level"] and line["message"] for line in lines)
    assert "WARNING" in {line["level"] for line in lines if "--unknown" in line["message"]}
    assert {line.get("worker") for line in lines if "stopped" in line["message"]} >= (set() if workers == 1 else {1, 2})
    requests = [line for line in lines if line["message"] == "request" and line["method"] == "predict"]
    found = [(line["protocol"], line["method"], line["status"], line["request_id"]) for line in requests]
    assert sorted(found, key=str) == [
        ("REST", "predict", "NOT_FOUND", None),
        ("REST", "predict", "OK", "good-rest"),
        ("gRPC", "predict", "NOT_FOUND", None),
        ("gRPC", "predict", "OK", "good-grpc"),
    ]
    for line in requests:
        assert line["ms"] > 0
        ran = line["status"] == "OK"
        known = ("half_plus_two", 1, "serving_default", 1) if ran else (line["model"], None, None, None)
        assert (line["model"], line["version"], line["signature"], line["rows"]) == known
        assert (line["run_ms"] is not None, line["queue_ms"] is not None) == (ran, ran)
        if ran:
            assert 0 <= line["queue_ms"] + line["run_ms"] <= line["ms"] + 0.01


def test_the_times_of_a_request_that_waits_are_those_of_its_queue_and_its_merged_run(
    serve: Callable[..., Any], tiny_repository: Path, one: Any
) -> None:
    flags = ("--access_log", "--log_format=json", "--enable_batching")
    server = serve("--repository", tiny_repository, *flags, models=["half_plus_two"])
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
    tensors.fill(request.inputs["x"], one)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        predict = grpc_stub(channel, services.PREDICTION).Predict
        for call in [predict.future(request, timeout=60) for _ in range(40)]:
            call.result()
    server.stop()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    requests = [line for line in lines if line["message"] == "request" and line["method"] == "predict"]
    assert len(requests) == 40
    assert all(line["rows"] == 1 and line["run_ms"] > 0 and line["queue_ms"] <= line["ms"] for line in requests)


def test_an_unknown_log_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(flags.FlagError, match="got --log_format=xml; expected text or json"):
        flags.parse(["--log_format=xml"])
