"""The metrics: what is counted, the text that Prometheus reads, and its path."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.serving.errors import FailedPrecondition
from ladle.serving.servables.loader import Loader
from ladle.serving.telemetry import prometheus
from ladle.serving.telemetry.metrics import MAX_REFUSED, OTHER, Metrics
from ladle.serving.telemetry.prometheus import LATENCY_LIMITS, METRICS, PATH

Labels = dict[str, str]


def read(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels, read by Prometheus's own parser."""
    names = {metric.name for metric in METRICS.values()}
    return {
        # the parser adds `_total` to a counter's name
        (
            short if (short := sample.name.removesuffix("_total")) in names else sample.name,
            frozenset(sample.labels.items()),
        ): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float | None:
    return read(text).get((name, frozenset(labels.items())))


def test_a_request_is_written_in_tensorflow_servings_lines() -> None:
    metrics = Metrics()
    metrics.request("lenet5", "Predict", "GRPC", "OK", 25e-6, "serving_default")
    metrics.request("lenet5", "predict", "REST", "NOT_FOUND", 3e-6)
    lines = prometheus.render([metrics.snapshot()]).decode().splitlines()
    at = lines.index("# TYPE :tensorflow:serving:request_count counter")
    assert lines[at + 1 : at + 3] == [
        ':tensorflow:serving:request_count{model_name="lenet5",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_count{model_name="lenet5",status="OK"} 1',
    ]
    at = lines.index("# TYPE :tensorflow:serving:request_latency histogram")
    labels = 'model_name="lenet5",API="Predict",entrypoint="GRPC"'
    assert lines[at + 1 : at + 6] == [
        f':tensorflow:serving:request_latency_bucket{{{labels},le="10"}} 0',
        f':tensorflow:serving:request_latency_bucket{{{labels},le="18"}} 0',
        f':tensorflow:serving:request_latency_bucket{{{labels},le="32.4"}} 1',
        f':tensorflow:serving:request_latency_bucket{{{labels},le="58.32"}} 1',
        f':tensorflow:serving:request_latency_bucket{{{labels},le="104.976"}} 1',
    ]
    assert lines[at + 33 : at + 38] == [
        f':tensorflow:serving:request_latency_bucket{{{labels},le="1.47476e+09"}} 1',
        f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}} 1',
        f":tensorflow:serving:request_latency_sum{{{labels}}} 25",
        f":tensorflow:serving:request_latency_count{{{labels}}} 1",
        "# TYPE :tensorflow:serving:runtime_latency histogram",
    ]


def test_prometheus_reads_every_metric() -> None:
    metrics = Metrics()
    metrics.request("m", "regress", "REST", "OK", 0.5, "s")
    metrics.runtime("m", "s", 0.25, 3, "Regress")
    metrics.queued("m", 2)
    metrics.queued("m", -1)
    metrics.batch("m", "s", 5, 3, [0.001, 0.002], [2, 3])
    metrics.examples("m", 7)
    metrics.warmup("/models/m/1", "OK", 0.1, 4)
    metrics.loaded("m", 1, "OK", 0.2)
    metrics.loaded("m", 2, "DATA_LOSS", 0.1)
    text = prometheus.render([metrics.snapshot()])
    assert re.findall(r"^# TYPE (\S+) (\S+)$", text.decode(), re.MULTILINE) == sorted(
        (metric.name, metric.kind) for metric in METRICS.values()
    )
    found = {
        (":tensorflow:serving:runtime_latency_count", ("model_name", "API", "runtime")): ("m", "Regress", "TF1"),
        (":ladle:serving:row_count", ("model_name", "signature", "API")): ("m", "s", "Regress"),
        (":ladle:serving:queue_depth", ("model_name",)): ("m",),
        (":tensorflow:serving:batching_session:queuing_latency_count", ("thread_pool_name",)): (
            "model_server_batch_threads",
        ),
        (":tensorflow:serving:batching_session:padding_size_sum", ("execution_batch_size",)): ("8",),
        (":tensorflow:serving:batching_session:input_batch_size_count", ()): (),
        (":tensorflow:serving:batching_session:processed_batch_size_sum", ()): (),
        (":tensorflow:serving:request_example_count_total", ("model",)): ("m",),
        (":tensorflow:serving:model_warmup_records_read", ("model_path", "status")): ("/models/m/1", "OK"),
        (":ladle:serving:loaded_version", ("model_name", "version")): ("m", "1"),
        (":ladle:serving:load_latency_count", ("model_name", "status")): ("m", "DATA_LOSS"),
        (":ladle:serving:batch_size_sum", ("model_name", "signature")): ("m", "s"),
    }
    values = [value(text, name, **dict(zip(labels, texts, strict=True))) for (name, labels), texts in found.items()]
    assert values == [1, 3, 1, 2, 3, 2, 8, 7, 4, 1, 1, 5]
    assert value(text, ":ladle:serving:loaded_version", model_name="m", version="2") is None
    metrics.set_available({"m": [3]})
    gone = prometheus.render([metrics.snapshot()])
    assert value(gone, ":ladle:serving:loaded_version", model_name="m", version="1") is None


