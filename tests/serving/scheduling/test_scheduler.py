"""When requests run: at once, in order, merged, too late, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from ladle.serving.runtime import stopping
from ladle.serving.scheduling.batch import Batch, Call, Task
from ladle.serving.scheduling.expectation import Running
from ladle.serving.scheduling.limits import Limits
from ladle.serving.scheduling.scheduler import Scheduler
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.latency import Latency
from ladle.serving.servables.servable import Servable
from ladle.serving.telemetry.metrics import Metrics
from ladle.serving.telemetry.usage import MOST_SIZES, Usage


class Doubling:
    """An engine: y = 2 x, z = -x. It records its runs, and runs nothing while its gate is shut."""

    name = "doubling"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Semaphore(0)
        self.runs: list[tuple[str, list[Any]]] = []

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        self.running.release()
        assert self.gate.wait(30)
        x = inputs["x"]
        self.runs.append((signature, x.tolist()))
        if (x == 13).any():
            raise InvalidArgument("thirteen")
        return {name: {"y": 2 * x, "z": -x, "scalar": np.float32(1), "one": x[:1]}[name] for name in outputs}

    def latency(self, signature: str) -> Latency:
        return Latency()

    def close(self) -> None: ...

    def clock(self, signature: str) -> Callable[[], float]:
        return time.perf_counter


def servable(engine: Doubling, name: str = "m", batching: Batching | None = None) -> Servable:
    return Servable(name, 1, {"s": pb.SignatureDef(), "t": pb.SignatureDef()}, {"s": engine, "t": engine}, batching)


def x(*values: float) -> dict[str, Array]:
    return {"x": np.array(values, np.float32)}


def ask(to: Servable, signature: str = "s", outputs: tuple[str, ...] = ("y",)) -> tuple[Servable, Call]:
    """The first two arguments of `Scheduler.run`."""
    return to, Call(signature, outputs, "Predict")


def behind_a_shut_gate(
    engine: Doubling, scheduler: Scheduler, first: tuple[Servable, Call], act: Callable[[], Awaitable[Any]]
) -> Any:
    """The result of `act`, which runs while a request to `first` holds the scheduler's only thread."""

    async def main() -> Any:
        engine.gate.clear()
        blocking = asyncio.create_task(scheduler.run(*first, x(0)))
        await asyncio.to_thread(engine.running.acquire)
        acting = asyncio.ensure_future(act())
        done = await acting
        engine.gate.set()
        await blocking
        return done

    return asyncio.run(main())


def open_after(engine: Doubling, *calls: Awaitable[Any]) -> Callable[[], Awaitable[Any]]:
    """The results or errors of calls that wait together; the gate opens once all wait."""

    async def act() -> Any:
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(5):
            await asyncio.sleep(0)
        engine.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return act


BATCHING = Batching(max_batch_size=8, max_enqueued_batches=4)


def test_waiting_requests_are_merged_and_each_gets_its_rows() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(servable(engine, batching=BATCHING))
    requests = [x(1), x(2, 3), x(4, 5, 6)]
    results = behind_a_shut_gate(engine, scheduler, m, open_after(engine, *(scheduler.run(*m, r) for r in requests)))
    assert [result["y"].tolist() for result in results] == [[2], [4, 6], [8, 10, 12]]
    assert engine.runs == [("s", [0]), ("s", [1, 2, 3, 4, 5, 6])]


def test_merged_results_are_those_of_single_runs_for_any_mix() -> None:
    rng = random.Random(3)
    for _ in range(40):
        sizes = rng.sample(range(1, 9), 3)
        allowed = tuple(sorted({*rng.sample(range(1, 8), 2), 8}))
        batching = Batching(8, 0, 100, allowed_batch_sizes=allowed if rng.random() < 0.5 else ())
        if rng.random() < 0.5:
            limit = allowed[-1]
            batching = Batching(50, 0, 100, 0, "", batching.allowed_batch_sizes, False, True, limit)
            sizes.append(rng.randint(9, 50))
        batching.check()
        engine, scheduler = Doubling(), Scheduler(1)
        of = servable(engine, batching=batching)
        calls, wanted = [], []
        for size in sizes * 2:
            values = [rng.randint(20, 999) for _ in range(size)]
            signature, outputs = rng.choice("st"), rng.choice([("y",), ("z", "y")])
            calls.append(scheduler.run(*ask(of, signature, outputs), x(*values)))
            wanted.append({name: [v * {"y": 2, "z": -1}[name] for v in values] for name in outputs})
        results = behind_a_shut_gate(engine, scheduler, ask(of), open_after(engine, *calls))
        assert [{name: array.tolist() for name, array in result.items()} for result in results] == wanted
        assert max(len(values) for _, values in engine.runs) <= 8
        if batching.allowed_batch_sizes:
            assert {len(values) for _, values in engine.runs} <= set(allowed)
        assert of.in_flight == scheduler.waiting == 0


