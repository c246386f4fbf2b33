"""Versions that come and go leave no memory behind."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.serving.dataplane.core import Core
from ladle.serving.repository.folders import FolderRepository
from ladle.serving.repository.manager import Manager, State
from ladle.serving.repository.watcher import Watcher
from ladle.serving.servables.batching_parameters import Batching
from ladle.serving.servables.loader import Loader
from ladle.serving.servables.servable import Servable

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
        manager.set_aspired_versions({"m": {number: folders[number]}})
        with manager._changed:
            assert manager._changed.wait_for(lambda number=number: manager.available() == {"m": [number]}, 60)
        servable = manager.serving_map.find("m", number)
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


def test_cached_calls_do_not_keep_a_version_in_memory(tiny: Any, tmp_path: Path) -> None:
    """Not even until the garbage collector comes: a version's memory is given back when it goes."""
    manager: Manager[Servable] = Manager(Loader(), threads=1)
    core = Core(manager, Watcher(FolderRepository(tmp_path), manager))
    folder = tiny.half_plus(1).write(tmp_path, 1)

    async def ask(servable: Servable) -> list[Any]:
        signature = servable.signatures["serving_default"]
        asked = [core.predict(servable, signature, X, (), None, "like these") for _ in range(3)]
        return [(await outputs)["y"].tolist() for outputs in asked]

    def gone() -> weakref.ref[Servable]:
        servable = Loader()("m", 1, folder)
        servable.batching = Batching()
        assert asyncio.run(ask(servable)) == [[[1.5]]] * 3
        return weakref.ref(servable)

    gc.collect()
    gc.disable()
    try:
        ref, limit = gone(), time.monotonic() + 20
        while ref() is not None and time.monotonic() < limit:  # a thread may still be on its way out
            time.sleep(0.001)
        assert ref() is None
    finally:
        gc.enable()
