"""Several workers act as one server: one view of the versions, one sum of the metrics, one shutdown."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.serving import flags
from ladle.serving.workers.supervisor import Supervisor
from tests.conftest import Running, free_port

pytestmark = pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs /proc to find the workers")
X = np.array([[1.0]], np.float32)
BODY = b'{"instances": [[1.0]]}'


@pytest.mark.parametrize(
    ("python", "reason"), [("no python", "No such file or directory"), ("nul\0", "embedded null byte")]
)
def test_a_worker_that_cannot_be_started_is_started_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, python: str, reason: str
) -> None:
    supervisor = Supervisor(flags.parse([f"--repository={tmp_path}", "--workers=2"]), [])
    monkeypatch.setattr(sys, "executable", str(tmp_path / python))
    keeper = threading.Thread(target=supervisor._keep, args=(1,), daemon=True)
    keeper.start()
    keeper.join(0.2)
    assert keeper.is_alive()
    assert f"worker 1 ended (it could not be started: {reason}); starting another" in caplog.text
    supervisor._stop.set()
    keeper.join(30)
    assert not keeper.is_alive()


def children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a process, or a thread of it, has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def workers(pid: int) -> list[int]:
    """The process ids of a supervisor's workers: the children of its child, the fork server."""
    return sorted(worker for server in children(pid) for worker in children(server))


def is_listening(pid: int, port: int) -> bool:
    """Whether the process has a socket that listens on this port."""
    listening = "0A"
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == listening and int(row[1].split(":")[1], 16) == port}
    return any(os.readlink(entry) in inodes for entry in Path(f"/proc/{pid}/fd").iterdir())


def owner(pids: list[int], port: int) -> int | None:
    """The process that accepted the connection from this client port."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[2].split(":")[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(entry) in inodes:
                    return pid
    return None


def test_a_worker_that_is_killed_while_the_ports_open_is_replaced(tmp_path: Path, tiny_repository: Path) -> None:
    """As by a lack of memory. Only a worker that says that it cannot listen ends the server."""
    log, port, rest_port = tmp_path / "log", free_port(), free_port()
    flags = ["--host=127.0.0.1", f"--port={port}", f"--rest_api_port={rest_port}", "--workers=2"]
    flags += ["--repository", str(tiny_repository)]
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "ladle.serving", *flags], stdout=file, stderr=file)
    server = Running(process, port, rest_port, log)
    try:
        while not re.search(r"worker \d: gRPC backend", log.read_text()):
            assert process.poll() is None, log.read_text()
        pids = workers(process.pid)
        late = min(pids, key=lambda pid: is_listening(pid, port))
        os.kill(late, signal.SIGKILL)
        server.wait_for(lambda: len(set(workers(process.pid)) - set(pids)) == 1)
        server.wait_for(lambda: server.get("/v1/models/half_plus_two")[0] == 200)
    finally:
        server.stop()


class Connection:
    """One HTTP connection, kept open, so that all of its requests go to one worker."""

    def __init__(self, server: Any) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
        self._http.connect()
        self.port = self._http.sock.getsockname()[1]

    def send(self, method: str, path: str, body: bytes | None = None) -> Any:
        self._http.request(method, path, body)
        answer = self._http.getresponse()
        content = answer.read()
        return json.loads(content) if answer.status == 200 else None

    def answer(self, model: str = "m", version: int | None = None) -> Any:
        where = f"/versions/{version}" if version is not None else ""
        found = self.send("POST", f"/v1/models/{model}{where}:predict", BODY)
        return found and found["predictions"][0][0]

    def states(self, model: str) -> dict[int, str]:
        found = self.send("GET", f"/v1/models/{model}")
        return {int(v["version"]): v["state"] for v in found["model_version_status"]} if found else {}


def one_each(server: Any) -> dict[int, Connection]:
    """A connection to each worker."""
    pids = workers(server.process.pid)
    found: dict[int, Connection] = {}

    def connect() -> bool:
        connection = Connection(server)
        connection.send("GET", "/v2/health/live")
        pid = owner(pids, connection.port)
        if pid is not None:
            found.setdefault(pid, connection)
        return len(found) == len(pids)

    server.wait_for(connect)
    return found


class Load:
    """Callers that ask the latest version over both protocols until stopped, and what they got."""

    def __init__(self, server: Any, asker: Callable[[], Any], callers: int = 2) -> None:
        self.answers: set[Any] = set()
        self.errors: list[Any] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(Connection(server).answer,)) for _ in range(callers)]
        for _ in range(callers):
            ask = asker()
            self._threads.append(threading.Thread(target=self._run, args=(lambda a=ask: a.predict("m", {"x": X}),)))

    def _run(self, ask: Callable[[], Any]) -> None:
        while not self._done.is_set():
            try:
                found = ask()
                self.answers.add(found["y"][0][0] if isinstance(found, dict) else found)
            except Exception as error:
                self.errors.append(error)
                return

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def shared(serve: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two workers on a repository with version 1 of `m`."""
    folder = tmp_path_factory.mktemp("shared")
    tiny.half_plus(1).write(folder / "m", 1)
    server = serve("--repository", folder, "--workers=2", "--enable_metrics", models=["m"])
    yield server, folder
    server.stop()


