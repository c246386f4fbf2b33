"""Coroutines that run at once, and those that wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving import eager


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
        return eager.start(twice(4))

    assert run(main()) == 8


def test_what_waits_is_a_task() -> None:
    async def main() -> Any:
        task = eager.start(later(4))
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
        task = eager.start(fail())
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
        task = eager.start(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert ended == ["cancelled", "left"]