def test_signatures_outputs_shapes_and_versions_are_never_mixed() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    one, two = (servable(engine, batching=BATCHING) for _ in range(2))
    wide = {"x": np.ones((1, 2), np.float32)}
    calls = [
        (ask(one), x(1)),
        (ask(one, "t"), x(2)),
        (ask(one, outputs=("z",)), x(3)),
        (ask(two), x(4)),
        (ask(one), wide),
    ]
    runs = open_after(engine, *(scheduler.run(*call, inputs) for call, inputs in calls * 2))
    behind_a_shut_gate(engine, scheduler, ask(one), runs)
    assert engine.runs[1:] == [
        ("s", [1, 1]),
        ("t", [2, 2]),
        ("s", [3, 3]),
        ("s", [4, 4]),
        ("s", [[1, 1], [1, 1]]),
    ]


def test_inner_sizes_are_padded_where_the_parameters_say_so() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(servable(engine, batching=Batching(pad_variable_length_inputs=True)))
    calls = [scheduler.run(*m, {"x": np.full((1, width), width, np.float32)}) for width in (1, 3)]
    results = behind_a_shut_gate(engine, scheduler, m, open_after(engine, *calls))
    assert engine.runs[1:] == [("s", [[1, 1, 1], [3, 3, 3]])]
    assert [result["y"].tolist() for result in results] == [[[2, 2, 2]], [[6, 6, 6]]]


def test_a_large_request_first_fills_the_waiting_batch() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    batching = Batching(max_batch_size=20, enable_large_batch_splitting=True, max_execution_batch_size=4)
    m = ask(servable(engine, batching=batching))
    calls = [scheduler.run(*m, x(*values)) for values in ([1, 2, 3], range(20, 27))]
    results = behind_a_shut_gate(engine, scheduler, m, open_after(engine, *calls))
    assert [len(values) for _, values in engine.runs] == [1, 4, 4, 2]
    assert results[1]["y"].tolist() == [2 * v for v in range(20, 27)]


def test_a_quick_request_larger_than_a_batch_is_split() -> None:
    engine = Doubling()
    batching = Batching(max_batch_size=20, enable_large_batch_splitting=True, max_execution_batch_size=4)
    of = servable(engine, batching=batching)
    of.latencies["s"].record(7, 20e-6)
    assert asyncio.run(Scheduler(1).run(*ask(of), x(*range(7))))["y"].tolist() == [2 * v for v in range(7)]
    assert [len(values) for _, values in engine.runs] == [4, 3]
    assert of.in_flight == 0


def test_a_split_request_is_one_request_and_several_runs_in_the_statistics() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    batching = Batching(max_batch_size=20, enable_large_batch_splitting=True, max_execution_batch_size=4)
    of = servable(engine, batching=batching)
    for values in ([*range(7)], [1, 2], [*range(10, 20)]):  # thirteen is among the last: one of their parts fails
        with contextlib.suppress(InvalidArgument):
            asyncio.run(scheduler.run(*ask(of), x(*values)))
    used = of.usage
    assert (used.requests, used.failed, used.rows) == (2, 1, 9)
    assert used.request_s == pytest.approx(used.queue_s + used.run_s)
    assert used.run_s > 0
    assert {size: runs for size, runs, _ in used.batches()} == {4: 2, 3: 1, 2: 2}
    assert used.runs == 5
    assert all(seconds > 0 for _, _, seconds in used.batches())


