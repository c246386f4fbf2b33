from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from ladle.models import Config
from ladle.training.errors import UsageError
from ladle.training.loop import schedule


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
    ("settings", "wanted"),
    [
        ({"schedule": "exponential", "decay": 0.25}, [0.25 ** (step / 2) for step in range(8)]),
        ({"schedule": "step", "decay": 0.1, "decay_epochs": (1, 3)}, [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        ({"schedule": "polynomial", "decay_power": 2.0}, [(1 - step / 8) ** 2 for step in range(8)]),
        ({"schedule": "polynomial", "decay_to": 0.2}, [0.2 + 0.8 * (1 - step / 8) for step in range(8)]),
        ({"schedule": "inverse_time", "decay": 0.5}, [1 / (1 + 0.5 * step / 2) for step in range(8)]),
        ({"schedule": "cosine", "decay_to": 0.5}, [0.75 + 0.25 * math.cos(math.pi * step / 8) for step in range(8)]),
    ],
    ids=["exponential", "step", "polynomial", "straight line", "inverse time", "cosine to a rest"],
)
def test_the_rate_decays_by_epochs(settings: dict[str, object], wanted: list[float]) -> None:
    np.testing.assert_allclose(factors(8, epochs=4, **settings), wanted, rtol=1e-5)


def test_decay_begins_where_the_warm_up_ends() -> None:
    wanted = [1 / 3, 2 / 3, 1, 0.5, 0.25, 0.125]
    assert factors(6, epochs=6, schedule="exponential", decay=0.5, warmup=1 / 3) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "cosin"}, 'got schedule "cosin"; expected one of constant, cosine, exponential'),
        ({"warmup": 1.0}, "got warmup 1; expected a share"),
        ({"warmup": -0.1}, "got warmup -0.1"),
        ({"schedule": "exponential"}, "schedule exponential: got decay 0; expected a factor between"),
        ({"schedule": "step", "decay": 0.1}, "got no decay_epochs"),
        ({"schedule": "inverse_time"}, "schedule inverse_time: got decay 0; expected a number above 0"),
        ({"decay": 0.9}, "decay has no effect with schedule constant; it requires exponential or step"),
    ],
    ids=["unknown", "all of the run", "negative", "no factor", "no epochs", "no rate", "another's option"],
)
def test_a_wrong_schedule_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        schedule.check(Config(**settings))  # type: ignore[arg-type]
