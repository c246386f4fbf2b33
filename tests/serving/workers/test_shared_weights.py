"""Workers map the same weights, and nothing of them is left behind."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from ladle import Client
from ladle.serving.servables import shared_weights
from tests.conftest import DEADLINE_S
from tests.serving.workers.test_worker import workers

SIDE = 1024
"""Of a square of weights: 4 MiB."""
WEIGHTS = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32) / SIDE
X = np.random.default_rng(1).standard_normal((3, SIDE)).astype(np.float32)


@pytest.fixture
def heavy(tiny: SimpleNamespace, repository: Path) -> Path:
    """A repository with one model of 4 MiB: y = max(x · w, 0)."""
    x, y = {"x": ("float32", [-1, SIDE])}, {"y": ("float32", [-1, SIDE])}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = tiny.onnx_model(nodes, x, y, {"w": WEIGHTS})
    tiny.Model({"serving_default": tiny.Signature(x, y)}, {"model.onnx": graph}).write(repository / "heavy", 1)
    return repository


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Where servers put what their workers share."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def mapped(pid: int) -> str:
    """The file of shared weights that a process maps; empty if it maps none."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return next((line.split()[-1] for line in lines if line.endswith("/weights.bin")), "")


def wait_until_gone(folder: Path) -> None:
    """Another thread removes it."""
    deadline = time.monotonic() + DEADLINE_S
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_workers_map_one_file_and_a_new_worker_does_too(heavy: Path, serve: Callable[..., Any], shared: Path) -> None:
    server = serve("--repository", heavy, "--workers=2", models=["heavy"], env={"TMPDIR": str(shared)})
    pids = workers(server.process.pid)
    [file] = {mapped(pid) for pid in pids}
    assert file.startswith(str(shared))
    os.kill(pids[0], signal.SIGKILL)
    server.wait_for(lambda: len(set(workers(server.process.pid)) - set(pids)) == 1)
    server.wait_for(lambda: all(map(mapped, workers(server.process.pid))))
    assert len({mapped(pid) for pid in workers(server.process.pid)}) == 1
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        found = [client.predict("heavy", X)["y"] for _ in range(8)]
    assert all(np.allclose(y, np.maximum(X @ WEIGHTS, 0), atol=1e-5) for y in found)
    assert server.stop() == 0
    assert list(shared.iterdir()) == []


def test_the_files_go_with_the_version_and_those_of_a_killed_server_with_the_next(
    heavy: Path, serve: Callable[..., Any], shared: Path
) -> None:
    env = {"TMPDIR": str(shared)}
    server = serve("--repository", heavy, "--workers=2", models=["heavy"], env=env)
    [folder] = shared.iterdir()
    assert len(list(folder.iterdir())) == 1
    (heavy / "heavy" / "1").rename(heavy / "gone")
    server.wait_for(lambda: not list(folder.iterdir()))
    for pid in (server.process.pid, *workers(server.process.pid)):
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    assert folder.exists()
    (heavy / "gone").rename(heavy / "heavy" / "1")
    serve("--repository", heavy, "--workers=2", models=["heavy"], env=env)
    assert folder not in list(shared.iterdir())


def test_one_process_and_small_graphs_share_nothing(
    heavy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = heavy / "heavy" / "1" / "model.onnx"
    monkeypatch.delenv(shared_weights.FOLDER, raising=False)
    assert shared_weights.share(graph, "key", 2**22) is None
    monkeypatch.setenv(shared_weights.FOLDER, str(tmp_path))
    assert shared_weights.share(graph, "key", 2**19) is None
    kept = shared_weights.share(graph, "key", 2**22)
    assert kept is not None
    assert (tmp_path / "key" / "weights.bin").stat().st_size >= WEIGHTS.nbytes
    del kept
    wait_until_gone(tmp_path / "key")


def test_the_thread_that_lets_go_last_does_not_wait_for_the_files_to_be_deleted(
    heavy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleting: set[int] | None = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:  # an audit hook cannot be taken away again
        if deleting is not None and event == "os.remove" and str(arguments[0]).startswith(str(tmp_path)):
            deleting.add(threading.get_ident())

    sys.addaudithook(note)
    monkeypatch.setenv(shared_weights.FOLDER, str(tmp_path))
    kept = shared_weights.share(heavy / "heavy" / "1" / "model.onnx", "key", 2**22)
    assert kept is not None
    deleting.clear()  # what preparing the graph has replaced
    del kept
    wait_until_gone(tmp_path / "key")
    found, deleting = deleting, None
    assert len(found) == 1
    assert threading.get_ident() not in found


def test_a_graph_that_cannot_be_prepared_is_served_as_it_is(
    heavy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(shared_weights.FOLDER, str(tmp_path / "missing"))
    assert shared_weights.share(heavy / "heavy" / "1" / "model.onnx", "key", 2**22) is None
    assert "workers do not share the weights of" in caplog.text


def test_a_full_disk_costs_the_sharing_alone_and_nothing_half_written_stays(
    heavy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (shared := tmp_path / "full").mkdir()
    monkeypatch.setenv(shared_weights.FOLDER, str(shared))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # of the 4 MiB
    try:
        assert shared_weights.share(heavy / "heavy" / "1" / "model.onnx", "key", 2**22) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "workers do not share the weights of" in caplog.text
    assert list(shared.iterdir()) == []


def test_weights_that_are_mapped_are_never_written_over(
    heavy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shared_weights.FOLDER, str(tmp_path))
    graph, weights = heavy / "heavy" / "1" / "model.onnx", tmp_path / "key" / "weights.bin"
    first = shared_weights.share(graph, "key", 2**22)
    assert first is not None
    with weights.open("rb") as mapped:
        first.path.unlink()  # as by a cleaner of old files
        second = shared_weights.share(graph, "key", 2**22)
        assert second is not None
        assert not os.path.samestat(os.fstat(mapped.fileno()), weights.stat())
        assert mapped.read() == weights.read_bytes()


def test_files_that_are_let_go_and_wanted_again_at_the_same_time_are_there(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shared_weights.FOLDER, str(tmp_path))
    graph = tiny_repository / "half_plus_two" / "1" / "model.onnx"

    def take_and_let_go(_: int) -> bool:
        kept = shared_weights.share(graph, "key", 2**22)
        return kept is not None and kept.path.exists()

    with ThreadPoolExecutor(4) as pool:  # locks belong to open files, so that threads stand for processes
        assert all(pool.map(take_and_let_go, range(400)))
    wait_until_gone(tmp_path / "key")


def test_a_machine_without_a_folder_for_temporary_files_shares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with shared_weights.folder() as variables:
        assert variables == {}
    assert "No usable temporary directory found" in caplog.text
    assert "set $TMPDIR" in caplog.text


def test_a_folder_that_another_server_removes_before_it_is_locked_is_made_again(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**where: Any) -> str:
        made.append(make(**where))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with shared_weights.folder() as variables:
        assert variables == {shared_weights.FOLDER: made[1]}
        assert Path(made[1]).is_dir()


def test_a_folder_that_a_server_has_is_left_alone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    with shared_weights.folder() as first, shared_weights.folder() as second:
        made = [Path(each[shared_weights.FOLDER]) for each in (first, second)]
        assert all(folder.is_dir() for folder in made)
        assert {folder.stat().st_mode & 0o777 for folder in made} == {0o700}
    assert list(shared.iterdir()) == []
