"""The parsers of wrk's and h2load's output, and the request bodies against a real server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.requests import load, payloads
from benchmarks.requests.load import LoadError, Target

WRK = """\
Running 1s test @ http://127.0.0.1:18501/v1/models/lenet5:predict
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    17.40ms   30.97ms 201.42ms   89.62%
    Req/Sec     2.12k     1.05k    3.89k    66.67%
  6345 requests in 3.06s, 2.51MB read
  Non-2xx or 3xx responses: 5
Requests/sec:   2074.65
Transfer/sec:    838.78KB

SUMMARY {"requests": 6345, "us": 3058350, "bytes": 2626830, "errors": 5, "p50": 6003, "p99": 162663}
"""
H2LOAD = """\
starting benchmark...
progress: 100% of clients started
Application protocol: h2c
Main benchmark duration is over for thread #0. Stopping all clients.

finished in 2.50s, 100.80 req/s, 28.22KB/s
requests: 253 total, 253 started, 253 done, 252 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 252 2xx, 0 3xx, 1 4xx, 0 5xx
traffic: 70.55KB (72246) total, 906B (906) headers (space savings 95.56%), 55.62KB (56952) data
                     min         max         mean         sd        +/- sd
time for request:     1.01ms     34.09ms      2.50ms      3.73ms    93.65%
"""
H2LOAD_LOG = """\
1795407018396489\t200\t2811
1795407018396405\t200\t3280
1795407018396408\t404\t90000
1795407018396410\t200\t1010
"""


def test_wrk_output_gives_rate_latency_and_errors() -> None:
    seen = load.parse_wrk(WRK)
    assert (seen.requests, seen.errors) == (6340, 5)
    assert seen.per_second == pytest.approx(6340 / 3.05835)
    assert (seen.p50_ms, seen.p99_ms) == (6.003, 162.663)
    assert seen.size_bytes == 414


def test_h2load_output_gives_rate_errors_and_latency_of_answered_requests() -> None:
    seen = load.parse_h2load(H2LOAD, H2LOAD_LOG)
    assert (seen.requests, seen.errors) == (252, 1)
    assert seen.per_second == pytest.approx(100.8)
    assert seen.size_bytes == 226
    assert (seen.p50_ms, seen.p99_ms) == (2.811, 3.28)


@pytest.mark.parametrize("text", ["", "h2load: error: unable to connect", WRK.split("SUMMARY")[0]])
def test_output_without_figures_is_refused(text: str) -> None:
    with pytest.raises(LoadError, match="no summary"):
        load.parse_wrk(text)
    with pytest.raises(LoadError, match="no summary"):
        load.parse_h2load(text, "")


def test_a_real_server_answers_the_bodies_correctly(tiny_server: Any) -> None:
    given, expected = np.array([[0.5], [3.0]], np.float32), np.array([[2.25], [3.5]], np.float32)
    content = payloads.post(tiny_server.rest_port, "/v1/models/half_plus_two:predict", payloads.rest_predict(given))
    payloads.check_json(content, expected)
    message = payloads.call(tiny_server.grpc_port, payloads.PREDICT, payloads.grpc_predict("half_plus_two", "x", given))
    payloads.check_predict(message, expected)
    for check, answer in ((payloads.check_json, content), (payloads.check_predict, message)):
        with pytest.raises(payloads.WrongAnswerError):
            check(answer, expected + 1)


@pytest.mark.parametrize("grpc", [True, False], ids=["grpc", "rest"])
def test_a_load_counts_the_answers_of_a_server(grpc: bool, tiny_server: Any, tmp_path: Path) -> None:
    if missing := [program for program in load.PACKAGES if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    given = np.array([[0.5]], np.float32)
    body = tmp_path / "body"
    if grpc:
        body.write_bytes(payloads.frame(payloads.grpc_predict("half_plus_two", "x", given)))
        target = Target(tiny_server.grpc_port, payloads.PREDICT, body, grpc=True)
    else:
        body.write_bytes(payloads.rest_predict(given))
        target = Target(tiny_server.rest_port, "/v1/models/half_plus_two:predict", body, grpc=False)
    seen = load.steady(target, per_second=40, seconds=0.5, connections=2)
    assert not seen.errors
    assert 0 < seen.p50_ms <= seen.p99_ms
    assert 10 <= seen.requests <= 30
    assert seen.size_bytes > 16


def test_an_empty_answer_reveals_a_grpc_error(tiny_server: Any, tmp_path: Path) -> None:
    if shutil.which("h2load") is None:
        pytest.skip("h2load is not installed")
    from benchmarks.throughput import check

    body = tmp_path / "body"
    body.write_bytes(payloads.frame(payloads.grpc_predict("no_such_model", "x", np.zeros([1, 1], np.float32))))
    seen = load.steady(Target(tiny_server.grpc_port, payloads.PREDICT, body, grpc=True), 40, 0.3, connections=1)
    with pytest.raises(LoadError, match="got answers of 0 bytes"):
        check(seen)
