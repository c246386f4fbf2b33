"""Versions load and unload so that a model stays available."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ladle.serving.errors import DataLoss, FailedPrecondition, MissingOperation, NotFound, PermissionDenied
from ladle.serving.repository.manager import Manager
from ladle.serving.repository.versions import State
from ladle.serving.servables.servable import Servable


class Loads:
    """What loads do, by version: an error, or an event to wait for; and which were begun."""

    def __init__(self, **behaviour: Any) -> None:
        self.behaviour = {int(name[1:]): value for name, value in behaviour.items()}
        self.begun: list[int] = []

    def __call__(self, name: str, version: int, folder: Path) -> Servable:
        self.begun.append(version)
        does = self.behaviour.get(version)
        if isinstance(does, list):
            does = does.pop(0) if does else None
        if isinstance(does, Exception):
            raise does
        if isinstance(does, threading.Event):
            assert does.wait(30)
        return Servable(name, version, {}, {})


def aspire(manager: Manager, *versions: int) -> None:
    manager.set_aspired_versions({"m": {version: Path(str(version)) for version in versions}})


def states(manager: Manager) -> dict[int, State]:
    return {number: state for number, state, _ in manager.status("m")}


def until(manager: Manager, reached: Callable[[], bool]) -> None:
    with manager._changed:
        assert manager._changed.wait_for(reached, 30), states(manager)


def test_the_highest_available_version_is_the_latest() -> None:
    manager = Manager(Loads())
    aspire(manager, 1, 3, 2)
    until(manager, lambda: set(states(manager).values()) == {State.AVAILABLE})
    assert list(states(manager)) == [3, 2, 1]
    assert manager.serving_map.find("m").version == 3
    assert manager.serving_map.find("m", 1).version == 1
    with pytest.raises(NotFound, match=r"Servable not found for request: Specific\(m, 4\)"):
        manager.serving_map.find("m", 4)


def test_the_old_version_serves_until_the_new_one_is_loaded() -> None:
    loading = threading.Event()
    manager = Manager(Loads(v2=loading))
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    aspire(manager, 2)
    assert states(manager) == {2: State.LOADING, 1: State.AVAILABLE}
    assert manager.serving_map.find("m").version == 1
    loading.set()
    until(manager, lambda: states(manager) == {2: State.AVAILABLE, 1: State.END})
    assert manager.serving_map.find("m").version == 2


def test_a_failed_version_leaves_the_old_one_serving_and_is_not_retried() -> None:
    loads = Loads(v2=FailedPrecondition("not here"))
    manager = Manager(loads, retries=5)
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    for _ in range(3):
        aspire(manager, 2)
    until(manager, lambda: states(manager)[2] is State.END)
    aspire(manager, 2)
    assert loads.begun == [1, 2]
    assert manager.serving_map.find("m").version == 1
    ((_, _, error), _) = manager.status("m")
    assert error is not None
    assert str(error) == "not here"


def test_a_missing_operation_is_not_retried() -> None:
    loads = Loads(v1=MissingOperation("Op type not registered 'X'"))
    manager = Manager(loads, retries=5, retry_interval_s=3600)
    aspire(manager, 1)
    until(manager, lambda: states(manager)[1] is State.END)
    assert loads.begun == [1]


def test_a_failed_version_that_was_removed_and_added_again_is_retried() -> None:
    manager = Manager(Loads(v2=[DataLoss("half of it")]))
    aspire(manager, 1, 2)
    until(manager, lambda: states(manager).get(2) is State.END)
    aspire(manager, 1)
    aspire(manager, 1, 2)
    until(manager, lambda: states(manager) == {1: State.AVAILABLE, 2: State.AVAILABLE})


def test_a_load_is_retried_as_often_as_configured() -> None:
    loads = Loads(v1=[DataLoss("a"), DataLoss("b")], v2=[DataLoss("c")] * 9)
    manager = Manager(loads, retries=2, retry_interval_s=0)
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    assert loads.begun == [1, 1, 1]
    assert manager.status("m") == [(1, State.AVAILABLE, None)]
    aspire(manager, 2)
    until(manager, lambda: states(manager)[2] is State.END)
    assert loads.begun.count(2) == 3


def test_a_version_withdrawn_while_it_loads_is_cancelled() -> None:
    loading = threading.Event()
    manager = Manager(Loads(v1=loading))
    aspire(manager, 1)
    aspire(manager)
    loading.set()
    ((_, state, error),) = manager.status("m")
    assert state is State.END
    assert error is not None
    assert error.code == "CANCELLED"
    assert not manager.is_available("m")


def test_unloading_waits_for_requests_in_flight() -> None:
    manager = Manager(Loads())
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    servable = manager.serving_map.find("m")
    servable.enter()
    aspire(manager)
    assert states(manager) == {1: State.UNLOADING}
    with pytest.raises(NotFound):
        manager.serving_map.find("m")
    servable.leave()
    assert states(manager) == {1: State.END}


def test_only_the_newest_stale_version_serves_while_the_next_one_fails() -> None:
    manager = Manager(Loads(v9=FailedPrecondition("no")))
    aspire(manager, 1, 2, 3)
    until(manager, lambda: set(states(manager).values()) == {State.AVAILABLE} and len(states(manager)) == 3)
    aspire(manager, 9)
    until(manager, lambda: states(manager)[9] is State.END)
    assert states(manager) == {9: State.END, 3: State.AVAILABLE, 2: State.END, 1: State.END}


def test_a_version_that_becomes_aspired_again_keeps_serving() -> None:
    manager = Manager(Loads(v2=FailedPrecondition("no")))
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    aspire(manager, 2)
    until(manager, lambda: states(manager)[2] is State.END)
    aspire(manager, 1)
    aspire(manager, 1)
    assert manager.serving_map.find("m").version == 1


def test_an_unexpected_load_error_tells_the_client_nothing() -> None:
    manager = Manager(Loads(v1=RuntimeError("/secret/path")))
    aspire(manager, 1)
    until(manager, lambda: states(manager)[1] is State.END)
    ((_, _, error),) = manager.status("m")
    assert error is not None
    assert (error.code, str(error)) == (
        "INTERNAL",
        "the version could not be loaded; the server's log says why",
    )


def test_a_version_that_becomes_aspired_while_it_unloads_is_loaded_again() -> None:
    loads = Loads()
    manager = Manager(loads)
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    leaving = manager.serving_map.find("m")
    leaving.enter()
    aspire(manager, 2)
    until(manager, lambda: states(manager) == {2: State.AVAILABLE, 1: State.UNLOADING})
    aspire(manager, 1)
    assert states(manager)[1] is State.UNLOADING
    assert manager.serving_map.find("m").version == 2
    leaving.leave()
    until(manager, lambda: states(manager) == {2: State.END, 1: State.AVAILABLE})
    assert manager.serving_map.find("m") is not leaving
    assert loads.begun == [1, 2, 1]


def test_the_resource_preserving_policy_unloads_first() -> None:
    manager = Manager(Loads(), unload_first=True)
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    running = manager.serving_map.find("m")
    running.enter()
    aspire(manager, 2)
    assert states(manager) == {2: State.START, 1: State.UNLOADING}
    running.leave()
    until(manager, lambda: states(manager) == {2: State.AVAILABLE, 1: State.END})


def test_the_resource_preserving_policy_keeps_no_old_version_when_the_new_one_fails() -> None:
    manager = Manager(Loads(v2=FailedPrecondition("no")), unload_first=True)
    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m"))
    aspire(manager, 2)
    until(manager, lambda: states(manager) == {2: State.END, 1: State.END})
    assert not manager.is_available("m")


def test_changes_are_shown_in_order() -> None:
    """Requests reach a version before its status says so, and its status says so before they do not."""
    seen: list[tuple[bool, State]] = []
    manager: Manager[Servable] = Manager(Loads(), show=lambda: note())

    def note() -> None:
        known = manager.status("m")
        if known:
            seen.append((manager.is_available("m"), known[0][1]))

    aspire(manager, 1)
    until(manager, lambda: manager.is_available("m") and states(manager) == {1: State.AVAILABLE})
    aspire(manager)
    steps = [step for i, step in enumerate(seen) if i == 0 or step != seen[i - 1]]
    assert steps == [
        (False, State.LOADING),
        (True, State.LOADING),
        (True, State.AVAILABLE),
        (True, State.UNLOADING),
        (False, State.UNLOADING),
        (False, State.END),
    ]


def test_a_version_that_is_no_longer_aspired_is_not_retried() -> None:
    loads = Loads(v1=[DataLoss("a")] * 9)
    manager = Manager(loads, retries=5, retry_interval_s=3600)
    aspire(manager, 1)
    until(manager, lambda: manager.status("m")[0][2] is not None)
    ((_, state, error),) = manager.status("m")
    assert (state, str(error)) == (State.LOADING, "a")
    aspire(manager)
    ((_, state, error),) = manager.status("m")
    assert state is State.END
    assert error is not None
    assert (error.code, str(error)) == ("CANCELLED", "Loading of servable cancelled")
    assert loads.begun == [1]


class Graphs(Loads):
    """Loads whose versions take a graph that arrives later."""

    def __call__(self, name: str, version: int, folder: Path) -> Servable:
        servable = super().__call__(name, version, folder)
        servable.takes_graph = not (folder / "model.onnx").exists()
        return servable


@pytest.mark.parametrize("unload_first", [False, True], ids=["availability", "resource"])
def test_a_version_is_loaded_again_once_the_files_of_its_graph_stand_still(tmp_path: Path, unload_first: bool) -> None:
    loads = Graphs()
    manager = Manager(loads, retry_changed=True, unload_first=unload_first)
    (tmp_path / "assets.extra").mkdir()
    poll = partial(manager.set_aspired_versions, {"m": {1: tmp_path}})
    poll()
    until(manager, lambda: states(manager) == {1: State.AVAILABLE})
    first = manager.serving_map.find("m")
    first.enter()
    for part in ("half a card", "a whole card, at last"):
        (tmp_path / "assets.extra" / "card.json").write_text(part)
        (tmp_path / "model.onnx").write_text(part)
        poll()
        assert loads.begun == [1]
    poll()
    if unload_first:
        first.leave()
    until(manager, lambda: loads.begun == [1, 1] and states(manager) == {1: State.AVAILABLE})
    until(manager, lambda: manager.serving_map.find("m") is not first)
    poll()
    poll()
    assert loads.begun == [1, 1]


def test_a_version_that_cannot_be_loaded_again_serves_as_before(tmp_path: Path) -> None:
    loads = Graphs(v1=[None, DataLoss("another graph")])
    manager = Manager(loads, retry_changed=True)
    poll = partial(manager.set_aspired_versions, {"m": {1: tmp_path}})
    poll()
    until(manager, lambda: states(manager) == {1: State.AVAILABLE})
    first = manager.serving_map.find("m")
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "card.json").write_text("a card")
    poll()
    poll()
    version = manager._versions["m"][1]
    until(manager, lambda: loads.begun == [1, 1] and not version.reloads)
    poll()
    poll()
    assert manager.serving_map.find("m") is first
    assert manager.status("m") == [(1, State.AVAILABLE, None)]
    assert loads.begun == [1, 1]


def test_a_failed_version_is_tried_again_when_its_permissions_change(tmp_path: Path) -> None:
    file = tmp_path / "saved_model.pb"
    file.write_text("")
    loads = Loads(v1=[PermissionDenied("saved_model.pb cannot be read")])
    manager = Manager(loads, retry_changed=True)
    poll = partial(manager.set_aspired_versions, {"m": {1: tmp_path}})
    poll()
    until(manager, lambda: states(manager) == {1: State.END})
    poll()
    assert loads.begun == [1]
    file.chmod(0o600)
    poll()
    until(manager, lambda: states(manager) == {1: State.AVAILABLE})