def test_processes_are_added_up_and_a_snapshot_survives_json() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.request('a"b\\c\nd', "", "REST", "OK", 1e-3)
    snapshot = json.loads(json.dumps(metrics.snapshot()))
    text = prometheus.render([snapshot, snapshot, Metrics().snapshot()])
    labels = {"model_name": 'a"b\\c\nd', "API": "", "entrypoint": "REST"}
    assert value(text, ":tensorflow:serving:request_latency_count", **labels) == 6
    assert value(text, ":tensorflow:serving:request_latency_sum", **labels) == 6000
    assert value(text, ":tensorflow:serving:request_latency_bucket", **labels, le="1102") == 6
    assert value(text, ":ladle:serving:processes") == 3


def many(models: int) -> Metrics:
    metrics = Metrics()
    for i in range(models):
        metrics.request(f"m{i}", "Predict", "GRPC", "OK", 1e-3, "serving_default")
        metrics.runtime(f"m{i}", "serving_default", 1e-3, 1)
        metrics.loaded(f"m{i}", 1, "OK", 0.2)
    return metrics


def test_a_scrape_of_hundreds_of_models_leaves_turns_to_requests() -> None:
    metrics = many(300)
    turns = 0

    async def answer_requests() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scrape() -> bytes:
        requests = asyncio.create_task(answer_requests())
        text = await prometheus.render_in_pieces([await metrics.snapshot_in_pieces()])
        requests.cancel()
        return text

    text = asyncio.run(scrape())
    assert turns > 100
    process = re.compile(rb"^process_.*$", re.MULTILINE)
    assert process.sub(b"", text) == process.sub(b"", prometheus.render([metrics.snapshot()]))


def test_histograms_without_a_sample_stay_out() -> None:
    snapshot = many(1).snapshot()
    empty = [0] * (len(LATENCY_LIMITS) + 2)
    snapshot["request_latency"].append([["idle", "Predict", "GRPC"], empty])
    text = prometheus.render([snapshot])
    assert b"idle" not in text
    assert b'm0",API="Predict"' in text


def test_the_start_is_that_of_the_oldest_process() -> None:
    snapshot = many(1).snapshot()
    started = snapshot["process_start_time"][0][1]
    assert time.time() - 3600 * 24 < started <= time.time()
    later = {**snapshot, "process_start_time": [[[], started + 60]]}
    text = prometheus.render([later, snapshot])
    assert value(text, "process_start_time_seconds") == pytest.approx(started, abs=1)


def test_made_up_model_names_do_not_grow_the_metrics_without_bound() -> None:
    metrics = Metrics()
    metrics.loaded("known", 1)
    for i in range(3 * MAX_REFUSED):
        metrics.request(f"made up {i}", "predict", "REST", "NOT_FOUND", 1e-4, f"signature {i}")
    metrics.request("known", "predict", "REST", "INVALID_ARGUMENT", 1e-4, "made up")
    text = prometheus.render([metrics.snapshot()])
    counts = {key: n for key, n in read(text).items() if key[0] == ":tensorflow:serving:request_count"}
    assert len(counts) == MAX_REFUSED + 2
    assert sum(counts.values()) == 3 * MAX_REFUSED + 1
    assert value(text, ":tensorflow:serving:request_count", model_name=OTHER, status="NOT_FOUND") == 2 * MAX_REFUSED
    assert value(text, ":tensorflow:serving:request_count", model_name="known", status="INVALID_ARGUMENT") == 1


