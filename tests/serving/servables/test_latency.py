"""What may run on the event loop is known from measured calls."""

from __future__ import annotations

import numpy as np

from ladle.serving.servables.latency import QUICK_S, Latency, size_of


def test_calls_that_were_never_measured_are_not_quick() -> None:
    assert not Latency().is_quick(1)


def test_the_estimate_follows_many_calls_and_no_single_one() -> None:
    latency = Latency()
    latency.record(784, QUICK_S * 9)
    latency.record(784, QUICK_S / 2)
    latency.record(784, QUICK_S * 9)
    assert latency.is_quick(784)
    for _ in range(30):
        latency.record(784, QUICK_S * 2)
    assert not latency.is_quick(784)


def test_a_size_is_quick_only_once_it_is_measured() -> None:
    latency = Latency()
    latency.record(1000, QUICK_S / 3)
    assert latency.is_quick(600)
    assert not latency.is_quick(2000)
    assert not latency.is_quick(10)
    latency.record(2000, QUICK_S / 2)
    assert latency.is_quick(2000)


def test_nothing_is_quick_whose_time_does_not_follow_its_size() -> None:
    latency = Latency(is_steady=False)
    latency.record(1, QUICK_S / 100)
    assert not latency.is_quick(1)
    assert latency.expected_s(1) == QUICK_S / 100


def test_larger_inputs_are_expected_to_take_longer_until_measured() -> None:
    latency = Latency()
    latency.record(1000, 1.0)
    assert latency.expected_s(1500) == 2.0
    assert latency.expected_s(100_000) == 128.0
    assert latency.expected_s(10) == 1.0


def test_strings_count_by_their_bytes() -> None:
    assert size_of({"a": np.zeros((2, 3)), "b": np.array([b"four", b"fives"], object)}) == 15
