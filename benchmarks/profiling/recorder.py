"""Run the server, the gateway or a training run of a checkout, and record the calls of its functions.

python benchmarks/profiling/recorder.py ROOT server FLAG ...
python benchmarks/profiling/recorder.py ROOT gateway PORT SERVER REPOSITORY
python benchmarks/profiling/recorder.py ROOT train ARGUMENT ...

`benchmarks.profiling.walks` starts this file as a script, so ROOT can be any checkout. The file therefore imports only
the standard library, and it finds our modules both inside the package `ladle` and, in older checkouts, beside it.

The server and the gateway record between the lines `start` and `stop` on stdin. Each is answered with one line of JSON
on stdout: a list of [thread, is_call, file, function], empty after `start`. `train` records the whole command
without the training loop, and writes such a line at its end. What the process itself prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TextIO

ROOMS = ("clients", "ladle", "models", "serving", "training")
LOOP = ("fit.py", "fit")
"""File name and function of the training loop. Its calls repeat with every epoch and are not recorded."""
QUIET_S = 0.02
"""A request has ended when no function has been called for this long: the server may work on after its answer."""

Event = tuple[int, bool, str, str]


class Recorder:
    """Records calls and returns of a checkout's functions in all threads, except during imports."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[CodeType, str] = {}
        self._events: list[Event] = []
        self._is_on = False
        self._skipping: dict[int, int] = {}  # by thread: running frames whose calls are not recorded

    def install(self) -> None:
        """Watch this thread and every thread that starts later."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def start(self) -> list[Event]:
        """Forget earlier events and record from now on; returns the events so far, which are none."""
        self._events = []
        self._is_on = True
        return []

    def stop(self) -> list[Event]:
        """Wait until our functions are quiet, stop recording, and return the events since `start`."""
        count = -1
        while count != len(self._events):
            count = len(self._events)
            time.sleep(QUIET_S)
        self._is_on = False
        return self._events

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self._is_on or event not in ("call", "return"):
            return
        code = frame.f_code
        file = self._files.get(code)
        if file is None:
            file = self._files[code] = self._file(code)
        if not file:
            return
        thread, is_call = threading.get_ident(), event == "call"
        if code.co_name == "<module>" or (code.co_name == LOOP[1] and file.endswith(f"/{LOOP[0]}")):
            self._skipping[thread] = self._skipping.get(thread, 0) + (1 if is_call else -1)
        elif not self._skipping.get(thread):
            self._events.append((thread, is_call, file, getattr(code, "co_qualname", code.co_name)))

    def _file(self, code: CodeType) -> str:
        """The function's file relative to the root, such as `serving/server.py`; "" if it is not in our rooms."""
        path = Path(os.path.realpath(code.co_filename))  # the rooms are links in `ladle/`
        if not path.is_relative_to(self._root):
            return ""
        inside = path.relative_to(self._root)
        return inside.as_posix() if inside.parts[0].removesuffix(".py") in ROOMS else ""


def main() -> None:
    root, what, *rest = sys.argv[1:]
    # Python has put this file's folder here, where `models.py` would hide the room `models` of an older checkout.
    sys.path[0] = root
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    recorder = Recorder(Path(os.path.realpath(root)))
    package = "ladle." if (Path(root) / "ladle").is_dir() else ""
    if what == "train":
        _train(package, recorder, answers, rest)
        return
    threading.Thread(target=_obey, args=(recorder, answers), daemon=True).start()
    recorder.install()
    if what == "server":
        importlib.import_module(f"{package}serving.command").main(rest)
    else:
        _serve_gateway(package, *rest)


def _obey(recorder: Recorder, answers: TextIO) -> None:
    for line in sys.stdin:
        events = recorder.start() if line.strip() == "start" else recorder.stop()
        print(json.dumps(events), file=answers, flush=True)


def _serve_gateway(package: str, port: str, server: str, repository: str) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    app = importlib.import_module(f"{package}clients.web.app")
    config = importlib.import_module(f"{package}clients.web.config").Config
    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # a browser keeps its connection
    gateway = app.create_app(config(server=server, repository=Path(repository)))
    make_server("127.0.0.1", int(port), gateway, threaded=True).serve_forever()


def _train(package: str, recorder: Recorder, answers: TextIO, arguments: list[str]) -> None:
    command = importlib.import_module("ladle.command" if package else "ladle")
    recorder.install()
    recorder.start()
    status = command.main(["train", *arguments])
    sys.setprofile(None)
    print(json.dumps(recorder.stop()), file=answers, flush=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