def test_versions_change_and_roll_back_under_load_and_all_workers_agree(shared: Any, tiny: Any, grpc_to: Any) -> None:
    server, folder = shared
    views = one_each(server)
    first, second = views.values()

    def everywhere(version: int, state: str) -> None:
        """Waits until both workers show the state; once one does, the other must answer."""
        server.wait_for(lambda: first.states("m").get(version) == state)
        if state == "AVAILABLE":
            assert second.answer("m", version) == version + 0.5
        server.wait_for(lambda: second.states("m").get(version) == state)

    with Load(server, lambda: grpc_to(server)) as load:
        for version in (2, 3):
            tiny.half_plus(version).write(folder / "m", version)
            everywhere(version, "AVAILABLE")
            everywhere(version - 1, "END")
        (folder / "m" / "3").rename(folder / "m" / "withdrawn")
        everywhere(2, "AVAILABLE")
        everywhere(3, "END")
        (folder / "m" / "withdrawn").rename(folder / "m" / "3")
        everywhere(3, "AVAILABLE")
        everywhere(2, "END")
    assert not load.errors
    assert {2.5, 3.5} <= load.answers <= {1.5, 2.5, 3.5}
    assert all(view.answer() == 3.5 for view in views.values())


def test_a_broken_version_fails_in_all_workers_and_the_good_one_stays(shared: Any, tiny: Any) -> None:
    server, folder = shared
    published = tiny.half_plus(9).write(folder / "other", 9)
    (published / "model.onnx").write_bytes(b"not what was verified")
    (folder / "m").mkdir(exist_ok=True)
    published.rename(folder / "m" / "9")
    for view in one_each(server).values():
        server.wait_for(lambda view=view: view.states("m").get(9) == "END")
        status = view.send("GET", "/v1/models/m/versions/9")["model_version_status"][0]["status"]
        assert status["error_code"] == "DATA_LOSS"
        assert view.answer() is not None
    shutil.rmtree(folder / "m" / "9")


def test_every_worker_reports_the_metrics_of_all(shared: Any) -> None:
    server, _ = shared
    views = one_each(server)

    def counts() -> list[int]:
        found = []
        for _ in views:
            text = server.get("/monitoring/prometheus/metrics")[1].decode()
            count = re.search(r':tensorflow:serving:request_count{model_name="counted",status="NOT_FOUND"} (\d+)', text)
            found.append(int(count[1]) if count else 0)
        return found

    assert counts() == [0, 0]
    for view in views.values():
        assert view.answer("counted") is None
    assert counts() == [2, 2]


def test_a_killed_worker_is_replaced_and_other_connections_go_on(shared: Any, grpc_to: Any) -> None:
    server, _ = shared
    views = one_each(server)
    killed, kept = sorted(views)
    before = views[kept].answer()
    requests = re.compile(r':tensorflow:serving:request_count{model_name="m",status="OK"} (\d+)')

    def count() -> int:
        found = requests.search(server.get("/monitoring/prometheus/metrics")[1].decode())
        return int(found[1]) if found else 0

    counted = count()
    assert counted > 0
    os.kill(killed, signal.SIGKILL)
    answers = []

    def replaced() -> bool:
        answers.append(views[kept].answer())
        pids = workers(server.process.pid)
        return len(pids) == 2 and killed not in pids

    server.wait_for(replaced)
    new = one_each(server)
    assert all(view.answer() == before for view in new.values())
    assert set(answers) == {before}
    assert count() >= counted
    assert {frozenset(view.states("m").items()) for view in new.values()} == {
        frozenset(views[kept].states("m").items())
    }


def test_a_worker_that_hangs_is_replaced(shared: Any) -> None:
    server, _ = shared
    views = one_each(server)
    stopped, kept = sorted(views)
    before = views[kept].answer()
    os.kill(stopped, signal.SIGSTOP)

    def replaced() -> bool:
        assert views[kept].answer() == before
        pids = workers(server.process.pid)
        return len(pids) == 2 and stopped not in pids

    server.wait_for(replaced)
    assert all(view.answer() == before for view in one_each(server).values())
    assert re.search(r"worker \d has not answered for 10 s; replacing it", server.log.read_text())