def test_a_merged_run_counts_as_one_run_of_several_requests() -> None:
    metrics = Metrics()
    metrics.runtime("m", "s", 0.001, 1)
    metrics.runtime("m", "s", 0.002, 6, "Predict", [0.003, 0.004, 0.005])
    text = prometheus.render([metrics.snapshot()])
    upstream = {"model_name": "m", "API": "Predict", "runtime": "TF1"}
    assert value(text, ":tensorflow:serving:runtime_latency_count", **upstream) == 4
    assert value(text, ":tensorflow:serving:runtime_latency_sum", **upstream) == pytest.approx(13000)
    own = {"model_name": "m", "signature": "s", "API": "Predict"}
    assert value(text, ":ladle:serving:runtime_latency_count", **own) == 2
    assert value(text, ":ladle:serving:runtime_latency_sum", **own) == pytest.approx(3000)
    assert value(text, ":ladle:serving:row_count", **own) == 7


def test_a_snapshot_can_be_taken_while_requests_are_counted() -> None:
    metrics = Metrics()

    def count() -> None:
        for number in range(2000):
            metrics.request(f"m{number}", "Predict", "GRPC", "OK", 1e-4, "s")
            metrics.runtime(f"m{number}", "s", 1e-4, 1)
            metrics.queued(f"m{number}", 1)

    thread = threading.Thread(target=count)
    thread.start()
    sizes = []
    while thread.is_alive():
        sizes.append(len(metrics.snapshot()["own_queue_depth"]))
    thread.join()
    assert sizes == sorted(sizes)
    assert len(metrics.snapshot()["own_queue_depth"]) == 2000


def test_versions_can_load_while_requests_for_unknown_models_are_counted() -> None:
    metrics = Metrics()
    for version in range(2000):
        metrics.loaded("m", version)
    is_done = threading.Event()

    def load() -> None:
        version = 2000
        while not is_done.is_set():
            metrics.loaded("m", version := version + 1)

    before = sys.getswitchinterval()
    loading = threading.Thread(target=load)
    try:
        sys.setswitchinterval(1e-6)
        loading.start()
        for n in range(30):
            metrics.request(f"nope{n}", "Predict", "GRPC", "NOT_FOUND", 1e-3)
    finally:
        sys.setswitchinterval(before)
        is_done.set()
        loading.join()
    assert len(metrics.snapshot()["own_request_count"]) == 30


@pytest.mark.parametrize(("micros", "bucket"), [(0, 0), (10, 0), (10.1, 1), (18, 1), (1e12, 33)])
def test_a_latency_falls_in_the_bucket_of_the_next_limit(micros: float, bucket: int) -> None:
    metrics = Metrics()
    metrics.request("m", "Predict", "GRPC", "OK", micros / 1e6)
    cells = metrics.snapshot()["request_latency"][0][1]
    assert len(cells) == len(LATENCY_LIMITS) + 2
    assert cells[bucket] == 1


def test_loads_and_warm_ups_are_counted(tiny: Any, tmp_path: Path) -> None:
    metrics = Metrics()
    load = Loader(metrics=metrics)
    model = tiny.half_plus(2)
    log = pb.PredictionLog()
    tensors.fill(log.predict_log.request.inputs["x"], np.ones((2, 1), np.float32))
    model.warm_up = [log, log]
    good = model.write(tmp_path, 1)
    load("m", 1, good)
    log.predict_log.request.model_spec.signature_name = "missing"
    bad = model.write(tmp_path, 2)
    with pytest.raises(FailedPrecondition):
        load("m", 2, bad)
    text = prometheus.render([metrics.snapshot()])
    upstream, own = ":tensorflow:serving:model_warmup_", ":ladle:serving:"
    assert value(text, f"{upstream}latency_count", model_path=str(good), status="OK") == 1
    assert value(text, f"{upstream}records_read", model_path=str(good), status="OK") == 2
    assert value(text, f"{upstream}latency_count", model_path=str(bad), status="FAILED_PRECONDITION") == 1
    assert value(text, f"{own}load_latency_count", model_name="m", status="OK") == 1
    assert value(text, f"{own}load_latency_count", model_name="m", status="FAILED_PRECONDITION") == 1
    assert value(text, f"{own}loaded_version", model_name="m", version="1") == 1
    assert value(text, f"{own}loaded_version", model_name="m", version="2") is None


