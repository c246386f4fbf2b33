"""Under overload, answers come in time or are refused at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.chaos import overload

TIMES = 3
ATTEMPTS = 4  # the speed of a busy machine changes between the peak and the overload
MODEL, TURNS = "m", 20_000  # of a loop, some milliseconds


@pytest.fixture(scope="module")
def server(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("looping")
    tiny.looping().write(folder / MODEL, 1)
    return serve("--repository", folder, models=[MODEL])


@pytest.mark.parametrize(("protocol", "deadline_s"), [("grpc", 1.0), pytest.param("rest", 3.0, marks=pytest.mark.slow)])
def test_an_overloaded_server_answers_in_time_or_refuses_at_once(server: Any, protocol: str, deadline_s: float) -> None:
    port = server.grpc_port if protocol == "grpc" else server.rest_port
    question = overload.Question(MODEL, "x", np.array([TURNS]))
    seen = []
    for _ in range(ATTEMPTS):
        found = overload.measure(protocol, port, question, TIMES, deadline_s, 1.5)
        seen.append(overload.row(found))
        too_late = found.flooded.late + found.flooded.expired
        if found.ratio > 0.6 and too_late < 0.1 * found.flooded.offered and found.flooded.refused:
            return
    pytest.fail("\n".join([overload.HEAD, *seen]))
