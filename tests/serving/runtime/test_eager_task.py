"""Coroutines that run at once, and those that wait."""

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


def test_what_never_waits_is_there_at_once() -> None:
    async def main() -> Any:
        return eager_task.start(twice(4))

    assert run(main()) == 8


def test_what_waits_is_a_task() -> None:
    async def main() -> Any:
        task = eager_task.start(later(4))
        assert isinstance(task, asyncio.Task)
        return await task

    assert run(main()) == 4


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
def test_errors_come_out(waits: bool) -> None:
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


async def ask(waiter: eager_task.Waiter, ended: list[str]) -> Any:
    try:
        return 2 * await waiter
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    finally:
        ended.append("left")


def test_what_waits_for_the_turn_goes_on_as_soon_as_it_is_woken() -> None:
    async def main() -> tuple[list[int], list[str]]:
        found: list[int] = []
        ended: list[str] = []
        waiters = [eager_task.Waiter(), eager_task.Waiter()]
        for waiter in waiters:
            suspended = eager_task.start(ask(waiter, ended))
            assert isinstance(suspended, eager_task.UNDONE)
            assert not isinstance(suspended, asyncio.Task)
            suspended.add_done_callback(lambda done: found.append(done.result()))
        for number, waiter in enumerate(waiters, 4):
            waiter.set_result(number)
        assert not found
        eager_task.wake(waiters)
        return found, ended  # the event loop has not turned

    assert run(main()) == ([8, 10], ["left", "left"])


def test_an_error_of_what_was_waited_for_comes_out() -> None:
    async def main() -> Any:
        found: list[Any] = []
        waiter = eager_task.Waiter()
        suspended = eager_task.start(ask(waiter, []))
        suspended.add_done_callback(lambda done: found.append((done.cancelled(), done.exception())))
        waiter.set_exception(ValueError("no"))
        eager_task.wake([waiter])
        with pytest.raises(ValueError, match="no"):
            suspended.result()
        return found

    ((cancelled, error),) = run(main())
    assert not cancelled
    assert str(error) == "no"


def test_what_then_waits_for_something_else_is_a_task() -> None:
    async def both(waiter: eager_task.Waiter) -> int:
        return await later(await waiter)

    async def main() -> Any:
        waiter = eager_task.Waiter()
        suspended = eager_task.start(both(waiter))
        ended = asyncio.get_running_loop().create_future()
        suspended.add_done_callback(lambda done: ended.set_result(done.result()))
        waiter.set_result(4)
        eager_task.wake([waiter])
        assert not ended.done()
        return await ended

    assert run(main()) == 4


def test_a_caller_that_leaves_before_or_after_the_turn() -> None:
    async def forever(waiter: eager_task.Waiter, ended: list[str]) -> None:
        await ask(waiter, [])
        await ask(eager_task.Waiter(), ended)

    async def main() -> tuple[list[str], list[str]]:
        before: list[str] = []
        after: list[str] = []
        waiter, second = eager_task.Waiter(), eager_task.Waiter()
        eager_task.start(ask(waiter, before)).cancel()
        assert waiter.cancelled()
        suspended = eager_task.start(forever(second, after))
        left = asyncio.get_running_loop().create_future()
        suspended.add_done_callback(left.set_result)
        second.set_result(1)
        eager_task.wake([waiter, second])
        await asyncio.sleep(0)  # it is a task now
        suspended.cancel()
        assert (await left).cancelled()
        return before, after

    assert run(main()) == (["cancelled", "left"], ["cancelled", "left"])


def test_a_callback_that_fails_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[int]:
        found: list[int] = []
        waiters = [eager_task.Waiter(), eager_task.Waiter()]
        first, second = (eager_task.start(ask(waiter, [])) for waiter in waiters)
        first.add_done_callback(lambda done: found[1])
        second.add_done_callback(lambda done: found.append(done.result()))
        for waiter in waiters:
            waiter.set_result(2)
        eager_task.wake(waiters)
        return found

    assert run(main()) == [4]
    assert "IndexError" in caplog.text
