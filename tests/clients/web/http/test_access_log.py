"""Ids, times, log lines and metrics of requests."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from ladle.clients.web import Config, create_app

TEXT = {"text": "a good film"}
URL = "/api/v1/models/sentiment_lstm:sentiment"


def test_a_callers_id_is_kept_and_repeated_in_errors(web: FlaskClient) -> None:
    response = web.post(URL, json={}, headers={"X-Request-ID": "trace-7"})
    assert response.headers["X-Request-ID"] == "trace-7"
    assert response.json["request_id"] == "trace-7"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "\u00fc"])
def test_an_id_that_could_disturb_a_log_is_replaced(web: FlaskClient, given: str) -> None:
    made = web.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_two_requests_have_two_ids(web: FlaskClient) -> None:
    assert web.get("/healthz").headers["X-Request-ID"] != web.get("/healthz").headers["X-Request-ID"]


def test_server_timing_has_the_model_servers_time_and_the_total(web: FlaskClient) -> None:
    response = web.post(URL, json=TEXT)
    model, total = (float(part) for part in re.findall(r"dur=([0-9.]+)", response.headers["Server-Timing"]))
    assert 0 < model <= total
    assert response.json["server_ms"] == pytest.approx(model, abs=0.002)


def test_the_access_log_has_a_line_of_json_for_each_request(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    web = create_app(replace(config, access_log=True, keys=("ann first",))).test_client()
    access = logging.getLogger("ladle.gateway.access")
    access.addHandler(caplog.handler)
    try:
        web.post(URL, json=TEXT, headers={"X-API-Key": "first", "X-Request-ID": "trace-8"})
    finally:
        access.removeHandler(caplog.handler)
    line = json.loads(caplog.messages[-1])
    assert line["request_id"] == "trace-8"
    assert (line["method"], line["path"], line["status"]) == ("POST", URL, 200)
    assert (line["model"], line["verb"], line["key"]) == ("sentiment_lstm", "sentiment", "ann")
    assert line["model_ms"] <= line["ms"]
    assert "good film" not in caplog.messages[-1]


def test_metrics_count_by_route_and_never_by_address(web: FlaskClient) -> None:
    web.post(URL, json=TEXT)
    web.post("/api/v1/models/made-up:classify", data=b"x", content_type="image/png")
    web.get("/made-up")
    text = web.get("/metrics").get_data(as_text=True)
    assert 'model="sentiment_lstm",route="/api/v1/models/<model:name>:sentiment"' in text.replace(
        'method="POST",', ""
    ).replace(',status="200"', "")
    assert 'ladle_gateway_model_duration_seconds_count{model="sentiment_lstm",verb="sentiment"} 1.0' in text
    assert "made-up" not in text


def test_metrics_name_the_model_of_a_request_for_one_version(web: FlaskClient) -> None:
    assert web.post(URL, json={**TEXT, "version": 3}).json["version"] == 3
    assert web.post(f"{URL}?version=4", json=TEXT).status_code == 404
    web.post("/api/v1/models/made-up:sentiment?version=3", json=TEXT)
    text = web.get("/metrics").get_data(as_text=True)
    counted = [line for line in text.splitlines() if line.startswith("ladle_gateway_requests_total{")]
    assert sorted(re.findall(r'model="([^"]*)",.*status="([0-9]*)"', "\n".join(counted))) == [
        ("", "404"),
        ("sentiment_lstm", "200"),
        ("sentiment_lstm", "404"),
    ]


def test_each_application_counts_for_itself(config: Config) -> None:
    first, second = (create_app(config).test_client() for _ in range(2))
    first.post(URL, json=TEXT)
    assert "sentiment_lstm" in first.get("/metrics").get_data(as_text=True)
    assert "sentiment_lstm" not in second.get("/metrics").get_data(as_text=True)
