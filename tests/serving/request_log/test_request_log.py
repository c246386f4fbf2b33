"""`logging_config` in models.config: sampled requests become PredictionLog records in TFRecord files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format

from ladle.clients.cli.__main__ import main
from ladle.clients.wire import messages as pb
from ladle.clients.wire import services, tensors
from ladle.clients.wire.tfrecord import frame, read_records
from ladle.serving.errors import ServingError
from ladle.serving.repository.config import parse_models
from ladle.serving.repository.folders import RequestLogging
from ladle.serving.request_log.files import RecordFiles
from ladle.serving.request_log.request_log import MAX_WAITING, RequestLog
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.observation import Observation
from tests.stubs import grpc_stub
from tests.tiny_models import half_plus

CONFIG = """
model_config_list {{ config {{
  name: "half" base_path: "{base}" model_platform: "tensorflow"
  model_version_policy {{ all {{}} }}
  logging_config {{
    log_collector_config {{ type: "file" filename_prefix: "half/requests" }}
    sampling_config {{ sampling_rate: {rate} }}
  }}
}} config {{ name: "silent" base_path: "{base}" model_platform: "tensorflow" }} }}
"""


@pytest.fixture
def logged(serve: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Starts a server that logs the requests of `half`, versions 1 (x/2 + 2) and 2 (x/2 + 3), into tmp_path/logs."""
    half_plus(2).write(tmp_path / "base", 1)
    half_plus(3).write(tmp_path / "base", 2)
    (tmp_path / "logs").mkdir()

    def start(*flags: str, rate: float = 1.0) -> Any:
        (tmp_path / "models.config").write_text(CONFIG.format(base=tmp_path / "base", rate=rate))
        where = f"--model_config_file={tmp_path / 'models.config'}", f"--request_log_dir={tmp_path / 'logs'}"
        server = serve(*where, *flags, models=["half", "silent"])
        server.wait_for(lambda: set(server.states("half").values()) == {"AVAILABLE"})  # both versions
        return server

    return start


def records(folder: Path) -> list[Any]:
    found = [record for path in sorted(folder.rglob("*.tfrecord")) for record in read_records(path)]
    return [pb.PredictionLog.FromString(record) for record in found]


def ask(server: Any, model: str = "half", version: int | None = 1, x: Any = ((1.0,),)) -> None:
    """A Predict over gRPC and the same over REST, of version 1."""
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model))
    if version is not None:
        request.model_spec.version.value = version
    tensors.fill(request.inputs["x"], np.array(x, np.float32))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        grpc_stub(channel, services.PREDICTION).Predict(request, timeout=60)
    path = f"/v1/models/{model}" + (f"/versions/{version}" if version else "")
    status, answer = server.send("POST", f"{path}:predict", b'{"instances": %b}' % str([list(r) for r in x]).encode())
    assert status == 200, answer


def metric(server: Any) -> dict[str, float]:
    _, text = server.get("/monitoring/prometheus/metrics")
    found = re.findall(r'request_log_count\{model_name="half",status="(\w+)"\} (\d+)', text.decode())
    return {status: float(count) for status, count in found}


def test_requests_over_each_protocol_are_logged_replayed_and_warm_a_server_up(
    logged: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], serve: Any
) -> None:
    server = logged("--enable_metrics", "--workers=2")
    for _ in range(3):
        ask(server, version=1)
    ask(server, "silent", version=None)
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [4]}]}'
    assert server.send("POST", "/v2/models/half/versions/1/infer", body)[0] == 200
    server.send("POST", "/v1/models/half:predict", b'{"instances": "no"}')  # refused, so not logged
    server.wait_for(lambda: metric(server) == {"written": 7})
    server.wait_for(lambda: len(records(tmp_path / "logs")) == 7)  # also while the server runs
    found = records(tmp_path / "logs")
    for log in found:
        assert log.log_metadata.model_spec.name == "half"
        assert log.log_metadata.model_spec.version.value == 1
        assert log.log_metadata.sampling_config.sampling_rate == 1
        inputs, outputs = log.predict_log.request.inputs, log.predict_log.response.outputs
        assert tensors.to_array(outputs["y"]).tolist() == (tensors.to_array(inputs["x"]) / 2 + 2).tolist()
    files = sorted((tmp_path / "logs" / "half").iterdir())
    assert 1 <= len(files) <= 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)

    where, names = ["--server", f"grpc://127.0.0.1:{server.grpc_port}"], [str(path) for path in files]
    assert main(["replay", *names, *where, "--version", "2", "--json"]) == 0  # the newest is version 2
    assert main(["replay", *names, *where, "--json"]) == 1  # version 2 does not answer what version 1 answered
    shown = capsys.readouterr()
    assert '"differs": 7' in shown.out
    assert '"difference": 1.0' in shown.out
    assert "record 0: y[0, 0] is 3.5, the other 2.5" in shown.err
    half_plus(2).write(tmp_path / "new", 1)
    warmup = tmp_path / "new" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    warmup.parent.mkdir(exist_ok=True)
    other = serve(f"--model_base_path={tmp_path / 'new'}", "--model_name=half", models=["half"])
    there = ["--against", f"grpc://127.0.0.1:{other.grpc_port}"]
    assert main(["replay", *names, *where, *there, "--tolerance", "0.5", "--save-warmup", str(warmup)]) == 0
    assert len(list(read_records(warmup))) == 2  # 1.0 and 4.0
    again = serve(f"--model_base_path={tmp_path / 'new'}", "--model_name=half", "--enable_metrics", models=["half"])
    _, text = again.get("/monitoring/prometheus/metrics")
    assert re.search(rb"model_warmup_records_read\{.*OK.*\} 2\n", text)
    server.stop()