def test_a_split_request_that_expires_fails_once() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    batching = Batching(max_batch_size=20, enable_large_batch_splitting=True, max_execution_batch_size=4)
    of = servable(engine, batching=batching)

    async def act() -> None:
        with pytest.raises(ResourceExhausted):
            await scheduler.run(*ask(of), x(*range(7)), time.monotonic() + 0.05)

    behind_a_shut_gate(engine, scheduler, ask(of), act)
    assert (of.usage.requests, of.usage.failed) == (1, 1)  # the first is the one at the gate


def test_batch_sizes_beyond_the_most_are_not_counted_apart() -> None:
    used = Usage()
    for rows in range(MOST_SIZES + 5):
        used.run(rows, 1.0)
    assert (used.runs, len(used.batches())) == (MOST_SIZES + 5, MOST_SIZES)


def test_only_the_request_at_fault_fails() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(servable(engine, batching=BATCHING))
    calls = [scheduler.run(*m, x(1)), scheduler.run(*m, x(13)), scheduler.run(*m, x(3))]
    one, bad, three = behind_a_shut_gate(engine, scheduler, m, open_after(engine, *calls))
    assert (one["y"].tolist(), three["y"].tolist()) == ([2], [6])
    assert isinstance(bad, InvalidArgument)


@pytest.mark.parametrize(
    ("output", "message"), [("scalar", "has 0 dimensions"), ("one", "0th dimension does not equal")]
)
def test_outputs_without_a_row_for_each_input_row_are_refused(output: str, message: str) -> None:
    m = ask(servable(Doubling(), batching=BATCHING), outputs=(output,))
    with pytest.raises(FailedPrecondition, match=message):
        asyncio.run(Scheduler(1).run(*m, x(1, 2)))


def test_a_full_queue_refuses_in_tensorflow_servings_words() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(servable(engine, batching=Batching(max_batch_size=2, max_enqueued_batches=2)))
    calls = [scheduler.run(*m, x(i, i)) for i in (1, 2, 3)]
    *served, refused = behind_a_shut_gate(engine, scheduler, m, open_after(engine, *calls))
    assert [result["y"].tolist() for result in served] == [[2, 2], [4, 4]]
    assert isinstance(refused, Unavailable)
    assert str(refused) == (
        "The batch scheduling queue to which this task was submitted is full; "
        "currently 2 batches enqueued and max_enqueued_batches is 2"
    )


@pytest.mark.parametrize(
    ("limits", "error", "message"),
    [
        (Limits(requests=3), Unavailable, "the queue is full (3 requests); retry later"),
        (Limits(model_requests=3), Unavailable, "the queue of m is full (3 requests); retry later"),
        (
            Limits(size_bytes=12),
            ResourceExhausted,
            "the queue is full (12 bytes of inputs; got 4 more, at most 12 may wait); retry later",
        ),
    ],
    ids=["all", "model", "bytes"],
)
def test_requests_beyond_the_limits_are_refused(limits: Limits, error: type[Exception], message: str) -> None:
    engine, scheduler = Doubling(), Scheduler(1, limits)
    m = ask(servable(engine))
    calls = [scheduler.run(*m, x(i)) for i in range(6)]
    results = behind_a_shut_gate(engine, scheduler, m, open_after(engine, *calls))
    assert [result["y"].tolist() for result in results[:3]] == [[0], [2], [4]]
    assert [(type(result), str(result)) for result in results[3:]] == [(error, message)] * 3
    assert scheduler.waiting == 0


@pytest.mark.parametrize(
    ("batching", "error", "message"),
    [
        (None, DeadlineExceeded, "the request was not answered in time"),
        (BATCHING, ResourceExhausted, "Run() timeout exceeded while waiting in batching queue"),
    ],
    ids=["alone", "merged"],
)
def test_a_request_whose_deadline_passes_in_the_queue_never_runs(
    batching: Batching | None, error: type[Exception], message: str
) -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine, batching=batching)

    async def act() -> None:
        patient = asyncio.ensure_future(scheduler.run(*ask(of), x(5)))
        with pytest.raises(error) as caught:
            await scheduler.run(*ask(of), x(7), time.monotonic() + 0.02)
        assert str(caught.value) == message
        engine.gate.set()
        assert (await patient)["y"].tolist() == [10]

    behind_a_shut_gate(engine, scheduler, ask(of), act)
    assert engine.runs == [("s", [0]), ("s", [5])]
    assert of.in_flight == scheduler.waiting == 0
    with pytest.raises(DeadlineExceeded):
        asyncio.run(scheduler.run(*ask(of), x(7), time.monotonic()))


