"""What measured times and headlines decide."""

from __future__ import annotations

import math

import pytest

from ladle.training.optimize import pairs
from ladle.training.optimize.pairs import Speed


def speed(ratio: float, faster: float = 1.0, rows: int = 1) -> Speed:
    return Speed(rows, 2.0, 2.0 / ratio, ratio, faster)


@pytest.mark.parametrize(
    ("speeds", "words"),
    [
        ([speed(2.0), speed(1.8, rows=16)], ""),
        ([speed(1.1)], ""),
        ([speed(1.09)], "1.09× as fast on 1 row; expected 1.1× or more"),
        ([speed(3.0), speed(0.5, rows=16)], "0.50× as fast on 16 rows"),
        ([speed(1.3, faster=0.8)], "faster in 80% of the pairs only; expected 90% or more"),
        ([speed(1.3), speed(1.2, faster=0.5, rows=16)], "faster in 50% of the pairs only"),
    ],
    ids=["faster", "just", "too little", "slower in batches", "unsure", "unsure in batches"],
)
def test_a_graph_is_faster_if_every_request_says_so(speeds: list[Speed], words: str) -> None:
    found = pairs.too_slow(speeds)
    assert words in found
    assert bool(found) is bool(words)


@pytest.mark.parametrize(
    ("headline", "before", "after", "lost"),
    [
        ("accuracy", 0.8900, 0.8883, 0.17),
        ("mean_iou", 0.8632, 0.8639, -0.07),
        ("squared_error", 0.020, 0.021, 5.0),
        ("frechet_distance", 10.0, 9.0, -10.0),
        ("elbo", -250.0, -252.5, 1.0),
    ],
)
def test_points_are_hundredths_of_a_share_and_percents_of_other_metrics(
    headline: str, before: float, after: float, lost: float
) -> None:
    assert pairs.points_lost(headline, before, after) == pytest.approx(lost)


def test_a_headline_decides_by_the_tolerance() -> None:
    assert pairs.too_poor("accuracy", 0.89, 0.8851, 0.5) == ""
    refused = pairs.too_poor("accuracy", 0.89, 0.88, 0.5)
    assert refused == "accuracy 0.89 → 0.88, 1 points worse; at most 0.5 are allowed"
    assert pairs.too_poor("squared_error", 0.02, math.nan, 0.5)


def test_pairs_become_a_median_ratio_and_a_share() -> None:
    found = pairs.summary(4, [(2.0, 1.0), (3.0, 1.0), (1.0, 2.0), (4.0, 1.0)])
    assert (found.rows, found.ratio, found.faster) == (4, 2.5, 0.75)
    assert (found.before_ms, found.after_ms) == (2500.0, 1000.0)
