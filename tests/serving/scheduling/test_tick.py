"""Quick requests that arrive in one tick of the event loop: when they run, what merges, and who gets an error."""

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
from ladle.serving.scheduling.tick import Tick
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import Latency
from ladle.serving.servables.servable import Servable

BATCHING = Batching(max_batch_size=3, max_enqueued_batches=4)


class Doubling:
    """An engine: y = 2 x; it refuses 13. It records its runs."""

    name = "doubling"

    def __init__(self) -> None:
        self.runs: list[list[float]] = []

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        self.runs.append(inputs["x"].tolist())
        if (inputs["x"] == 13).any():
            raise InvalidArgument("thirteen")
        return {"y": 2 * inputs["x"]}

    def latency(self, signature: str) -> Latency:
        return Latency()

    def close(self) -> None: ...

    def clock(self, signature: str) -> Callable[[], float]:
        return time.perf_counter


class QuickModel:
    """A quick model behind a scheduler."""

    def __init__(self, batching: Batching | None = None) -> None:
        self.engine, self.scheduler = Doubling(), Scheduler(1)
        self.servable = Servable("m", 1, {"s": pb.SignatureDef()}, {"s": self.engine}, batching)
        for size in (1, 2, 4):
            self.servable.latencies["s"].record(size, 20e-6)

    def run(self, *values: float, deadline: float | None = None) -> Coroutine[Any, Any, dict[str, Array]]:
        inputs = {"x": np.array(values, np.float32)}
        return self.scheduler.run(self.servable, Call("s", ("y",), "Predict"), inputs, deadline)

    async def crowd(self) -> None:
        """Spends a tick with two requests; requests that come next then wait for the end of their tick."""
        await asyncio.gather(self.run(0), self.run(0))
        await asyncio.sleep(0)
        self.engine.runs.clear()

    async def together(self, *values: float) -> list[Any]:
        """The results or errors of one-value requests that arrive in one tick."""
        tasks = [asyncio.ensure_future(self.run(value)) for value in values]
        return await asyncio.gather(*tasks, return_exceptions=True)


async def end_of_tick() -> None:
    """Waits for the end of a tick with waiting requests: one poll later than usual."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_a_request_that_arrives_alone_runs_at_once() -> None:
    quick = QuickModel()

    async def main() -> None:
        for value in range(3):
            with pytest.raises(StopIteration):  # it has not waited for anything
                quick.run(value).send(None)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert quick.engine.runs == [[0], [1], [2]]


@pytest.mark.parametrize(("batching", "runs"), [(None, [[1], [2], [3], [4]]), (BATCHING, [[1, 2, 3], [4]])])
def test_requests_that_arrive_together_run_at_the_end_of_the_tick(
    batching: Batching | None, runs: list[list[float]]
) -> None:
    quick = QuickModel(batching)

    async def main() -> list[Any]:
        await quick.crowd()
        waiting = [quick.run(value) for value in (1, 2, 3, 4)]
        futures = [coroutine.send(None) for coroutine in waiting]
        assert (quick.engine.runs, quick.servable.in_flight) == ([], 4)
        await end_of_tick()
        assert quick.servable.in_flight == 0
        for coroutine in waiting:
            coroutine.close()
        return [future.result()["y"].tolist() for future in futures]

    assert asyncio.run(main()) == [[2], [4], [6], [8]]
    assert quick.engine.runs == runs


def test_a_request_that_arrives_while_the_first_are_read_runs_with_them() -> None:
    quick = QuickModel(BATCHING)

    async def main() -> None:
        await quick.crowd()
        first = asyncio.ensure_future(quick.run(1))
        await asyncio.sleep(0)
        await asyncio.gather(first, quick.run(2))

    asyncio.run(main())
    assert quick.engine.runs == [[1, 2]]


def test_requests_that_arrive_one_by_one_again_run_at_once_again() -> None:
    quick = QuickModel()

    async def main() -> None:
        await quick.crowd()
        assert (await quick.run(1))["y"].tolist() == [2]  # the last one that waits for the end of its tick
        with pytest.raises(StopIteration):
            quick.run(2).send(None)

    asyncio.run(main())
    assert quick.engine.runs == [[1], [2]]


@pytest.mark.parametrize("batching", [None, BATCHING])
def test_an_error_reaches_only_the_request_at_fault(batching: Batching | None) -> None:
    quick = QuickModel(batching)

    async def main() -> list[Any]:
        await quick.crowd()
        return await quick.together(1, 13, 3)

    first, second, third = asyncio.run(main())
    assert (first["y"].tolist(), third["y"].tolist()) == ([2], [6])
    assert isinstance(second, InvalidArgument)
    assert quick.servable.in_flight == 0


def test_a_bug_in_one_run_fails_only_its_own_requests() -> None:
    quick = QuickModel()

    def fault(*_: Any) -> Any:
        raise StopIteration  # a future refuses it

    async def main() -> list[Any]:
        tick = Tick(fault)
        good = tick.add(quick.servable, lambda: {"y": np.ones(1)}, 1e-5, None)
        bad = tick.add(quick.servable, fault, 1e-5, None)
        call = Call("s", ("y",), "Predict")
        inputs = {"x": np.ones(1, np.float32)}
        merged = tick.add_merged(quick.servable, call, BATCHING, "key", inputs, 1, 1e-5, None)
        tick.should_run_now()
        await end_of_tick()
        return [good.exception(), bad.exception(), merged.exception()]

    assert [type(error) for error in asyncio.run(main())] == [type(None), RuntimeError, RuntimeError]
    assert quick.servable.in_flight == 0


@pytest.mark.parametrize(("batching", "error"), [(None, DeadlineExceeded), (BATCHING, ResourceExhausted)])
def test_a_request_that_is_late_at_the_end_of_the_tick_never_runs(
    batching: Batching | None, error: type[ServingError]
) -> None:
    quick = QuickModel(batching)

    async def main() -> list[Any]:
        await quick.crowd()
        deadline = time.monotonic() + 0.02
        waiting = [quick.run(value, deadline=deadline) for value in (1, 2)]
        futures = [coroutine.send(None) for coroutine in waiting]
        while time.monotonic() < deadline:  # the tick lasts until then
            pass
        await end_of_tick()
        for coroutine in waiting:
            coroutine.close()
        return [type(future.exception()) for future in futures]

    assert asyncio.run(main()) == [error, error]
    assert (quick.engine.runs, quick.servable.in_flight) == ([], 0)


@pytest.mark.parametrize("batching", [None, BATCHING])
def test_a_request_does_not_run_when_its_caller_has_left(batching: Batching | None) -> None:
    quick = QuickModel(batching)

    async def main() -> Any:
        await quick.crowd()
        leaving, staying = quick.run(1), quick.run(2)
        left, stayed = leaving.send(None), staying.send(None)
        left.cancel()
        await end_of_tick()
        leaving.close()
        staying.close()
        return stayed.result()

    assert asyncio.run(main())["y"].tolist() == [4]
    assert (quick.engine.runs, quick.servable.in_flight) == ([[2]], 0)


def test_a_crowded_tick_does_not_delay_the_first_requests() -> None:
    quick, ran = QuickModel(), []

    async def main() -> None:
        tick = Tick(lambda batch: None)

        def run(name: str) -> dict[str, Array]:
            ran.append(name)
            return {}

        for name in "abc":
            tick.add(quick.servable, lambda name=name: run(name), 0.6e-3, None)  # type: ignore[misc]
        assert ran == ["a", "b"]

    asyncio.run(main())
