"""Batching parameters that change while the server runs: what comes follows the new ones, and nothing is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import half_plus

POLL = "--batching_parameters_file_poll_wait_seconds=0.05"


def rows(server: Any, count: int) -> tuple[int, Any]:
    """Status and answer of a request with so many rows."""
    body = json.dumps({"instances": [[float(i)] for i in range(count)]}).encode()
    status, answer = server.send("POST", "/v1/models/half:predict", body)
    return status, json.loads(answer)


def refusal(limit: int) -> tuple[int, Any]:
    return 400, {"error": f"Task size 5 is larger than maximum input batch size {limit}"}


def right(count: int) -> tuple[int, Any]:
    return 200, {"predictions": [[i / 2 + 2] for i in range(count)]}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_changed_file_applies_to_new_batches_and_a_bad_one_changes_nothing(
    serve: Callable[..., Any], tmp_path: Path, workers: int
) -> None:
    half_plus(2).write(tmp_path / "models" / "half")
    file = tmp_path / "parameters"

    def write(text: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(text)
        draft.rename(file)

    write("max_batch_size { value: 4 } num_batch_threads { value: 2 }")
    given = "--enable_batching", f"--batching_parameters_file={file}", POLL, f"--workers={workers}"
    server = serve("--repository", tmp_path / "models", *given, models=["half"])
    assert rows(server, 5) == refusal(4)
    lost, done = [], threading.Event()

    def ask_on() -> None:
        while not done.is_set():
            if (answer := rows(server, 3)) != right(3):
                lost.append(answer)

    askers = [threading.Thread(target=ask_on) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        splitting = "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2 }"
        steps = (
            ("max_batch_size { value: 3 }", refusal(3)),
            (f"max_batch_size {{ value: 8 }} {splitting} allowed_batch_sizes: 2", right(5)),
            ("max_batch_size { value: 4 } allowed_batch_sizes: 4", refusal(4)),
        )
        for step, (text, wanted) in enumerate(steps, 1):
            write(text)
            # A worker that had not read this file would never follow it: the next one takes its place.
            told = step * workers
            server.wait_for(lambda told=told: server.log.read_text().count("new batching parameters: ") == told)
            assert all(rows(server, 5) == wanted for _ in range(2 * workers))
    finally:
        done.set()
        for asker in askers:
            asker.join()
    assert not lost
    write("max_batch_size { value: 0 }")
    server.wait_for(lambda: "not changed: max_batch_size must be positive; was 0" in server.log.read_text())
    assert rows(server, 5) == refusal(4)
    assert server.log.read_text().count("num_batch_threads and thread_pool_name count from the next start") == workers


def test_a_versions_own_file_is_read_again_and_may_come_and_go(serve: Callable[..., Any], tmp_path: Path) -> None:
    folder = half_plus(2).write(tmp_path / "models" / "half")
    own = folder / "batching_params.pbtxt"
    given = "--enable_batching", "--enable_per_model_batching_parameters", POLL
    server = serve("--repository", tmp_path / "models", *given, models=["half"])
    assert rows(server, 5) == right(5)
    own.write_text("max_batch_size { value: 4 }")
    server.wait_for(lambda: rows(server, 5) == refusal(4))
    own.write_text("max_batch_size { value: four }")
    server.wait_for(
        lambda: "half version 1 not changed: the version's batching_params.pbtxt is not" in server.log.read_text()
    )
    assert rows(server, 5) == refusal(4)
    own.unlink()
    server.wait_for(lambda: rows(server, 5) == right(5))
