"""Real requests: their figures as rows, and the step to which a line of the server belongs."""

from __future__ import annotations

import dataclasses
import io
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from benchmarks.profiling import steps
from benchmarks.real import measuring, page, servers, workloads
from benchmarks.requests.load import Load, LoadError
from benchmarks.servers import limit
from tests.tiny_models import onnx_model


def load(per_second: float, p50_ms: float = 1.0) -> Load:
    return Load(int(per_second), 0, 1.0, 400.0, p50_ms, 2.0)


def row() -> measuring.Row:
    found = measuring.Row("a picture", [load(90), load(50)], [load(10, 12.0), load(10, 12.5)], [300.0, 500.0])
    found.limit_many, found.limit_one = [100.0, 100.0], [100.0, 100.0]
    found.rivals = {"slow": [10.0, 10.0], "fast": [30.0, 30.0]}
    return found


def test_a_row_compares_with_the_limit_and_the_fastest_rival_of_the_same_round() -> None:
    assert row().share == pytest.approx(0.7)
    assert row().over_ms == pytest.approx(2.25)
    assert row().best_rival == ("fast", pytest.approx((3.0 + 5 / 3) / 2))
    text = page.markdown([row(), measuring.Row("not measured", failures={"Ladle": "ended with 1:\nno"})])
    assert "| a picture | 100 | 70 | 70% | 400 | 10.00 | 12.25 | 2.25 |" in text
    assert "| request | slow | fast | Ladle | over the best |" in text
    assert "| a picture | 10 | 30 | 70 | 2.3× fast |" in text
    assert "| not measured | — |" in text
    assert "Left out: not measured: Ladle: ended with 1: no" in text


def test_a_caller_who_waits_less_than_the_engine_takes_is_within_the_noise() -> None:
    found = row()
    found.limit_one = [50.0, 50.0]
    assert "| 20.00 | 12.25 | -7.75, within the noise |" in page.markdown([found])


def test_the_limit_computes_the_outputs_that_it_is_given(tmp_path: Path) -> None:
    tensors: dict[str, tuple[str, list[int]]] = {name: ("float32", [-1, 2]) for name in ("x", "y", "z")}
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])]
    graph = onnx_model(nodes, {"x": tensors.pop("x")}, tensors)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    given = {"x": np.zeros((1, 2), np.float32)}
    for outputs in ((), ("z",)):
        with servers.Limit(tmp_path / "model.onnx", given, tmp_path, outputs) as alone:
            assert min(alone.measure(0.05)) > 0
    with (
        servers.Limit(tmp_path / "model.onnx", given, tmp_path, ("other",)) as alone,
        pytest.raises(LoadError, match="expected it to run the graph"),
    ):
        alone.measure(0.05)


@pytest.mark.parametrize("threads", [1, 2], ids=["one", "two"])
def test_every_call_asks_for_the_outputs(threads: int) -> None:
    asked: list[object] = []
    session = SimpleNamespace(run=lambda outputs, feed: asked.append(outputs))
    limit.many(session, {}, ["class_map"], 0.01, threads)
    limit.many(session, {}, [], 0.01, threads)
    assert {tuple(each) if isinstance(each, list) else each for each in asked} == {("class_map",), None}


def test_a_load_that_was_partly_refused_is_no_figure() -> None:
    whole = load(10)
    measuring.check_answered(whole, whole)
    with pytest.raises(LoadError, match=r"got 25% of the answers.* with many connections; expected all"):
        measuring.check_answered(dataclasses.replace(whole, size_bytes=100.0), whole)


def test_the_photograph_is_a_jpeg_of_the_size_of_one() -> None:
    found = workloads.photograph()
    assert Image.open(io.BytesIO(found)).size == (500, 375)
    assert 20_000 < len(found) < 150_000


@pytest.fixture(scope="module")
def every() -> list[workloads.Workload]:
    """All workloads. Making their requests takes seconds."""
    return list(workloads.workloads())


def test_workloads_that_share_rivals_stand_together_and_have_one_model(every: list[workloads.Workload]) -> None:
    groups = [list(group) for _, group in groupby(every, key=lambda workload: workload.rivals)]
    assert len({group[0].rivals for group in groups}) == len(groups)
    assert all(len({(workload.model, workload.outputs) for workload in group}) == 1 for group in groups)
    assert all(group[0].rivals.body or group[0].rivals.v2 for group in groups)


def test_every_workload_has_a_name_of_its_own_and_a_request(every: list[workloads.Workload]) -> None:
    assert len({workload.key for workload in every}) == len(every)
    assert {workload.model for workload in every} <= {*workloads.NAMES, workloads.MEANS}
    assert all(workload.body and all(np.asarray(x).size for x in workload.inputs.values()) for workload in every)


@pytest.mark.parametrize(
    ("file", "function", "line", "step"),
    [
        ("serving/servables/engines/onnx.py", "run", "answers = plan.graph.call(from_graph, feed, None)", "run"),
        ("serving/rest/json/numbers.py", "write", "return text", "encode"),
        ("serving/rest/json/response.py", "write_tensor", "out.write(text)", "encode"),
        ("serving/rest/open_inference/response.py", "write", "parts.append(head)", "encode"),
        ("serving/rest/open_inference/request.py", "parse", "head = loads(body)", "decode"),
        ("serving/grpc/predict_request.py", "read", "message = payload", "decode"),
        ("serving/scheduling/scheduler.py", "run", "if self._queued:", "queue"),
        ("serving/servables/servable.py", "run", "names = tuple(outputs)", "bind"),
        ("serving/grpc/http2/connection.py", "send", "self._transport.write(data)", "write"),
        ("serving/rest/http/connection.py", "data_received", "self._parser.feed_data(data)", "read"),
    ],
)
def test_a_line_of_the_server_belongs_to_a_step(file: str, function: str, line: str, step: str) -> None:
    assert steps.step_of(file, function, line) == step


def test_shares_add_up_to_one() -> None:
    samples = [["serving/scheduling/a.py", "f", "x", 3], ["", "", "", 1]]
    assert steps.shares(samples) == {**dict.fromkeys(steps.STEPS, 0.0), "queue": 0.75, "read": 0.25}
