"""Refusals that come too fast are spaced out, and never held for long."""

from __future__ import annotations

import asyncio
import time

import pytest

from ladle.serving.scheduling.refusals import AT_ONCE, MAX_HOLD_S, PER_SECOND, Refusals


def held_s(*turns: tuple[int, float | None]) -> list[float]:
    """Seconds for which each of these refusals is held, all asked for at the same moment.

    turns  size of the inputs in bytes; seconds until the deadline, or None
    """

    async def main() -> list[float]:
        refusals, start = Refusals(), time.monotonic()

        async def one(size: int, left_s: float | None) -> float:
            await refusals.take_turn(size, None if left_s is None else start + left_s)
            return time.monotonic() - start

        return await asyncio.gather(*(one(*turn) for turn in turns))

    return asyncio.run(main())


def test_a_burst_is_refused_at_once_and_what_follows_is_spaced() -> None:
    held = held_s(*[(100, None)] * (AT_ONCE + 50))
    assert held == sorted(held)
    assert held[-1] - held[AT_ONCE - 1] >= 49 / PER_SECOND


def test_no_refusal_is_held_longer_than_the_bound() -> None:
    started = time.monotonic()
    held = held_s(*[(100, None)] * int(AT_ONCE + 3 * MAX_HOLD_S * PER_SECOND))
    spent = time.monotonic() - started  # on a busy machine the timers themselves are late
    assert MAX_HOLD_S <= held[-1] <= spent
    assert sum(seconds >= MAX_HOLD_S for seconds in held) >= 2 * MAX_HOLD_S * PER_SECOND - 1


@pytest.mark.parametrize(("size", "left_s"), [(2**20, None), (100, 0.0), (100, -1.0)])
def test_large_and_late_requests_are_refused_at_once(size: int, left_s: float | None) -> None:
    held = held_s(*[(100, None)] * int(AT_ONCE + 0.2 * PER_SECOND), (size, left_s))
    assert held[-1] <= held[-2]


def test_a_caller_keeps_half_of_its_time() -> None:
    held = held_s(*[(100, None)] * int(AT_ONCE + MAX_HOLD_S * PER_SECOND), (100, 0.2))
    assert 0.1 <= held[-1] < held[-2]