def test_a_waiting_request_is_dropped_when_its_caller_leaves() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine, batching=Batching(max_batch_size=2, max_enqueued_batches=1))

    async def act() -> None:
        gone = asyncio.ensure_future(scheduler.run(*ask(of), x(7, 7)))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        stays = asyncio.ensure_future(scheduler.run(*ask(of), x(5, 5)))  # the queue has room again
        await asyncio.sleep(0)
        engine.gate.set()
        await stays

    behind_a_shut_gate(engine, scheduler, ask(of), act)
    assert engine.runs == [("s", [0]), ("s", [5, 5])]
    assert of.in_flight == scheduler.waiting == 0


def test_expired_requests_leave_the_queue_while_a_long_run_goes_on() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine)

    async def act() -> None:
        gone = [asyncio.ensure_future(scheduler.run(*ask(of), x(7), time.monotonic() + 0.02)) for _ in range(50)]
        results = await asyncio.gather(*gone, return_exceptions=True)
        assert {type(result) for result in results} == {DeadlineExceeded}
        assert not scheduler._queues.models["m"].batches

    behind_a_shut_gate(engine, scheduler, ask(of), act)
    assert engine.runs == [("s", [0])]


def test_a_run_that_should_outlast_its_deadline_is_refused_at_once() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine)
    of.latencies["s"].wall[1] = 60.0

    async def ask_in_time() -> dict[str, Array]:
        with pytest.raises(DeadlineExceeded, match=r"a run takes about 6. s"):
            await scheduler.run(*ask(of), x(1), time.monotonic() + 30)
        assert not engine.runs
        return await scheduler.run(*ask(of), x(1), time.monotonic() + 90)

    assert asyncio.run(ask_in_time())["y"].tolist() == [2]


def test_a_refused_time_is_doubted_until_it_is_measured_again() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine)
    of.latencies["s"].record(1, 40.0)

    async def ask_on_and_on() -> int:
        for refused in range(100):
            try:
                await scheduler.run(*ask(of), x(1), time.monotonic() + 30)
            except DeadlineExceeded:
                continue
            return refused
        return 100

    assert 5 < asyncio.run(ask_on_and_on()) < 50


@pytest.mark.parametrize(
    ("waiting", "left_s", "message"),
    [
        (1, 30.0, "takes about 20 s, too long for a deadline in 30 s"),
        (4, None, "takes about 50 s; retry later"),
    ],
)
def test_a_request_that_would_wait_too_long_is_refused_at_once(
    waiting: int, left_s: float | None, message: str
) -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m, n = ask(servable(engine)), ask(servable(engine, "n"))
    for of, _ in (m, n):
        of.latencies["s"].wall[1] = 10.0

    async def act() -> None:
        calls = [asyncio.ensure_future(scheduler.run(*m, x(1))) for _ in range(waiting)]
        await asyncio.sleep(0)
        deadline = None if left_s is None else time.monotonic() + left_s
        with pytest.raises(Unavailable, match=message):
            await scheduler.run(*m, x(2), deadline)
        other = asyncio.ensure_future(scheduler.run(*n, x(3), deadline))  # its own queue is empty: it runs next
        await asyncio.sleep(0)
        assert scheduler.waiting == waiting + 1
        engine.gate.set()
        await asyncio.gather(*calls, other)

    behind_a_shut_gate(engine, scheduler, m, act)
    assert [2] not in [values for _, values in engine.runs]
    assert scheduler.waiting == 0


def test_an_answer_that_comes_too_late_is_an_error() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(servable(engine))

    async def act() -> None:
        late = asyncio.ensure_future(scheduler.run(*m, x(1), time.monotonic() + 0.2))
        await asyncio.to_thread(engine.running.acquire)
        engine.gate.set()
        time.sleep(0.3)  # the event loop is held up, and with it the timer of the deadline
        with pytest.raises(DeadlineExceeded):
            await late

    async def main() -> None:
        engine.gate.clear()
        await act()

    asyncio.run(main())


def test_a_busy_model_does_not_delay_another() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    busy, other = servable(engine, "busy"), servable(engine, "other")
    calls = [*(scheduler.run(*ask(busy), x(i)) for i in range(1, 21)), scheduler.run(*ask(other), x(99))]
    behind_a_shut_gate(engine, scheduler, ask(busy), open_after(engine, *calls))
    assert [99] in [values for _, values in engine.runs[:4]]


