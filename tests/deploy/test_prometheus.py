"""Debian's Prometheus with our configuration scrapes a server and a gateway: each rule and each query has values."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]]
UPSTREAM_ONLY = "TensorFlow Serving only."
KEY = "9f2b7c1e4d"
DEADLINE_S = 120.0
pytestmark = pytest.mark.deploy


def queries() -> Iterator[tuple[str, str]]:
    """The name and the query of each recording rule and of each panel that the embedded server can fill."""
    for rule in RULES:
        if "record" in rule:
            yield rule["record"], rule["record"]
    for file in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            if UPSTREAM_ONLY in panel.get("description", ""):
                continue
            for target in panel.get("targets", ()):
                query = re.sub(r"\$(instance|model)\b", ".*", target["expr"].replace("$__rate_interval", "1m"))
                yield f"{file.stem}: {panel['title']}", query


class Prometheus:
    """A running Prometheus and its API."""

    def __init__(self, port: int, log: Path) -> None:
        self.url, self.log = f"http://127.0.0.1:{port}", log

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, query: str) -> list[float]:
        return [float(found["value"][1]) for found in self.get("/api/v1/query", query=query)["result"]]


def wait_for(reached: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            if found := reached():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not reached:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def processes() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes with a log; they end with the tests."""
    started = []

    def start(command: list[Any], log: Path, **env: str) -> subprocess.Popen[bytes]:
        with log.open("wb") as file:
            process = subprocess.Popen(
                list(map(str, command)), cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **env}
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The embedded server with the container's monitoring file, batching, and a model with a warm-up request."""
    home = tmp_path_factory.mktemp("models")
    log = pb.PredictionLog()
    tensors.fill(log.predict_log.request.inputs["x"], np.ones((2, 1), np.float32))
    model = tiny.half_plus(2)
    model.warm_up = [log]
    model.write(home / "half_plus_two", 1)
    tiny.image_classifier().write(home / "classifier", 1)
    config = ROOT / "serving" / "config_writer" / "monitoring.config"
    flags = [f"--monitoring_config_file={config}", "--enable_batching"]
    return serve("--repository", home, *flags, models=["half_plus_two", "classifier"])


@pytest.fixture(scope="module")
def gateway(server: Any, tiny: Any, processes: Any, tmp_path_factory: pytest.TempPathFactory) -> int:
    port, log = tiny.free_port(), tmp_path_factory.mktemp("gateway") / "log"
    address = f"grpc://127.0.0.1:{server.grpc_port}"
    command = [sys.executable, "-m", "ladle.clients.web", "--port", port, "--server", address, "--models", "classifier"]
    processes(command, log, LADLE_GATEWAY_KEYS=f"prometheus {KEY}")
    url = f"http://127.0.0.1:{port}/healthz"
    wait_for(lambda: urllib.request.urlopen(url, timeout=5).status == 200, log)
    return int(port)


@pytest.fixture(scope="module")
def prometheus(
    server: Any, gateway: int, tiny: Any, processes: Any, tmp_path_factory: pytest.TempPathFactory
) -> Prometheus:
    """Our configuration, with the services' names and the intervals replaced."""
    binary = shutil.which("prometheus")
    if not binary:
        pytest.skip("prometheus is not installed: Debian's package prometheus has it")
    home = tmp_path_factory.mktemp("prometheus")
    text = (MONITORING / "prometheus.yml").read_text()
    for service, port in (("server:8501", server.rest_port), ("gateway:8080", gateway)):
        assert text.count(f'"{service}"') == 1
        text = text.replace(f'"{service}"', f'"127.0.0.1:{port}"')
    text = text.replace('"tensorflow-serving:8501"', f'"127.0.0.1:{tiny.free_port()}"')
    (home / "prometheus.yml").write_text(re.sub(r"_interval: \w+", "_interval: 1s", text))
    shutil.copy(MONITORING / "rules.yml", home)
    (home / "gateway.credentials").write_text(f"{KEY}\n")
    port = tiny.free_port()
    command = [binary, f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'data'}"]
    processes([*command, f"--web.listen-address=127.0.0.1:{port}"], home / "log")
    running = Prometheus(port, home / "log")
    wait_for(lambda: len(running.values("up == 1")) == 2, home / "log")
    return running


def ask(server: Any, gateway: int) -> None:
    """Requests over REST and to the gateway, one of them wrong."""
    body = b'{"instances": [[1.0], [2.0]]}'
    assert server.send("POST", "/v1/models/half_plus_two:predict", body)[0] == 200
    assert server.send("POST", "/v1/models/half_plus_two:predict", b'{"instances": [["a"]]}')[0] == 400
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    url = f"http://127.0.0.1:{gateway}/api/v1/models/classifier:classify"
    request = urllib.request.Request(url, file.getvalue(), {"Content-Type": "image/png", "X-API-Key": KEY})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(("name", "query"), [pytest.param(*q, id=q[0]) for q in queries()])
def test_every_rule_and_every_panel_has_values(
    name: str, query: str, prometheus: Prometheus, server: Any, gateway: int
) -> None:
    def answered() -> bool:
        ask(server, gateway)  # a rate needs traffic between two scrapes
        return any(map(math.isfinite, prometheus.values(query)))

    wait_for(answered, prometheus.log)


def test_prometheus_evaluates_every_rule_and_no_alert_fires(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert {rule["health"] for rule in rules} == {"ok"}
    alerts = prometheus.get("/api/v1/alerts")["alerts"]
    assert [alert["labels"] for alert in alerts if alert["state"] == "firing"] == []