# Over a real server


@pytest.fixture(scope="module")
def monitored(serve: Any, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("monitoring") / "monitoring.config"
    file.write_text("prometheus_config { enable: true }")
    flags = [f"--monitoring_config_file={file}", "--enable_batching"]
    server = serve("--repository", tiny_repository, *flags, models=["half_plus_two"])
    yield server
    server.stop()


@pytest.fixture
def scrape(monitored: Any) -> Any:
    """Samples of the server's metrics now."""

    def get() -> dict[Any, float]:
        status, text = monitored.get(PATH)
        assert status == 200
        return read(text)

    return get


def test_calls_are_counted_as_in_tensorflow_serving(monitored: Any, scrape: Any, grpc_to: Any, refused: Any) -> None:
    before = scrape()
    model, spec = "half_plus_two", "/v1/models/half_plus_two"
    rows = b'{"instances": [[1.0], [2.0]]}'
    examples = b'{"signature_name": "regress_x", "examples": [{"x": 2.0}]}'
    classes = b'{"signature_name": "classify_x", "examples": [{"x": 2.0}]}'
    assert [
        monitored.send("POST", f"{spec}:predict", rows)[0],
        monitored.send("POST", f"{spec}:regress", examples)[0],
        monitored.send("POST", f"{spec}:classify", classes)[0],
        monitored.get(spec)[0],
        monitored.get(f"{spec}/metadata")[0],
        monitored.send("POST", f"{spec}:predict", b"{}")[0],
        monitored.send("POST", "/v1/models/nope:predict", b"{}")[0],
        monitored.get("/v1/nothing")[0],
        monitored.get("/v2/health/live")[0],
    ] == [200, 200, 200, 200, 200, 400, 404, 400, 200]
    grpc = grpc_to(monitored)
    grpc.predict(model, {"x": np.ones((3, 1), np.float32)})
    grpc.classify(model, [{"x": [1.0]}], "classify_x")
    grpc.regress(model, [{"x": [1.0]}], "regress_x")
    grpc.status(model)
    grpc.metadata(model)
    with pytest.raises(refused):
        grpc.predict(model, {"x": np.ones((3, 1), np.float32)}, "missing")
    after = scrape()
    grown = {
        (name.removeprefix(":tensorflow:serving:"), *sorted(dict(labels).values())): number - before.get(key, 0)
        for key, number in after.items()
        for name, labels in [key]
        if name.startswith(":tensorflow:serving:r")
        and not name.endswith(("_bucket", "_sum"))
        and number != before.get(key, 0)
    }
    assert grown == {
        ("request_count", "OK", model): 8,  # REST: three inferences, status, metadata; gRPC: three inferences
        ("request_count", "INVALID_ARGUMENT", model): 1,
        ("request_count", "FAILED_PRECONDITION", model): 1,
        ("request_count", "NOT_FOUND", "nope"): 1,
        ("request_count", "", "INVALID_ARGUMENT"): 1,
        **{("request_latency_count", *sorted(("REST", model, api))): 1 for api in ("predict", "classify", "regress")},
        **{("request_latency_count", *sorted(("GRPC", model, api))): 1 for api in ("Predict", "Classify", "Regress")},
        ("request_latency_count", "", "REST", model): 2,
        **{("runtime_latency_count", api, "TF1", model): 2 for api in ("Predict", "Classify", "Regress")},
    }


def test_own_metrics_have_signature_protocol_and_rows(monitored: Any, scrape: Any, grpc_to: Any) -> None:
    before = scrape()
    grpc = grpc_to(monitored)
    grpc.regress("half_plus_two", [{"x": [1.0]}] * 5, "regress_x")
    grpc.status("half_plus_two")
    monitored.send("POST", "/v1/models/half_plus_two:predict", b'{"inputs": [[1.0], [2.0]]}')
    after = scrape()

    def grown(name: str, **labels: str) -> float:
        key = (f":ladle:serving:{name}", frozenset({"model_name": "half_plus_two", **labels}.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    regress = {"signature": "regress_x", "API": "Regress"}
    predict = {"signature": "serving_default", "API": "predict", "entrypoint": "REST"}
    assert grown("request_count", **regress, entrypoint="GRPC", status="OK") == 1
    assert grown("request_latency_count", **predict) == 1
    assert grown("request_count", signature="", API="GetModelStatus", entrypoint="GRPC", status="OK") == 1
    assert grown("row_count", **regress) == 5
    assert grown("row_count", signature="serving_default", API="Predict") == 2
    assert after[":ladle:serving:loaded_version", frozenset({"model_name": "half_plus_two", "version": "1"}.items())]
    assert after["process_resident_memory_bytes", frozenset()] > 2**20
    assert after["process_cpu_seconds_total", frozenset()] >= before["process_cpu_seconds_total", frozenset()] > 0


def test_batches_are_counted(monitored: Any, scrape: Any) -> None:
    def session(samples: dict[Any, float], name: str, **labels: str) -> float:
        return samples.get((f":tensorflow:serving:batching_session:{name}", frozenset(labels.items())), 0)

    before = scrape()
    monitored.send("POST", "/v1/models/half_plus_two:predict", b'{"inputs": [[1.0], [2.0], [3.0]]}')
    after = scrape()
    pool = {"thread_pool_name": "model_server_batch_threads"}
    for name, labels, grown in (
        ("input_batch_size_sum", {}, 3),
        ("processed_batch_size_count", {}, 1),
        ("wrapped_run_count", {}, 1),
        ("queuing_latency_count", pool, 1),
        ("padding_size_count", {"execution_batch_size": "3"}, 1),
    ):
        assert session(after, name, **labels) - session(before, name, **labels) == grown, name


def test_a_head_request_gets_the_head_of_the_page(monitored: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", monitored.rest_port, timeout=30)
    connection.request("HEAD", PATH)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000
    connection.close()


def test_a_query_string_is_refused_in_tensorflow_servings_words(monitored: Any) -> None:
    assert monitored.get(f"{PATH}?x=1") == (400, f"Unexpected path: {PATH}?x=1. Should be {PATH}".encode())
    assert monitored.send("POST", PATH, b"")[0] == 404


def test_without_a_monitoring_config_there_are_no_metrics(tiny_server: Any) -> None:
    status, body = tiny_server.get(PATH)
    assert status == 404
    assert body.startswith(b"<html>")


@pytest.mark.parametrize(
    ("config", "flag", "path", "status"),
    [
        ('prometheus_config { enable: true path: "/numbers" }', "", "/numbers", 200),
        ('prometheus_config { enable: false path: "/numbers" }', "", "/numbers", 404),
        (None, "--enable_metrics", PATH, 200),
        (None, "--enable_metrics --metrics_path=/metrics", "/metrics", 200),
        ("prometheus_config { enable: true }", "--metrics_path=/metrics", "/metrics", 200),
    ],
    ids=["a path", "disabled", "our flag", "our path", "our path beside a file without one"],
)
def test_the_config_turns_metrics_on_and_sets_their_path(
    serve: Any, tmp_path: Path, config: str | None, flag: str, path: str, status: int
) -> None:
    flags = flag.split()
    if config is not None:
        (tmp_path / "monitoring.config").write_text(config)
        flags.append(f"--monitoring_config_file={tmp_path / 'monitoring.config'}")
    (tmp_path / "models").mkdir()
    server = serve("--repository", tmp_path / "models", *flags)
    assert server.get(path)[0] == status
    assert status == 404 or path == PATH or server.get(PATH)[0] == 404
    assert server.stop() == 0
