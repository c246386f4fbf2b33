from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from models import Config
from training import schedule
from training._errors import UsageError


def factors(total: int, **settings: object) -> list[float]:
    config = Config(**settings)  # type: ignore[arg-type]
    return [float(schedule.factor(config, tf.constant(step, tf.int64), total)) for step in range(total)]


def test_a_constant_rate_stays() -> None:
    assert factors(5) == [1.0] * 5


def test_a_warm_up_rises_linearly_to_the_whole_rate() -> None:
    assert factors(10, warmup=0.4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])


def test_a_cosine_falls_from_the_end_of_the_warm_up_to_the_end_of_the_run() -> None:
    wanted = [1 / 3, 2 / 3] + [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    np.testing.assert_allclose(factors(10, schedule="cosine", warmup=0.2), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "cosin"}, 'no schedule "cosin"; there is constant and cosine'),
        ({"warmup": 1.0}, "warmup is 1.0; wanted is a share"),
        ({"warmup": -0.1}, "warmup is -0.1"),
    ],
    ids=["unknown", "all of the run", "negative"],
)
def test_a_wrong_schedule_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        schedule.check(Config(**settings))  # type: ignore[arg-type]
