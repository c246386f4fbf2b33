"""The server under test, and callers that ask it all the time and note what they lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.requests.models import ROOT
from benchmarks.servers.processes import free_port
from tests.tiny_models import half_plus

MODEL = "m"
_BODY = b'{"instances": [[1.0]]}'
_TIMEOUT_S = 60.0


class Server:
    """A model server on free ports, with half_plus models in a folder of its own."""

    def __init__(self, folder: Path, *flags: str, limit_file_kib: int = 0) -> None:
        self.repository, self.log = folder / "repository", folder / "log"
        self.repository.mkdir(parents=True, exist_ok=True)
        self.version = 0
        self._sound: list[int] = []
        self.publish()
        self.grpc_port, self.rest_port = free_port(), free_port()
        command = [sys.executable, "-m", "ladle.serving", f"--repository={self.repository}", "--host=127.0.0.1"]
        command += [f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}", *flags]
        command += ["--file_system_poll_wait_seconds=0.1"]
        if limit_file_kib:
            command = ["bash", "-c", f'ulimit -f {limit_file_kib}; exec "$@"', "limited", *command]
        self._command = command
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(self._command, stdout=file, stderr=file, cwd=ROOT)
        self.wait_for(lambda: self.ask() == "ok")

    def publish(self, damage: Callable[[Path], None] | None = None) -> int:
        """Publishes another version; its number. `damage` changes its files. The last two undamaged ones stay."""
        self.version += 1
        hidden = self.repository / ".new"
        written = half_plus(self.version).write(hidden, self.version)
        if damage is None:
            self._sound.append(self.version)
        else:
            damage(written)
        (self.repository / MODEL).mkdir(exist_ok=True)
        written.rename(self.repository / MODEL / str(self.version))
        for old in self._sound[:-2]:
            self.withdraw(old)
        self._sound = self._sound[-2:]
        return self.version

    def withdraw(self, version: int) -> None:
        """Removes a version."""
        shutil.rmtree(self.repository / MODEL / str(version), ignore_errors=True)

    def ask(self, model: str = MODEL, body: bytes = _BODY) -> str:
        """One request: `ok`, `refused` (the server says so, or lets nobody connect), `lost` or `wrong`."""
        url = f"http://127.0.0.1:{self.rest_port}/v1/models/{model}:predict"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=_TIMEOUT_S) as answer:
                value = json.loads(answer.read())["predictions"][0]
            return "ok" if model != MODEL or 1 <= value[0] - 0.5 <= self.version else "wrong"
        except urllib.error.HTTPError as error:
            return "refused" if error.code in (400, 429, 503) else "wrong"
        except urllib.error.URLError as error:
            return "refused" if isinstance(error.reason, ConnectionRefusedError) else "lost"
        except (OSError, http.client.HTTPException):
            return "lost"
        except (ValueError, LookupError, TypeError):  # not the JSON of an answer
            return "wrong"

    def state(self, version: int) -> str:
        """The state of a version of the model; empty when nobody answers."""
        url = f"http://127.0.0.1:{self.rest_port}/v1/models/{MODEL}/versions/{version}"
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=5) as answer:
            found = json.loads(answer.read())["model_version_status"]
            return str(found[0]["state"])
        return ""

    def worker(self) -> int:
        """The process that answers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def wait_for(self, reached: Callable[[], bool], limit_s: float = 60.0) -> float:
        """Waits until `reached()`; the seconds. RuntimeError with the end of the log after `limit_s`."""
        began = time.monotonic()
        while not reached():
            if time.monotonic() - began > limit_s:
                raise RuntimeError(f"not reached after {limit_s:g} s:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)
        return time.monotonic() - began

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the server; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(90)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                os.kill(self.worker(), signal.SIGKILL if self.process.poll() is None else 0)
            self.process.kill()
            self.process.wait()


class Callers:
    """Clients that ask on and on, each time on a new connection.

    counts  of the requests, by outcome
    gap_s   longest time between two answers
    """

    def __init__(self, server: Server, callers: int = 4) -> None:
        self.counts = {"ok": 0, "refused": 0, "lost": 0, "wrong": 0}
        self.gap_s = 0.0
        self._server = server
        self._last_ok = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(callers)]

    def _run(self) -> None:
        while not self._stopped.is_set():
            outcome = self._server.ask()
            with self._lock:
                self.counts[outcome] += 1
                now = time.monotonic()
                if outcome == "ok":
                    self.gap_s, self._last_ok = max(self.gap_s, now - self._last_ok), now
            if outcome == "refused":
                self._stopped.wait(0.02)  # as a client that backs off

    def wait_for_answers(self, count: int = 50) -> None:
        """Waits until so many more requests were answered."""
        target = self.counts["ok"] + count
        self._server.wait_for(lambda: self.counts["ok"] >= target)

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def loaded(folder: Path, *flags: str, limit_file_kib: int = 0) -> Iterator[tuple[Server, Callers]]:
    """A server with callers, once some requests were answered."""
    with Server(folder, *flags, limit_file_kib=limit_file_kib) as server, Callers(server) as callers:
        callers.wait_for_answers()
        yield server, callers
