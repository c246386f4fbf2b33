"""`ladle bench`: load on a real server, and a stall in an open loop."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ladle.clients.cli.__main__ import main
from ladle.clients.cli.latency_chart import chart
from ladle.clients.cli.load_generator import Measured, Plan, made_up, measure
from ladle.clients.errors import Unavailable
from ladle.clients.library.async_client import AsyncClient
from ladle.clients.transport.metadata import Signature, TensorInfo


def test_both_protocols_are_measured_and_drawn(
    tiny_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = ["--address", f"127.0.0.1:{tiny_server.grpc_port}"]
    ports += ["--rest-address", f"http://127.0.0.1:{tiny_server.rest_port}"]
    times = ["--seconds", "0.5", "--warm-up", "0.1", "--output", str(tmp_path / "b.png")]
    given = ["bench", "half_plus_two", "--protocol", "both", "--rate", "100", *ports, *times]
    assert main([*given, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [row["protocol"] for row in results] == ["grpc", "rest"]
    for row in results:
        assert row["answered"] == pytest.approx(50, abs=1)
        assert row["errors"] == {}
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert Image.open(tmp_path / "b.png").size == (1120, 460)
    assert main(given) == 0
    assert "ANSWERED" in capsys.readouterr().out


def test_a_closed_loop_keeps_so_many_requests_open(tiny_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    address = ["--address", f"http://127.0.0.1:{tiny_server.rest_port}"]
    given = ["bench", "half_plus_two", "--connections", "3", "--seconds", "0.3", "--warm-up", "0.1", *address]
    assert main([*given, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["results"]
    assert row["answered"] > 3
    assert row["per_second"] == pytest.approx(row["answered"] / 0.3, rel=0.5)


class Stalling:
    """A transport that holds every answer until a moment, and refuses each tenth request."""

    def __init__(self, until_s: float) -> None:
        self.protocol = AsyncClient("grpc://localhost:1").transport.protocol
        self._until, self._asked = time.perf_counter() + until_s, 0

    async def send(self, step: Any) -> Any:
        self._asked += 1
        if self._asked % 10 == 0:
            raise Unavailable("full")
        # No answer before the end of the stall.
        await asyncio.sleep(max(0.0, self._until - time.perf_counter()))
        return b""


def test_an_open_loop_counts_the_wait_behind_a_stall_and_errors_by_code() -> None:
    async def load() -> Measured:
        stalling: Any = Stalling(0.5)
        return await measure(stalling, b"", Plan(seconds=0.5, warm_up_s=0.0, timeout_s=5, rate=200))

    measured = asyncio.run(load())
    assert measured.errors == {"UNAVAILABLE": 10}
    assert len(measured.latency_s) == 90
    # Each waited from when it was due to the end of the stall. A closed loop would have seen one slow request.
    for at_s, latency_s in zip(measured.at_s, measured.latency_s, strict=True):
        assert latency_s > 0.49 - at_s
    assert sum(latency_s > 0.25 for latency_s in measured.latency_s) >= 40


def test_a_wrong_request_fails_before_the_load_starts(tiny_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    address = ["--address", f"grpc://127.0.0.1:{tiny_server.grpc_port}"]
    assert main(["bench", "half_plus_two", "--input", "x=[[1, 2]]", *address]) == 1
    assert 'half_plus_two: input "x": got float32 [1, 2]; expected float32 [?, 1]' in capsys.readouterr().err
    assert main(["bench", "nobody", *address]) == 1
    assert "nobody is not served; the server has classifier" in capsys.readouterr().err


def test_inputs_are_made_up_from_the_signature() -> None:
    inputs = {
        "image": TensorInfo("float32", (None, 28, None, 1)),
        "n": TensorInfo("int32", ()),
        "text": TensorInfo("string", (None,)),
        "image_bytes": TensorInfo("string", (None,)),
    }
    made = made_up(Signature(inputs, {}, ""), batch=2, size=16)
    assert (made["image"].shape, made["image"].dtype) == ((2, 28, 16, 1), np.float32)
    assert made["n"].tolist() == 1
    assert [len(made["text"]), made["image_bytes"][0][:4]] == [2, b"\x89PNG"]


def test_a_chart_is_drawn_of_whatever_came_back() -> None:
    few = Measured([0.1], [0.02], {}, 0.2)
    none = Measured([], [], {"UNAVAILABLE": 3}, 1.0)
    for results in ({"grpc": few}, {"grpc": none}, {"grpc": few, "rest": none}):
        picture = chart(results, "a title")
        assert len(picture.getcolors(1 << 20)) > 8
