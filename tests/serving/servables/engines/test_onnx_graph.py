"""A run uses more threads when cores are free and that is faster at its size."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ladle.serving.runtime import cores
from ladle.serving.runtime.cores import Cores, cpu_count
from ladle.serving.servables.engines import onnx_graph
from ladle.serving.servables.engines.onnx_graph import Graph
from ladle.serving.servables.latency import size_of

SIDE = 700
several = pytest.mark.skipif(cpu_count() < 2, reason="one core")


@pytest.fixture
def graph() -> Graph:
    """Two large products: y = x, rows averaged."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((SIDE, SIDE), np.float32) / SIDE, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIDE]) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "slow", tensors[:1], tensors[1:], [weights]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    source = model.SerializeToString()
    return Graph(source, len(source))


@pytest.fixture
def taken() -> Iterator[None]:
    """All cores compute."""
    onnx_graph.computing.take(cpu_count(), force=True)
    yield
    onnx_graph.computing.give(cpu_count())


def feed(rows: int) -> dict[str, Any]:
    return {"x": np.ones((rows, SIDE), np.float32)}


def run(graph: Graph, rows: int) -> None:
    (y,) = graph.call(["y"], feed(rows), None)
    np.testing.assert_allclose(y, 1, rtol=1e-5)


@several
def test_both_sessions_are_measured_at_each_size(graph: Graph) -> None:
    graph.tune(feed(SIDE))
    assert graph.wide is not None
    assert 1 <= graph.narrow.threads < graph.wide.threads <= cpu_count()
    for rows in (200, 800):
        for _ in range(3):
            run(graph, rows)
        for session in (graph.wide, graph.narrow):
            assert session.latency.measured_s(size_of(feed(rows))) is not None


@several
@pytest.mark.parametrize(("many_s", "few_s"), [(1.0, 2.0), (2.0, 1.0)], ids=["many", "few"])
def test_the_quicker_session_runs_and_the_other_is_retried(graph: Graph, many_s: float, few_s: float) -> None:
    graph.tune(feed(SIDE))
    assert graph.wide is not None
    graph.wide.latency.record(1000, many_s)
    graph.narrow.latency.record(1000, few_s)
    quicker, other = (graph.wide, graph.narrow) if many_s < few_s else (graph.narrow, graph.wide)
    chosen = [graph._quicker(1000, graph.wide) for _ in range(2000)]
    assert 2000 - 20 < sum(session is quicker for session in chosen) < 2000
    assert all(session is other for number, session in enumerate(chosen, 1) if number in (1, 2, 4, 256, 512))


@several
@pytest.mark.usefixtures("taken")
def test_a_run_beside_others_takes_few_threads(graph: Graph) -> None:
    graph.tune(feed(SIDE))
    run(graph, 90)
    assert graph.wide is not None
    assert graph.wide.latency.measured_s(size_of(feed(90))) is None


def test_a_large_graph_has_one_session(graph: Graph) -> None:
    large = Graph(graph.source, onnx_graph.KEPT_TWICE_BYTES + 1)
    large.tune(feed(SIDE))
    assert large.wide is None
    run(large, 3)


def test_quick_graphs_and_given_numbers_of_threads_are_not_tuned(graph: Graph) -> None:
    given = Graph(graph.source, 0, threads=2)
    given.tune(feed(SIDE))
    assert (given.threads, given.wide) == (2, None)
    graph.tune(feed(1))
    assert (graph.threads, graph.wide) == (1, None)


def test_the_event_loop_keeps_a_core_while_it_runs_quick_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cpu_count", lambda: 4)
    monkeypatch.setattr(cores.loop_activity, "quick_at", -1.0)
    free = Cores()
    assert free.take(4)
    free.give(4)
    cores.loop_activity.quick_at = time.perf_counter()
    assert not free.take(4)
    assert free.take(3)
    assert not free.take(1)
    assert free.take(1, force=True)


def test_a_thread_that_holds_a_core_needs_one_less_for_all_of_them() -> None:
    """As a request with steps around its graph: others see its core taken from the first step to the last."""
    seen: list[bool] = []

    def take_all() -> None:
        seen.append(onnx_graph.computing.take(cpu_count()))

    with onnx_graph.computing.holding(), onnx_graph.computing.holding():
        assert onnx_graph.computing.held == 1
        other = threading.Thread(target=take_all)
        other.start()
        other.join()
        assert onnx_graph.computing.take(cpu_count() - 1)
        onnx_graph.computing.give(cpu_count() - 1)
    assert seen == [False]
    assert onnx_graph.computing.held == 0
    assert onnx_graph.computing.take(cpu_count())
    onnx_graph.computing.give(cpu_count())


@several
def test_a_run_beside_steps_on_its_own_thread_takes_many_threads(graph: Graph) -> None:
    graph.tune(feed(SIDE))
    with onnx_graph.computing.holding():
        run(graph, 90)
    assert graph.wide is not None
    assert graph.wide.latency.measured_s(size_of(feed(90))) is not None


@several
def test_a_run_that_others_held_up_is_not_measured(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.tune(feed(SIDE))
    assert graph.wide is not None
    call = graph.wide.session.run

    class HeldUp:
        """A session beside which somebody takes a core by force."""

        def run(self, outputs: Any, inputs: Any, options: Any) -> Any:
            onnx_graph.computing.take(1, force=True)
            onnx_graph.computing.give(1)
            return call(outputs, inputs, options)

    monkeypatch.setattr(graph.wide, "session", HeldUp())
    run(graph, 90)
    assert graph.wide.latency.measured_s(size_of(feed(90))) is None