def test_requests_run_alone_where_merging_does_not_pay_off() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine, batching=Batching())
    of.latencies["s"].record(1, 10e-3)
    of.latencies["s"].record(3, 40e-3)
    calls = [scheduler.run(*ask(of), x(i)) for i in (1, 2, 3)]
    results = behind_a_shut_gate(engine, scheduler, ask(of), open_after(engine, *calls))
    assert [result["y"].tolist() for result in results] == [[2], [4], [6]]
    assert engine.runs[1] == ("s", [1])
    assert of.in_flight == scheduler.waiting == 0


def test_requests_for_a_model_run_in_order_of_arrival() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(servable(engine))
    behind_a_shut_gate(engine, scheduler, m, open_after(engine, *(scheduler.run(*m, x(i)) for i in range(1, 9))))
    assert [values for _, values in engine.runs] == [[i] for i in range(9)]


def in_threads(engine: Doubling) -> Servable:
    """A servable whose runs take 0.4 ms when nothing is in the way, and go to a thread all the same, as of a loop."""
    latency = Latency(is_steady=False)
    latency.record(1, 4e-4)
    of = servable(engine)
    of.latencies["s"] = latency
    return of


def test_a_thread_takes_several_short_runs_and_each_ends_by_itself() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(in_threads(engine))
    values = [1, 2, 13, 4, 5, 6, 7]
    results = behind_a_shut_gate(engine, scheduler, m, open_after(engine, *(scheduler.run(*m, x(v)) for v in values)))
    assert isinstance(results[2], InvalidArgument)
    assert [r["y"].tolist() for r in results if isinstance(r, dict)] == [[2 * v] for v in values if v != 13]
    assert [run for _, run in engine.runs] == [[0], *([v] for v in values)]
    assert scheduler.waiting == 0


def test_a_run_that_a_thread_has_taken_is_dropped_when_its_caller_leaves() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    m = ask(in_threads(engine))

    async def leave() -> None:
        engine.gate.clear()
        calls = [asyncio.ensure_future(scheduler.run(*m, x(v))) for v in range(6)]
        await asyncio.to_thread(engine.running.acquire)
        await asyncio.sleep(0)
        calls[3].cancel()
        await asyncio.wait([calls[3]])
        engine.gate.set()
        await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(leave())
    assert [3] not in [run for _, run in engine.runs]
    assert len(engine.runs) == 5


def test_an_idle_thread_takes_what_another_one_has_taken_but_not_begun() -> None:
    scheduler = Scheduler(2)

    class Holding(Doubling):
        def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
            if inputs["x"].tolist() == [2]:  # takes far longer than expected
                assert held.wait(30)
            return super().run(signature, inputs, outputs)

    held, engine = threading.Event(), Holding()
    m = ask(in_threads(engine))

    async def main() -> None:
        engine.gate.clear()
        blocking = [asyncio.ensure_future(scheduler.run(*m, x(0))) for _ in range(2)]
        for _ in blocking:
            await asyncio.to_thread(engine.running.acquire)
        calls = {v: asyncio.ensure_future(scheduler.run(*m, x(v))) for v in range(1, 13)}
        await asyncio.sleep(0)
        engine.gate.set()
        for v, call in calls.items():
            if v != 2:
                assert (await asyncio.wait_for(call, 30))["y"].tolist() == [2 * v]
        assert not calls[2].done()
        held.set()
        await asyncio.gather(*blocking, calls[2])

    asyncio.run(main())


def test_a_thread_begins_its_next_run_while_the_event_loop_is_busy() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine)
    of.latencies["s"].record(1, 10e-3)

    async def main() -> None:
        engine.gate.clear()
        calls = [asyncio.ensure_future(scheduler.run(*ask(of), x(v))) for v in (1, 2, 3)]
        assert await asyncio.to_thread(engine.running.acquire, timeout=30)
        await asyncio.sleep(0)
        engine.gate.set()
        assert engine.running.acquire(timeout=30)  # on the event loop: it can do nothing until the second run begins
        assert [result["y"].tolist() for result in await asyncio.gather(*calls)] == [[2], [4], [6]]

    asyncio.run(main())
    assert [values for _, values in engine.runs] == [[1], [2], [3]]
    assert of.in_flight == scheduler.waiting == 0


