"""Models that are loaded at their first request, within a budget of memory; those used longest ago leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.serving.repository.demand import Demand, estimate
from tests.conftest import Running

MODELS = ("a", "b", "c")


def ask(server: Running, model: str) -> tuple[int, Any]:
    status, body = server.send("POST", f"/v1/models/{model}:predict", b'{"instances": [1.0]}')
    return status, json.loads(body)


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_models_come_at_their_first_request_and_leave_when_others_need_the_room(
    serve: Callable[..., Running], tiny: Any, repository: Path, grpc_to: Any, refused: Any, workers: int
) -> None:
    for offset, model in enumerate(MODELS):
        tiny.half_plus(offset).write(repository / model, 1)
    limit = 2 * estimate(repository / "a" / "1")
    server = serve("--repository", repository, f"--max_resident_bytes={limit}", f"--workers={workers}")
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 200)
    assert [server.states(model) for model in MODELS] == [{1: "START"}] * 3

    with ThreadPoolExecutor(4) as pool:  # four first requests at once: one load
        answers = list(pool.map(lambda _: ask(server, "a"), range(4)))
    assert answers == [(200, {"predictions": [0.5]})] * 4
    assert server.log.read_text().count("a version 1: ONNX Runtime") == workers
    caller = grpc_to(server)
    assert caller.predict("b", {"x": np.float32([1])})["y"] == [1.5]
    server.wait_for_state("b", 1, "AVAILABLE")
    assert [server.states(model) for model in MODELS] == [{1: "AVAILABLE"}, {1: "AVAILABLE"}, {1: "START"}]

    assert ask(server, "c") == (200, {"predictions": [2.5]})
    server.wait_for_state("a", 1, "START")
    server.wait_for_state("c", 1, "AVAILABLE")
    assert server.states("b") == {1: "AVAILABLE"}
    assert caller.metadata("a")["version"] == 1  # whoever asks what a model is like will ask it
    server.wait_for_state("b", 1, "START")
    assert ask(server, "nothing")[0] == 404
    with pytest.raises(refused) as error:
        caller.predict("nothing", {"x": np.float32([1])})
    assert error.value.is_code("NOT_FOUND")


def test_a_model_beyond_the_budget_is_refused_and_a_new_version_of_one_in_memory_is_loaded(
    serve: Callable[..., Running], tiny: Any, repository: Path
) -> None:
    tiny.half_plus(1).write(repository / "a", 1)
    limit = 2 * estimate(repository / "a" / "1")
    tiny.half_plus(1).write(repository / "large", 1)
    (repository / "large" / "1" / "more.onnx").write_bytes(b"0" * limit)
    server = serve("--repository", repository, f"--max_resident_bytes={limit}")
    server.wait_for(lambda: server.get("/v2/health/ready")[0] == 200)
    status, body = ask(server, "large")
    assert status == 503
    assert "--max_resident_bytes allows" in body["error"]
    assert ask(server, "a") == (200, {"predictions": [1.5]})
    tiny.half_plus(2).write(repository / "a", 2)
    server.wait_for_state("a", 2, "AVAILABLE")
    server.wait_for_state("a", 1, "END")
    assert ask(server, "a") == (200, {"predictions": [2.5]})


def test_those_used_longest_ago_leave_first_and_never_the_one_that_comes() -> None:
    demand = Demand(100)
    for model in MODELS:
        demand.want(model)
    demand.look({"a": 1.0})
    demand.look({"a": 2.0})
    assert demand.leaving({"a": 50, "b": 40, "c": 30}, "c") == ["b"]
    assert demand.leaving({"a": 50, "b": 40, "c": 90}, "c") == ["b", "a"]
    assert demand.leaving({"a": 50, "b": 50}, "b") == []


def test_the_request_that_a_model_came_for_does_not_make_it_newer_than_one_that_came_after_it() -> None:
    demand = Demand(100)
    demand.want("a")
    demand.want("b")
    demand.look({"a": 1.0})  # b's request is not counted yet
    assert demand.leaving({"a": 50, "b": 50, "c": 50}, "c") == ["a"]
    demand.look({"a": 2.0, "b": 1.0})
    demand.look({"a": 2.0, "b": 2.0})
    assert demand.leaving({"a": 50, "b": 50, "c": 50}, "c") == ["a"]
