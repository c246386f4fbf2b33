"""Versions that come and go leave no memory behind."""

from __future__ import annotations

import gc
import os
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.loading import Loader
from serving.manager import Manager, State
from serving.servable import Servable

RELOADS = int(os.environ.get("LADLE_MEMORY_RELOADS", "200"))
SETTLED, ALLOWED_MB = 40, 8
X = {"x": np.ones((1, 1), np.float32)}


def resident_mb() -> float:
    gc.collect()
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's memory there")
def test_memory_stays_flat_over_200_reloads(tiny: Any, tmp_path: Path) -> None:
    folders = {n: tiny.half_plus(n).write(tmp_path / "m", n) for n in (1, 2)}
    manager: Manager[Servable] = Manager(Loader(), threads=1)
    gone: list[weakref.ref[Servable]] = []
    before = 0.0
    for i in range(RELOADS):
        if i == SETTLED:
            before = resident_mb()
        number = i % 2 + 1
        manager.set_wanted({"m": {number: folders[number]}})
        with manager._changed:
            assert manager._changed.wait_for(lambda number=number: manager.available() == {"m": [number]}, 60)
        servable = manager.find("m", number)
        assert servable.run("serving_default", X, ("y",))["y"].tolist() == [[0.5 + number]]
        gone.append(weakref.ref(servable))
        del servable
    assert [state for _, state, _ in manager.status("m")].count(State.AVAILABLE) == 1
    assert resident_mb() - before < ALLOWED_MB
    assert sum(ref() is not None for ref in gone) == 1


def test_a_retired_version_is_freed_when_its_last_request_ends(tiny: Any, tmp_path: Path) -> None:
    servable = Loader()("m", 1, tiny.half_plus(1).write(tmp_path, 1))
    ended: list[bool] = []
    servable.enter()
    servable.retire(lambda: ended.append(True))
    assert not ended
    servable.leave()
    assert ended
    ref = weakref.ref(servable)
    del servable
    gc.collect()
    assert ref() is None