def test_a_short_run_is_not_given_to_a_thread_that_has_a_long_one() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    long, short = servable(engine, "long"), servable(engine, "short")
    long.latencies["s"].record(1, 0.5)
    short.latencies["s"].record(1, 5e-3)

    async def main() -> None:
        engine.gate.clear()
        blocking = asyncio.ensure_future(scheduler.run(*ask(long), x(1)))
        assert await asyncio.to_thread(engine.running.acquire, timeout=30)
        call = asyncio.ensure_future(scheduler.run(*ask(short), x(2)))
        assert await asyncio.to_thread(engine.running.acquire, timeout=30)  # beside the long one
        engine.gate.set()
        await asyncio.gather(blocking, call)

    asyncio.run(main())


def test_long_runs_and_merged_ones_wait_where_others_can_still_overtake_or_join_them() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    long, merged = servable(engine, "long"), servable(engine, "merged", BATCHING)
    for of in (long, merged):
        of.latencies["s"].record(1, 50e-3)

    async def main() -> None:
        engine.gate.clear()
        calls = [asyncio.ensure_future(scheduler.run(*ask(long), x(v))) for v in (1, 2)]
        assert await asyncio.to_thread(engine.running.acquire, timeout=30)
        calls += [asyncio.ensure_future(scheduler.run(*ask(merged), x(v))) for v in (3, 4)]
        await asyncio.sleep(0)
        assert scheduler.waiting == 3
        engine.gate.set()
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert [3, 4] in [values for _, values in engine.runs]


def test_a_thread_that_begins_late_and_finds_all_its_runs_taken_serves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    may_begin = threading.Event()

    class Busy(ThreadPoolExecutor):
        """The third thing that it is given to do begins late, as on a machine with too much to do."""

        given = 0

        def submit(self, run: Callable[..., Any], /, *arguments: Any) -> Any:  # type: ignore[override]
            self.given += 1
            if self.given == 3:
                return super().submit(lambda: may_begin.wait(30) and run(*arguments))
            return super().submit(run, *arguments)

    monkeypatch.setattr("ladle.serving.scheduling.dispatch.ThreadPoolExecutor", Busy)
    engine, scheduler = Doubling(), Scheduler(2)
    m = ask(in_threads(engine))

    def running() -> bool:
        return engine.running.acquire(timeout=10)

    async def main() -> None:
        engine.gate.clear()
        blocking = [asyncio.ensure_future(scheduler.run(*m, x(0))) for _ in range(2)]
        for _ in blocking:
            assert await asyncio.to_thread(running)
        calls = [asyncio.ensure_future(scheduler.run(*m, x(v))) for v in range(1, 13)]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.wait_for(asyncio.gather(*blocking, *calls), 30)
        assert all(running() for _ in calls)
        engine.gate.clear()
        may_begin.set()
        two = [asyncio.ensure_future(scheduler.run(*m, x(0))) for _ in range(2)]
        for _ in two:  # both run at the same time: no thread is lost
            assert await asyncio.to_thread(running)
        engine.gate.set()
        await asyncio.gather(*two)

    asyncio.run(main())


def test_what_a_thread_has_taken_counts_once_in_the_time_that_it_should_still_take() -> None:
    of = servable(Doubling())
    taken = [Batch(of, Call("s", ("y",), "Predict"), None, None) for _ in range(5)]
    for batch in taken:
        batch.tasks.append(Task(x(1), 1, 4, None, expected_s=0.4))  # type: ignore[arg-type]
    running = Running()
    running.begin(taken, 100.0)
    assert running.left_s(100.0) == pytest.approx(2.0)
    assert running.left_s(100.6) == pytest.approx(1.4)
    running.end(taken[0])
    running.end(taken[4])
    assert running.left_s(100.6) == pytest.approx(1.0)
    assert running.left_s(200.0) == 0.0


def test_an_idle_engine_does_not_wait_for_a_fuller_batch() -> None:
    engine, scheduler = Doubling(), Scheduler(1)
    of = servable(engine, batching=Batching(max_batch_size=8, batch_timeout_micros=60_000_000))
    start = time.monotonic()
    assert asyncio.run(scheduler.run(*ask(of), x(4)))["y"].tolist() == [8]
    assert time.monotonic() - start < 30


