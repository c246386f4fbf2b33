"""The chaos kit: what it counts, and one fault on a real server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.chaos import __main__ as chaos
from benchmarks.chaos import faults, flood_kinds, soak

ROOT = Path(__file__).resolve().parents[2]


def test_version_swaps_lose_no_request(tmp_path: Path) -> None:
    found = faults.swaps(tmp_path, 1)
    assert found.counts["ok"] > 100
    assert found.counts == {"ok": found.counts["ok"], "refused": 0, "lost": 0, "wrong": 0}
    assert faults.row(found).endswith("5 swaps")


def test_a_slope_is_growth_per_hour_after_the_warm_up() -> None:
    times = [float(second) for second in range(0, 100, 2)]
    samples = [{"rss_mb": max(50.0, 50 + (t - 40) / 36), "files": 20.0, "threads": 9.0} for t in times]
    callers: Any = SimpleNamespace(counts={"ok": 1})
    found = soak._summary(100, callers, 50, times, samples)
    assert found.slopes["rss_mb"] == pytest.approx(100)
    assert found.slopes["files"] == pytest.approx(0, abs=1e-6)


def test_each_fault_and_no_unknown_flood_stands_beside_what_was_seen_before() -> None:
    assert set(chaos.BEFORE) == set(faults.FAULTS)
    assert set(chaos.BEFORE_WORST_S) <= set(flood_kinds.FLOODS)


@pytest.mark.parametrize("main", [chaos.main, faults.main], ids=["all", "faults"])
def test_unknown_parts_are_refused_with_the_known_ones(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "nonsense"])
    assert "got --only nonsense; expected some of" in capsys.readouterr().err


def test_the_page_has_a_row_for_each_fault() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    assert [before for before in chaos.BEFORE.values() if before not in page] == []
