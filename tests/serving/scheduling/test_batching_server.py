"""Batching, engines and overload as a client meets them, over gRPC and REST alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.serving.conftest import ASKERS

SIDE, LAYERS = 500, 60
PARAMETERS = """
max_batch_size { value: 4 } max_enqueued_batches { value: 2 } num_batch_threads { value: 1 }
allowed_batch_sizes: 2 allowed_batch_sizes: 4
"""


def slow(tiny: Any) -> Any:
    """y = x, by way of many products: milliseconds a run."""
    nodes = [helper.make_node("MatMul", ["x", "wide"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{i}", "mean"], [f"h{i + 1}"]) for i in range(LAYERS)]
    nodes.append(helper.make_node("MatMul", [f"h{LAYERS}", "narrow"], ["y"]))
    weights = {
        "wide": np.ones((1, SIDE), np.float32),
        "mean": np.full((SIDE, SIDE), 1 / SIDE, np.float32),
        "narrow": np.full((SIDE, 1), 1 / SIDE, np.float32),
    }
    tensors = {"x": ("float32", [-1, 1])}, {"y": ("float32", [-1, 1])}
    graph = tiny.onnx_model(nodes, *tensors, weights)
    return tiny.Model({"serving_default": tiny.Signature(*tensors)}, {"model.onnx": graph})


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("batching")
    (folder / "parameters").write_text(PARAMETERS)
    repository = folder / "repository"
    slow(tiny).write(repository / "slow")
    tiny.half_plus(2).write(repository / "half_plus_two")
    tiny.identities().write(repository / "identities")
    return serve(
        "--repository",
        repository,
        "--enable_batching",
        "--enable_metrics",
        f"--batching_parameters_file={folder / 'parameters'}",
        models=["slow", "half_plus_two", "identities"],
    )


@pytest.fixture(params=["grpc", "rest"])
def ask(request: pytest.FixtureRequest, server: Any) -> Iterator[Any]:
    asker = ASKERS[request.param](server)
    yield asker
    asker.close()


def attempt(ask: Any, refused: Any, model: str, x: Any) -> Any:
    try:
        (answer,) = ask.predict(model, {"x": x}).values()
        return np.array(answer)
    except refused as error:
        return error


def test_concurrent_requests_are_merged_answered_each_or_shed(ask: Any, refused: Any, server: Any) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 100, (int(n), 1)).astype(np.float32) for n in rng.integers(1, 4, 60)]
    with ThreadPoolExecutor(30) as pool:
        results = list(pool.map(lambda x: attempt(ask, refused, "slow", x), inputs))
    answered = [(x, y) for x, y in zip(inputs, results, strict=True) if not isinstance(y, refused)]
    assert answered
    for x, y in answered:
        np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-4)
    shed = [result for result in results if isinstance(result, refused)]
    for error in shed:
        assert error.code in ("UNAVAILABLE", 503)
        assert error.message.endswith(
            "The batch scheduling queue to which this task was submitted is full; "
            "currently 2 batches enqueued and max_enqueued_batches is 2"
        )
    assert shed
    text = server.get("/monitoring/prometheus/metrics")[1].decode()
    of = dict(line.rsplit(" ", 1) for line in text.splitlines() if ":processed_batch_size_" in line)
    name = ":tensorflow:serving:batching_session:processed_batch_size"
    assert float(of[f"{name}_sum{{}}"]) / float(of[f"{name}_count{{}}"]) > 2  # a single request is padded to 2 at least


FAULTS = {
    "scalar": (
        "half_plus_two",
        {"x": np.float32(1)},
        "",
        "Batching Run() input tensors must have at least one dimension",
    ),
    "rows": (
        "identities",
        {"a": np.ones(1, np.float32), "b": np.ones(2, np.float32)},
        "sum",
        "Batching Run() input tensors must have equal 0th-dimension size",
    ),
    "too many": (
        "half_plus_two",
        {"x": np.ones((5, 1), np.float32)},
        "",
        "Task size 5 is larger than maximum input batch size 4",
    ),
}


@pytest.mark.parametrize(("model", "inputs", "signature", "message"), FAULTS.values(), ids=FAULTS)
def test_inputs_that_cannot_be_batched_are_refused(
    ask: Any, refused: Any, server: Any, model: str, inputs: Any, signature: str, message: str
) -> None:
    if ask.protocol == "rest":  # by columns: rows are never scalars, and have all inputs
        columns = {alias: array.tolist() for alias, array in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode()
        status, answer = server.send("POST", f"/v1/models/{model}:predict", body)
        assert (status, json.loads(answer)) == (400, {"error": message})
        return
    with pytest.raises(refused) as caught:
        ask.predict(model, inputs, signature)
    assert caught.value.is_code("INVALID_ARGUMENT")
    assert caught.value.message == message


def test_padding_rows_are_not_in_the_answer(ask: Any) -> None:
    for rows in (1, 2, 3, 4):
        x = np.arange(rows, dtype=np.float32).reshape(-1, 1)
        ((_, y),) = ask.predict("half_plus_two", {"x": x}).items()
        assert y == (x / 2 + 2).tolist()


def test_an_empty_batch_is_answered(ask: Any) -> None:
    ((_, y),) = ask.predict("identities", {"x": np.zeros(0, np.float32)}, "float32").items()
    assert y == []


def test_parameters_that_contradict_each_other_fail_the_load(serve: Any, tiny: Any, repository: Path) -> None:
    folder = tiny.half_plus(1).write(repository / "m", 1)
    (folder / "batching_params.pbtxt").write_text("max_batch_size { value: 4 } allowed_batch_sizes: 2")
    tiny.half_plus(2).write(repository / "unmerged", 1)
    server = serve("--repository", repository, "--enable_batching", "--enable_per_model_batching_parameters")
    server.wait_for_state("m", 1, "END")
    assert (
        "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; expected 4"
        in server.get("/v1/models/m")[1].decode()
    )
    server.wait_for_state("unmerged", 1, "AVAILABLE")
    body = b'{"inputs": {"x": 3.0}}'  # a scalar cannot be batched; without parameters, this model is not batched
    assert server.send("POST", "/v1/models/unmerged:predict", body) == (200, b'{"outputs": 3.5}\n')


def test_waiting_requests_are_bounded(serve: Any, tiny: Any, repository: Path, refused: Any) -> None:
    slow(tiny).write(repository / "slow")
    server = serve("--repository", repository, "--max_queued_requests=2", models=["slow"])
    for protocol in ("grpc", "rest"):
        asker = ASKERS[protocol](server)
        with ThreadPoolExecutor(30) as pool:
            inputs = [np.ones((1, 1), np.float32)] * 60
            results = list(pool.map(lambda x, ask=asker: attempt(ask, refused, "slow", x), inputs))
        asker.close()
        shed = [result for result in results if isinstance(result, refused)]
        assert 0 < len(shed) < 60
        assert {error.code for error in shed} <= {"UNAVAILABLE", 503}
        assert {error.message for error in shed} == {"the queue is full (2 requests); retry later"}


def test_engine_onnx_refuses_a_version_without_a_graph(serve: Any, tiny: Any, repository: Path) -> None:
    (tiny.half_plus(1).write(repository / "bare", 1) / "assets.extra" / "card.json").unlink()
    tiny.half_plus(1).write(repository / "good", 1)
    server = serve("--repository", repository, "--engine=onnx", models=["good"])
    server.wait_for_state("bare", 1, "END")
    assert (
        "the server runs with --engine=onnx; add a graph with `ladle convert`"
        in server.get("/v1/models/bare")[1].decode()
    )
