"""Quick requests that arrive in one turn of the event loop: when they run, with whom, and whom an error reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, ServingError
from ladle.serving.scheduling.batch import Call
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.scheduling.tick import Turn
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.servable import Servable

BATCHING = Batching(max_batch_size=3, max_enqueued_batches=4)


class Doubling:
    """An engine: y = 2 x, but for 13. It keeps what it ran."""

    name = "doubling"

    def __init__(self) -> None:
        self.runs: list[list[float]] = []

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        self.runs.append(inputs["x"].tolist())
        if (inputs["x"] == 13).any():
            raise InvalidArgument("thirteen")
        return {"y": 2 * inputs["x"]}

    def clock(self, signature: str) -> Callable[[], float]:
        return time.perf_counter


class Asked:
    """A quick model behind a scheduler."""

    def __init__(self, batching: Batching | None = None) -> None:
        self.engine, self.scheduler = Doubling(), Scheduler(1)
        self.model = Servable("m", 1, {"s": pb.SignatureDef()}, {"s": self.engine}, batching)
        for size in (1, 2, 4):
            self.model.paces["s"].record(size, 20e-6)

    def run(self, *values: float, deadline: float | None = None) -> Coroutine[Any, Any, dict[str, Array]]:
        inputs = {"x": np.array(values, np.float32)}
        return self.scheduler.run(Call(self.model, "s", ("y",), "Predict"), inputs, deadline)

    async def crowd(self) -> None:
        """A turn with two requests, after which those that come wait for the end of their turn."""
        await asyncio.gather(self.run(0), self.run(0))
        await asyncio.sleep(0)
        self.engine.runs.clear()

    async def together(self, *values: float) -> list[Any]:
        """The results or errors of requests that come in one turn, of a value each."""
        tasks = [asyncio.ensure_future(self.run(value)) for value in values]
        return await asyncio.gather(*tasks, return_exceptions=True)


async def the_end() -> None:
    """Of a turn in which requests wait: the event loop looks once more whether others come."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_a_request_that_comes_alone_runs_at_once() -> None:
    asked = Asked()

    async def main() -> None:
        for value in range(3):
            with pytest.raises(StopIteration):  # it has not waited for anything
                asked.run(value).send(None)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert asked.engine.runs == [[0], [1], [2]]


@pytest.mark.parametrize(("batching", "runs"), [(None, [[1], [2], [3], [4]]), (BATCHING, [[1, 2, 3], [4]])])
def test_what_comes_together_runs_at_the_end_of_the_turn(batching: Batching | None, runs: list[list[float]]) -> None:
    asked = Asked(batching)

    async def main() -> list[Any]:
        await asked.crowd()
        waiting = [asked.run(value) for value in (1, 2, 3, 4)]
        futures = [coroutine.send(None) for coroutine in waiting]
        assert (asked.engine.runs, asked.model.in_flight) == ([], 4)
        await the_end()
        assert asked.model.in_flight == 0
        for coroutine in waiting:
            coroutine.close()
        return [future.result()["y"].tolist() for future in futures]

    assert asyncio.run(main()) == [[2], [4], [6], [8]]
    assert asked.engine.runs == runs


def test_what_comes_while_the_first_are_read_runs_with_them() -> None:
    asked = Asked(BATCHING)

    async def main() -> None:
        await asked.crowd()
        first = asyncio.ensure_future(asked.run(1))
        await asyncio.sleep(0)
        await asyncio.gather(first, asked.run(2))

    asyncio.run(main())
    assert asked.engine.runs == [[1, 2]]


def test_those_that_come_one_by_one_again_run_at_once_again() -> None:
    asked = Asked()

    async def main() -> None:
        await asked.crowd()
        assert (await asked.run(1))["y"].tolist() == [2]  # the last that waits for the end of a turn
        with pytest.raises(StopIteration):
            asked.run(2).send(None)

    asyncio.run(main())
    assert asked.engine.runs == [[1], [2]]


@pytest.mark.parametrize("batching", [None, BATCHING])
def test_an_error_reaches_only_the_request_at_fault(batching: Batching | None) -> None:
    asked = Asked(batching)

    async def main() -> list[Any]:
        await asked.crowd()
        return await asked.together(1, 13, 3)

    first, second, third = asyncio.run(main())
    assert (first["y"].tolist(), third["y"].tolist()) == ([2], [6])
    assert isinstance(second, InvalidArgument)
    assert asked.model.in_flight == 0


def test_faults_of_our_own_reach_whom_they_concern_and_no_other() -> None:
    asked = Asked()

    def fault(*_: Any) -> Any:
        raise StopIteration  # which no future takes

    async def main() -> list[Any]:
        turn = Turn(fault)
        good = turn.wait(asked.model, lambda: {"y": np.ones(1)}, 1e-5, None)
        bad = turn.wait(asked.model, fault, 1e-5, None)
        call = Call(asked.model, "s", ("y",), "Predict")
        merged = turn.join(call, BATCHING, "kind", {"x": np.ones(1, np.float32)}, 1, 1e-5, None)
        turn.is_alone()
        await the_end()
        return [good.exception(), bad.exception(), merged.exception()]

    assert [type(error) for error in asyncio.run(main())] == [type(None), RuntimeError, RuntimeError]
    assert asked.model.in_flight == 0


@pytest.mark.parametrize(("batching", "error"), [(None, DeadlineExceeded), (BATCHING, ResourceExhausted)])
def test_what_is_late_at_the_end_of_the_turn_is_never_run(batching: Batching | None, error: type[ServingError]) -> None:
    asked = Asked(batching)

    async def main() -> list[Any]:
        await asked.crowd()
        deadline = time.monotonic() + 0.02
        waiting = [asked.run(value, deadline=deadline) for value in (1, 2)]
        futures = [coroutine.send(None) for coroutine in waiting]
        while time.monotonic() < deadline:  # the turn takes as long
            pass
        await the_end()
        for coroutine in waiting:
            coroutine.close()
        return [type(future.exception()) for future in futures]

    assert asyncio.run(main()) == [error, error]
    assert (asked.engine.runs, asked.model.in_flight) == ([], 0)


@pytest.mark.parametrize("batching", [None, BATCHING])
def test_a_caller_that_leaves_takes_its_request_along(batching: Batching | None) -> None:
    asked = Asked(batching)

    async def main() -> Any:
        await asked.crowd()
        leaving, staying = asked.run(1), asked.run(2)
        left, stayed = leaving.send(None), staying.send(None)
        left.cancel()
        await the_end()
        leaving.close()
        staying.close()
        return stayed.result()

    assert asyncio.run(main())["y"].tolist() == [4]
    assert (asked.engine.runs, asked.model.in_flight) == ([[2]], 0)


def test_a_long_turn_does_not_hold_up_what_came_first() -> None:
    asked, ran = Asked(), []

    async def main() -> None:
        turn = Turn(lambda batch: None)

        def run(name: str) -> dict[str, Array]:
            ran.append(name)
            return {}

        for name in "abc":
            turn.wait(asked.model, lambda name=name: run(name), 0.6e-3, None)  # type: ignore[misc]
        assert ran == ["a", "b"]

    asyncio.run(main())