def test_a_quick_call_runs_on_the_event_loop_and_a_slow_one_in_a_thread() -> None:
    threads = []

    class Recording(Doubling):
        def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
            threads.append(threading.current_thread() is threading.main_thread())
            return super().run(signature, inputs, outputs)

    of, scheduler = servable(Recording()), Scheduler(1)
    of.latencies["s"].record(1, 20e-6)
    of.latencies["t"].record(1, 20e-3)
    asyncio.run(scheduler.run(*ask(of, "s"), x(1)))
    asyncio.run(scheduler.run(*ask(of, "t"), x(1)))
    assert threads == [True, False]


def test_batches_and_queue_depth_are_counted() -> None:
    engine, metrics = Doubling(), Metrics()
    scheduler = Scheduler(1, metrics=metrics)
    m = ask(servable(engine, batching=Batching(8, allowed_batch_sizes=(4, 8))))

    async def act() -> None:
        waiting = [asyncio.ensure_future(scheduler.run(*m, x(i))) for i in range(3)]
        await asyncio.sleep(0)
        assert metrics.snapshot()["own_queue_depth"] == [[["m"], 3]]
        engine.gate.set()
        await asyncio.gather(*waiting)

    behind_a_shut_gate(engine, scheduler, m, act)
    found = metrics.snapshot()
    assert found["own_queue_depth"] == [[["m"], 0]]
    ((_, cells),) = found["own_batch_size"]
    assert (sum(cells[:-1]), cells[-1]) == (2, 4)  # two runs of 1 and 3 rows
    ((_, processed),) = found["processed_batch_size"]
    assert processed[-1] == 8


class Endless(Doubling):
    """An engine whose runs of long inputs end only when they are stopped."""

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        if len(inputs["x"]) < LONG:
            return super().run(signature, inputs, outputs)
        stop, stopped = stopping.current(), threading.Event()
        assert stop is not None
        self.running.release()
        stop.call(stopped.set)
        assert stopped.wait(30)
        stop.check()
        raise AssertionError


LONG = 2**12


def endless() -> tuple[Endless, Scheduler, tuple[Servable, Call]]:
    engine, scheduler = Endless(), Scheduler(2)
    to = ask(servable(engine))
    to[0].latencies["s"].record(1, 2e-3)  # neither may run on the event loop, and only the long ones take long
    to[0].latencies["s"].record(LONG, 0.2)
    return engine, scheduler, to


@pytest.mark.parametrize("leave", ["deadline", "cancelled"])
def test_a_run_that_nobody_waits_for_is_stopped(leave: str) -> None:
    engine, scheduler, to = endless()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + 2 if leave == "deadline" else None
        runs = [loop.create_task(scheduler.run(*to, x(*range(LONG)), deadline)) for _ in range(2)]
        for _ in runs:
            assert await asyncio.to_thread(engine.running.acquire, timeout=30)
        if leave == "cancelled":
            for run in runs:
                run.cancel()
        for error in await asyncio.gather(*runs, return_exceptions=True):
            assert isinstance(error, DeadlineExceeded if leave == "deadline" else asyncio.CancelledError)
        # Both threads are free again: two more runs begin.
        again = [loop.create_task(scheduler.run(*to, x(*range(LONG)))) for _ in range(2)]
        for _ in again:
            assert await asyncio.to_thread(engine.running.acquire, timeout=30)
        for run in again:
            run.cancel()
        await asyncio.gather(*again, return_exceptions=True)

    asyncio.run(main())


def test_a_short_run_does_not_wait_for_long_ones() -> None:
    engine, scheduler, to = endless()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        long = [loop.create_task(scheduler.run(*to, x(*range(LONG)))) for _ in range(3)]
        for _ in range(2):
            assert await asyncio.to_thread(engine.running.acquire, timeout=30)
        for value in range(3):  # the third long one waits in the queue before them
            assert (await asyncio.wait_for(scheduler.run(*to, x(value)), 30))["y"].tolist() == [2 * value]
        assert not any(run.done() for run in long)
        for run in long:
            run.cancel()
        await asyncio.gather(*long, return_exceptions=True)

    asyncio.run(main())
