"""Refusals that come too fast are spaced out, and never held for long."""

from __future__ import annotations

import asyncio
import time

import pytest

from ladle.serving.scheduling.refusals import AT_ONCE, MAX_HELD_BYTES, MAX_HOLD_S, PER_SECOND, Refusals

NOW, SMALL = 1000.0, 100


def after(count: int) -> Refusals:
    """Refusals of which `count` have been held at the moment NOW."""
    refusals = Refusals()
    for _ in range(count):
        refusals.hold_s(NOW, SMALL, None)
    return refusals


def test_a_burst_is_refused_at_once_and_what_follows_is_spaced() -> None:
    refusals = Refusals()
    held = [refusals.hold_s(NOW, SMALL, None) for _ in range(AT_ONCE + 50)]
    assert held[:AT_ONCE] == [0.0] * AT_ONCE
    assert held[AT_ONCE:] == pytest.approx([i / PER_SECOND for i in range(1, 51)])


def test_refusals_at_a_slower_pace_are_never_held() -> None:
    refusals = Refusals()
    assert [refusals.hold_s(NOW + i / PER_SECOND, SMALL, None) for i in range(1000)] == [0.0] * 1000


def test_no_refusal_is_held_longer_than_the_bound_and_it_ends_with_the_flood() -> None:
    refusals = after(10_000)
    assert refusals.hold_s(NOW, SMALL, None) == MAX_HOLD_S
    assert refusals.hold_s(NOW + MAX_HOLD_S + AT_ONCE / PER_SECOND, SMALL, None) == 0.0


@pytest.mark.parametrize(("size", "left_s"), [(2**20, None), (SMALL, 0.0), (SMALL, -1.0)])
def test_large_and_late_requests_are_refused_at_once(size: int, left_s: float | None) -> None:
    assert after(AT_ONCE + 100).hold_s(NOW, size, None if left_s is None else NOW + left_s) == 0.0


def test_a_caller_keeps_half_of_its_time() -> None:
    assert after(10_000).hold_s(NOW, SMALL, NOW + 0.5) == 0.25


def test_a_turn_takes_that_long() -> None:
    async def main() -> float:
        refusals = Refusals()
        started = time.monotonic()
        await asyncio.gather(*(refusals.take_turn(SMALL, None) for _ in range(AT_ONCE + 50)))
        return time.monotonic() - started

    assert asyncio.run(main()) >= 0.9 * 50 / PER_SECOND


def test_what_is_held_stays_within_its_memory_and_frees_it_when_a_caller_leaves() -> None:
    size = 2**16
    most = MAX_HELD_BYTES // size

    async def main() -> None:
        refusals = Refusals()
        for _ in range(10_000):
            refusals.hold_s(time.monotonic(), SMALL, None)
        held = [asyncio.ensure_future(refusals.take_turn(size, None)) for _ in range(most)]
        await asyncio.sleep(0)
        next_one = asyncio.ensure_future(refusals.take_turn(size, None))
        await asyncio.sleep(0)
        assert next_one.done()
        assert not any(turn.done() for turn in held)
        held[0].cancel()
        await asyncio.gather(held[0], return_exceptions=True)
        another = asyncio.ensure_future(refusals.take_turn(size, None))
        await asyncio.sleep(0)
        assert not another.done()
        for turn in (another, *held):
            turn.cancel()

    asyncio.run(main())