def test_only_the_sample_is_logged(logged: Callable[..., Any], tmp_path: Path) -> None:
    server = logged("--enable_metrics", rate=0.0)
    ask(server)
    server.stop()
    assert records(tmp_path / "logs") == []


def test_redacted_values_are_zeros_of_the_same_shape(logged: Callable[..., Any], tmp_path: Path) -> None:
    server = logged("--request_log_redact=x", rate=1.0)
    ask(server, x=((3.0,), (4.0,)))
    server.stop()
    found = records(tmp_path / "logs")
    assert len(found) == 2
    for log in found:
        assert tensors.to_array(log.predict_log.request.inputs["x"]).tolist() == [[0], [0]]
        assert tensors.to_array(log.predict_log.response.outputs["y"]).tolist() == [[3.5], [4]]


LOGGING = 'log_collector_config { type: "file" filename_prefix: "a" }'


@pytest.mark.parametrize(
    ("logging_config", "code", "message"),
    [
        ('log_collector_config { type: "kafka" }', "NOT_FOUND", "Cannot find LogCollector::Factory for type: kafka"),
        ("sampling_config { sampling_rate: 1 }", "NOT_FOUND", "Cannot find LogCollector::Factory for type: ."),
        (LOGGING.replace('"a"', '""'), "INVALID_ARGUMENT", "its logging_config has no filename_prefix"),
        (LOGGING.replace('"a"', '"../a"'), "PERMISSION_DENIED", "not below the server's --request_log_dir"),
        (LOGGING.replace('"a"', '"/etc/a"'), "PERMISSION_DENIED", "not below the server's --request_log_dir"),
        (f"{LOGGING} sampling_config {{ sampling_rate: 1.5 }}", "INVALID_ARGUMENT", "expected a share from 0 to 1"),
        (f"{LOGGING} sampling_config {{ attributes: 1 }}", "INVALID_ARGUMENT", "got attributes in its logging_config"),
    ],
    ids=["type", "no type", "no prefix", "above", "elsewhere", "rate", "attributes"],
)
def test_a_logging_config_that_cannot_be_followed_is_refused(
    tmp_path: Path, logging_config: str, code: str, message: str
) -> None:
    text = (
        'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" logging_config { %s } } }'
    )
    config = text_format.Parse(text % logging_config, pb.ModelServerConfig())
    with pytest.raises(ServingError, match=re.escape(message)) as refused:
        parse_models(config, log_folder=tmp_path)
    assert refused.value.code == code


def test_files_are_closed_at_their_size_and_the_oldest_go_first(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path / "a*b", max_bytes=8000)
    record = frame(b"x" * 384)  # 400 bytes
    for _ in range(100):
        files.write(record)
        files.flush()
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8000
    kept = sorted(tmp_path.iterdir())
    assert len(kept) >= 8
    assert kept[-1].name.endswith("-00050.tfrecord")
    for path in kept:
        assert [len(found) for found in read_records(path)] == [384, 384]
    shutil.rmtree(tmp_path)  # a person removes what is written: the next record makes a new file
    files.write(record)
    files.close()
    assert len(list(tmp_path.iterdir())) == 1


def seen(x: Any) -> Observation:
    found = Observation("gRPC", "predict", "", 0.0)
    found.choose("m", 1, "serving_default")
    found.answer("predict", {"x": x}, {"y": x})
    return found


def counts(metrics: Metrics) -> Mapping[str, float]:
    return {labels[1]: value for labels, value in metrics.snapshot()["own_request_log"]}


def test_a_full_queue_drops_requests_and_a_full_disk_fails_them_without_a_wait(tmp_path: Path) -> None:
    metrics = Metrics()
    logging = RequestLogging(1.0, tmp_path / "file" / "requests")
    log = RequestLog(lambda: {"m": logging}, 2**20, metrics=metrics)
    huge = np.zeros((1, 2**18), np.float32)
    for _ in range(MAX_WAITING):
        log.offer(seen(huge))
    log.close()
    found = counts(metrics)
    assert found["dropped"] == MAX_WAITING  # the queue takes 64 MiB, and no record larger than its file is written
    (tmp_path / "other").touch()
    logging = RequestLogging(1.0, tmp_path / "other" / "requests")  # no folder can be made there
    log = RequestLog(lambda: {"m": logging}, 2**20, metrics=metrics)
    log.offer(seen(np.zeros((1, 1), np.float32)))
    log.close()
    assert counts(metrics)["failed"] == 1