@pytest.mark.slow
def test_a_version_that_crashes_workers_fails_while_one_worker_goes_on_serving(
    shared: Any, tiny: Any, repository: Path
) -> None:
    server, folder = shared
    looping = endless(tiny).write(repository / "m", 20)
    pids = workers(server.process.pid)
    steady = one_each(server)
    before = {pid: view.answer() for pid, view in steady.items()}
    busy = {pid: tiny.cpu_seconds(pid) + 0.5 for pid in pids}
    shutil.copytree(looping, folder / ".copy")
    (folder / ".copy").rename(folder / "m" / "20")
    tried: list[int] = []
    for _ in range(2):

        def working() -> int | None:
            found = workers(server.process.pid)
            return next((p for p in found if p not in tried and tiny.cpu_seconds(p) > busy.get(p, 2.0)), None)

        tried.append(server.wait_for(working))
        os.kill(tried[-1], signal.SIGKILL)
    (untouched,) = set(pids) - set(tried)
    server.wait_for(lambda: steady[untouched].states("m").get(20) == "END")
    assert steady[untouched].answer() == before[untouched]
    assert "UNAVAILABLE" in str(steady[untouched].send("GET", "/v1/models/m/versions/20"))
    shutil.rmtree(folder / "m" / "20")
    server.wait_for(lambda: len(one_each(server)) == 2)


@pytest.mark.slow
def test_workers_killed_while_versions_change_agree_again(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, "--workers=3", models=["m"])
    for version in range(2, 30):
        if version % 7 == 0:
            os.kill(workers(server.process.pid)[version % 3], signal.SIGKILL)
        tiny.half_plus(version).write(repository / "m", version)
        server.wait_for_state("m", version, "AVAILABLE")
        shutil.rmtree(repository / "m" / str(version - 1))
    server.wait_for(lambda: len(workers(server.process.pid)) == 3)
    for view in one_each(server).values():
        server.wait_for(lambda view=view: set(view.states("m").values()) == {"AVAILABLE", "END"})
        assert view.answer() == 29.5
    assert server.stop() == 0


def test_sigterm_lets_all_workers_drain(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, "--workers=2", models=["m"])
    pids = workers(server.process.pid)
    assert server.stop(signal.SIGTERM) == 0
    assert server.log.read_text().count("stopped") == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_workers_end_with_their_supervisor_and_free_the_ports(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, "--workers=2", models=["m"])
    pids = workers(server.process.pid)
    server.process.kill()
    server.process.wait()
    ended = threading.Event()
    for _ in range(600):
        if not any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
            break
        ended.wait(0.05)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
    with pytest.raises(OSError, match="refused"):
        server.get("/v2/health/live")


def test_a_fork_server_that_is_killed_is_replaced_with_its_workers(serve: Any, tiny: Any, repository: Path) -> None:
    """As by a lack of memory: nobody would hear how its workers end."""
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, "--workers=2", models=["m"])
    before = workers(server.process.pid)
    [fork_server] = children(server.process.pid)
    os.kill(fork_server, signal.SIGKILL)
    server.wait_for(lambda: len(set(workers(server.process.pid)) - set(before)) == 2)
    server.wait_for(lambda: server.get("/v1/models/m")[0] == 200)
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in before)
    said = "the process that forks workers has ended (signal 9 (SIGKILL)); replacing it and its 2 workers"
    assert said in server.log.read_text()
    assert server.stop() == 0


def test_workers_drain_when_all_processes_are_told_to_stop(serve: Any, tiny: Any, repository: Path) -> None:
    """As systemd does. The fork server stays until the workers have ended, and says how."""
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, "--workers=2", models=["m"])
    for pid in [*workers(server.process.pid), *children(server.process.pid)]:
        os.kill(pid, signal.SIGTERM)
    assert server.stop(signal.SIGTERM) == 0
    assert "replacing it" not in server.log.read_text()


def test_a_server_that_is_stopped_while_it_starts_ends_at_once(tmp_path: Path, tiny_repository: Path) -> None:
    flags = [f"--port={free_port()}", f"--rest_api_port={free_port()}", f"--repository={tiny_repository}"]
    command = [sys.executable, "-m", "ladle.serving", "--host=127.0.0.1", "--workers=2", *flags]
    with (tmp_path / "log").open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        while not (started := children(process.pid)):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not any(Path(f"/proc/{pid}/exe").exists() for pid in started)
    finally:
        process.kill()
        process.wait()


def test_workers_share_the_memory_of_what_they_import(serve: Any, tiny: Any, repository: Path) -> None:
    tiny.half_plus(1).write(repository / "m", 1)
    server = serve("--repository", repository, "--workers=2", models=["m"])
    for pid in workers(server.process.pid):
        rows = dict(re.findall(r"^(\w+): +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
        shared, own = int(rows["Shared_Dirty"]), int(rows["Private_Dirty"])
        assert shared > 2**14  # kB
        assert own < 2 * shared


def endless(tiny: Any) -> Any:
    """A model whose warm-up takes hours."""
    log = pb.PredictionLog()
    tensors.fill(log.predict_log.request.inputs["x"], np.array([10**9]))
    model = tiny.looping()
    model.warm_up = [log]
    return model
