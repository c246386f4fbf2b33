"""Coroutines that finish at once, and coroutines that wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ladle.serving.runtime import eager_task


async def twice(number: int) -> int:
    return 2 * number


async def later(number: int) -> int:
    for _ in range(3):
        await asyncio.sleep(0)
    return await asyncio.wait_for(asyncio.sleep(0.01, number), 10)


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_a_coroutine_that_never_waits_gives_its_result_at_once() -> None:
    async def main() -> Any:
        return eager_task.start(twice(4))

    assert run(main()) == 8


def test_a_coroutine_that_waits_becomes_a_task() -> None:
    async def main() -> Any:
        task = eager_task.start(later(4))
        assert isinstance(task, asyncio.Task)
        return await task

    assert run(main()) == 4


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
def test_an_error_of_the_coroutine_is_raised(waits: bool) -> None:
    async def fail() -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("no")

    async def main() -> None:
        task = eager_task.start(fail())
        assert waits, "raised before"
        await task

    with pytest.raises(ValueError, match="no"):
        run(main())


def test_a_cancelled_task_cleans_up() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            ended.append("left")

    async def main() -> None:
        task = eager_task.start(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert ended == ["cancelled", "left"]


def test_a_task_cancelled_before_its_first_step_cleans_up() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            ended.append("left")

    async def main() -> None:
        task = eager_task.start(wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())
    assert ended == ["cancelled", "left"]


@pytest.mark.parametrize("granted", [True, False], ids=["granted", "waiting"])
def test_a_task_cancelled_before_its_first_step_loses_no_permit_of_a_semaphore(granted: bool) -> None:
    async def main() -> None:
        semaphore = asyncio.Semaphore(1)
        await semaphore.acquire()
        task = eager_task.start(semaphore.acquire())
        if granted:
            semaphore.release()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if not granted:
            assert semaphore.locked()
            semaphore.release()
        await asyncio.wait_for(semaphore.acquire(), 10)
        assert semaphore.locked()  # there is one permit, not two

    run(main())


def test_a_task_cancelled_before_its_first_step_waits_for_the_task_that_it_awaits() -> None:
    ended: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("inner")

    async def outer(task: asyncio.Task[None]) -> None:
        try:
            await task
        except asyncio.CancelledError:
            ended.append("outer")
            raise

    async def main() -> None:
        awaited = asyncio.create_task(inner())
        await asyncio.sleep(0)
        task = eager_task.start(outer(awaited))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert ended == ["inner", "outer"]


async def ask(future: eager_task.TickFuture, ended: list[str]) -> Any:
    try:
        return 2 * await future
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    finally:
        ended.append("left")


def test_a_coroutine_that_waits_for_the_tick_continues_as_soon_as_it_is_woken() -> None:
    async def main() -> tuple[list[int], list[str]]:
        found: list[int] = []
        ended: list[str] = []
        futures = [eager_task.TickFuture(), eager_task.TickFuture()]
        for future in futures:
            pending = eager_task.start(ask(future, ended))
            assert isinstance(pending, eager_task.PENDING)
            assert not isinstance(pending, asyncio.Task)
            pending.add_done_callback(lambda done: found.append(done.result()))
        for number, future in enumerate(futures, 4):
            future.set_result(number)
        assert not found
        eager_task.wake(futures)
        return found, ended  # still the same tick

    assert run(main()) == ([8, 10], ["left", "left"])


def test_an_error_of_the_future_is_raised() -> None:
    async def main() -> Any:
        found: list[Any] = []
        future = eager_task.TickFuture()
        pending = eager_task.start(ask(future, []))
        pending.add_done_callback(lambda done: found.append((done.cancelled(), done.exception())))
        future.set_exception(ValueError("no"))
        eager_task.wake([future])
        with pytest.raises(ValueError, match="no"):
            pending.result()
        return found

    ((cancelled, error),) = run(main())
    assert not cancelled
    assert str(error) == "no"


def test_a_coroutine_that_then_waits_for_something_else_becomes_a_task() -> None:
    async def both(future: eager_task.TickFuture) -> int:
        return await later(await future)

    async def main() -> Any:
        future = eager_task.TickFuture()
        pending = eager_task.start(both(future))
        ended = asyncio.get_running_loop().create_future()
        pending.add_done_callback(lambda done: ended.set_result(done.result()))
        future.set_result(4)
        eager_task.wake([future])
        assert not ended.done()
        return await ended

    assert run(main()) == 4


def test_cancelling_works_before_and_after_the_tick() -> None:
    async def forever(future: eager_task.TickFuture, ended: list[str]) -> None:
        await ask(future, [])
        await ask(eager_task.TickFuture(), ended)

    async def main() -> tuple[list[str], list[str]]:
        before: list[str] = []
        after: list[str] = []
        future, second = eager_task.TickFuture(), eager_task.TickFuture()
        eager_task.start(ask(future, before)).cancel()
        assert future.cancelled()
        pending = eager_task.start(forever(second, after))
        left = asyncio.get_running_loop().create_future()
        pending.add_done_callback(left.set_result)
        second.set_result(1)
        eager_task.wake([future, second])
        await asyncio.sleep(0)  # it is a task now
        pending.cancel()
        assert (await left).cancelled()
        return before, after

    assert run(main()) == (["cancelled", "left"], ["cancelled", "left"])


def test_a_failing_callback_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[int]:
        found: list[int] = []
        futures = [eager_task.TickFuture(), eager_task.TickFuture()]
        first, second = (eager_task.start(ask(future, [])) for future in futures)
        first.add_done_callback(lambda done: found[1])
        second.add_done_callback(lambda done: found.append(done.result()))
        for future in futures:
            future.set_result(2)
        eager_task.wake(futures)
        return found

    assert run(main()) == [4]
    assert "IndexError" in caplog.text
