"""The service view: figures from Prometheus metrics."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from ladle.clients.library.client import Client
from ladle.clients.web import Config, create_app, service
from ladle.clients.web.service import Counts, Source, quantile

SERVED = """
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{model_name="lenet5",status="OK"} 97
:tensorflow:serving:request_count{model_name="lenet5",status="NOT_FOUND"} 10
# TYPE :tensorflow:serving:request_latency histogram
:tensorflow:serving:request_latency_bucket{model_name="lenet5",API="Predict",entrypoint="GRPC",le="1000"} 45
:tensorflow:serving:request_latency_bucket{model_name="lenet5",API="Predict",entrypoint="GRPC",le="2000"} 90
:tensorflow:serving:request_latency_bucket{model_name="lenet5",API="Predict",entrypoint="GRPC",le="+Inf"} 90
:tensorflow:serving:request_latency_count{model_name="lenet5",API="Predict",entrypoint="GRPC"} 90
:tensorflow:serving:request_latency_bucket{model_name="lenet5",API="",entrypoint="REST",le="1000"} 7
:tensorflow:serving:request_latency_count{model_name="lenet5",API="",entrypoint="REST"} 7
# TYPE :ladle:serving:row_count counter
:ladle:serving:row_count{model_name="lenet5",signature="serving_default",API="Predict"} 300
# TYPE :ladle:serving:runtime_latency histogram
:ladle:serving:runtime_latency_count{model_name="lenet5",signature="serving_default",API="Predict"} 60
"""


def test_the_model_servers_text_is_read() -> None:
    counts = service.parse_server(SERVED)["lenet5"]
    assert (counts.requests, counts.errors) == (100, 10)
    assert counts.buckets == {1.0: 45, 2.0: 90, float("inf"): 90}
    assert (counts.rows, counts.runs) == (300, 60)


def test_a_quantile_lies_within_its_bucket() -> None:
    counts = Counts(buckets={1.0: 45, 2.0: 90, float("inf"): 90})
    assert quantile(Counts(), counts, 0.5) == pytest.approx(1.0)
    assert quantile(Counts(), counts, 0.75) == pytest.approx(1.5)
    assert quantile(counts, counts, 0.5) is None
    assert quantile(Counts(), Counts(buckets={1.0: 0, float("inf"): 5}), 0.5) == 1.0


def test_rates_are_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now, requests = 100.0, 40.0
    monkeypatch.setattr(service.time, "monotonic", lambda: now)
    source = Source(lambda: {"lenet5": Counts(requests=requests)})
    assert source.figures()["requests_per_second"] is None
    now, requests = 105.0, 90.0
    figures = source.figures()
    assert (figures["window_s"], figures["requests"], figures["requests_per_second"]) == (5.0, 90, 10.0)
    now, requests = 110.0, 5.0  # the server was started anew
    assert source.figures()["requests_per_second"] == pytest.approx(0.5)
    now = 200.0
    assert source.figures()["requests_per_second"] is None


def test_after_a_failed_scrape_waiting_requests_do_not_scrape_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 100.0, []
    monkeypatch.setattr(service.time, "monotonic", lambda: now)

    def scrape() -> service.Scrape:
        asked.append(now)
        raise TimeoutError("no answer")

    source = Source(scrape)
    for now in (100.0, 100.1, 103.0):  # noqa: B007  (the clock reads it)
        with pytest.raises(TimeoutError):
            source.figures()
    assert asked == [100.0, 103.0]


def test_the_service_shows_the_gateways_own_figures(web: FlaskClient) -> None:
    for _ in range(3):
        web.post("/api/v1/models/sentiment_lstm:sentiment", json={"text": "a good film"})
    web.post("/api/v1/models/sentiment_lstm:sentiment", json={"text": " "})
    answer = web.get("/api/v1/service").json
    assert answer["ready"] is True
    assert answer["server"] is None
    assert "--rest" in answer["note"]
    [model] = answer["gateway"]["models"]
    assert (model["name"], model["requests"], model["errors"]) == ("sentiment_lstm", 4, 1)
    assert {entry["name"]: entry["version"] for entry in answer["models"]}["lenet5"] == 3


@pytest.mark.parametrize("address", ["http://localhost:1", "http://localhost:x", "nonsense", "http://{grpc}"])
def test_the_service_says_that_metrics_cannot_be_read(config: Config, server: Any, address: str) -> None:
    there = replace(config, rest=address.format(grpc=server.grpc))
    answer = create_app(there).test_client().get("/api/v1/service").json
    assert answer["server"] is None
    assert answer["note"] == "The model server's metrics cannot be read."


def test_the_service_says_that_metrics_are_off(config: Config, server: Any) -> None:
    answer = create_app(replace(config, rest=server.rest)).test_client().get("/api/v1/service").json
    assert "Got status 404 instead of metrics" in answer["note"]
    assert "--enable_metrics" in answer["note"]


@pytest.fixture
def private(certificates: Path) -> Iterator[str]:
    """The address of metrics behind a certificate of a private CA and a key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(SERVED.encode() if known else b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("ca", "requests"), [("ca.crt", 100), ("other.crt", None)])
def test_metrics_are_read_with_the_model_servers_credentials(
    private: str, certificates: Path, ca: str, requests: int | None
) -> None:
    config = Config(server=private, rest=private, ca=certificates / ca, server_key="secret")
    answer = create_app(config).test_client().get("/api/v1/service").json
    assert (answer["server"] or {}).get("requests") == requests
    assert (answer["note"] is None) == (requests is not None)


def test_the_model_servers_key_goes_to_no_other_host() -> None:
    assert Config("grpc://a:8500").metrics_url == "http://a:8501/monitoring/prometheus/metrics"
    assert Config("grpc://[::1]:8500").rest_url == "http://[::1]:8501"
    assert Config("http://a:9000/below").rest_url == "http://a:9000/below"
    for unknown in ("grpc://a:9000", "grpc://a:8500,b:8500", "grpcs://a:8500"):
        assert Config(unknown).metrics_url is None
    config = Config("grpc://a:8500,b:8500", "secret", rest="http://c:8501/below")
    assert replace(config, monitoring_url="http://b:9000/metrics").metrics_key == "secret"
    assert config.metrics_key == "secret"
    assert replace(config, monitoring_url="http://prometheus/metrics").metrics_key is None


def test_the_service_shows_the_model_servers_figures(
    serve: Callable[..., Any], tiny_repository: Path, config: Config
) -> None:
    server = serve("--repository", tiny_repository, "--enable_metrics", models=["half_plus_two"])
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        for _ in range(5):
            client.predict("half_plus_two", {"x": np.ones((2, 1), np.float32)})
    there = replace(
        config,
        server=f"grpc://127.0.0.1:{server.grpc_port}",
        rest=f"http://127.0.0.1:{server.rest_port}",
        repository=None,
        models=("half_plus_two",),
    )
    answer = create_app(there).test_client().get("/api/v1/service").json
    assert answer["note"] is None
    model = {entry["name"]: entry for entry in answer["server"]["models"]}["half_plus_two"]
    assert (model["requests"], model["errors"], model["batch_size"]) == (5, 0, 2.0)
    assert answer["rest"] == there.rest
