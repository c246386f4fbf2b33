"""No lock pins, and no range allows, a package with a known hole in what it reads of callers."""

from __future__ import annotations

import datetime

import pytest

from tools import audit

CHECKED, FLOORS = audit.read_floors()


@pytest.mark.parametrize("lock", audit.LOCKS)
def test_a_lock_pins_nothing_below_a_floor(lock: str) -> None:
    found = audit.pins((audit.ROOT / lock).read_text())
    assert found
    assert list(audit.below_floor(found, FLOORS)) == []


def test_no_range_allows_a_release_below_a_floor() -> None:
    assert list(audit.allowed_below_floor(audit.requirements(), FLOORS)) == []


def test_every_floor_names_advisories_and_a_locked_package() -> None:
    locked = {name for lock in audit.LOCKS for name, _ in audit.pins((audit.ROOT / lock).read_text())}
    assert set(FLOORS) <= locked
    assert all(floor["advisories"] and floor["hole"] for floor in FLOORS.values())
    assert datetime.date.fromisoformat(CHECKED)


def test_an_old_release_is_named_with_its_hole() -> None:
    lock = "pillow==12.3.0 ; python_full_version < '3.11' \\\n    --hash=sha256:00\npillow==13.0.0 \\\n"
    (sentence,) = audit.below_floor(audit.pins(lock), FLOORS)
    assert sentence.startswith("got pillow 12.3.0; expected 13.0.0 or later: heap overflows in the JPEG decoder (CVE-")
    (sentence,) = audit.allowed_below_floor(["pillow>=12", "pillow>=13", "numpy>=1.26"], FLOORS)
    assert sentence == "got pillow>=12; expected pillow>=13.0.0: heap overflows in the JPEG decoder"
