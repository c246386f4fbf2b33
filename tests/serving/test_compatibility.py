"""docs/compatibility.md names the flags and metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

from ladle.serving.flag_table import FLAGS
from ladle.serving.telemetry.prometheus import METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()


def test_every_flag_on_the_page_exists_and_every_flag_of_ours_is_on_it() -> None:
    named = set(re.findall(r"--([a-z_]{3,})", PAGE)) - {"name", "version"}
    assert named <= {flag.name for flag in FLAGS}
    assert {flag.name for flag in FLAGS if "(ours)" in flag.help} <= named


def test_every_flag_that_is_refused_is_on_the_page() -> None:
    assert {flag.name for flag in FLAGS if flag.use == "refused"} <= set(re.findall(r"--([a-z_]+)", PAGE))


def test_every_metric_of_ours_is_on_the_page() -> None:
    ours = {metric.name for metric in METRICS.values() if not metric.name.startswith(":tensorflow:")}
    assert ours == set(re.findall(r"`(:ladle:serving:[a-z_]+|process_[a-z_]+)`", PAGE))
