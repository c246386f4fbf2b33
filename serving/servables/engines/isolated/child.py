"""`python -m ladle.serving.servables.engines.isolated.child FD`: TensorFlow's process. Only a server starts it.

FD is a socket on which the server sends further sockets. A thread answers the calls of each, one after another. The
process ends when the server closes FD, and so with the server.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladle.clients.wire import messages as pb
from ladle.clients.wire import tensors
from ladle.clients.wire.arrays import Array
from ladle.serving.errors import Internal, InvalidArgument, ServingError, Unavailable
from ladle.serving.runtime.cores import lower_priority
from ladle.serving.runtime.log import set_up_log
from ladle.serving.runtime.memory import resident_bytes, trim_memory
from ladle.serving.servables.engines.isolated import messages
from ladle.serving.servables.engines.savedmodel import SavedModelEngine, is_available
from ladle.serving.servables.engines.tflite import TfliteEngine
from ladle.serving.servables.saved_model import parse_signature

log = logging.getLogger(__name__)

_TRIM_BYTES = 2**28
"""When runs have left so much more memory in use than loading did, the C allocator gives back what it keeps."""


class Engines:
    """The versions that this process has loaded, by the server's key."""

    def __init__(self) -> None:
        self._engines: dict[int, SavedModelEngine | TfliteEngine] = {}
        self._loaded_bytes = 0
        self._trims = threading.Lock()

    def answer(self, asked: Mapping[str, Any], arrays: list[Array]) -> tuple[dict[str, Any], list[Array]]:
        """The answer to a call: its head and arrays. ServingError for the server to raise."""
        if asked["do"] == "load":
            return self._load(asked), []
        if asked["do"] == "unload":
            self._engines.pop(asked["key"], None)
            trim_memory()
            return {}, []
        engine = self._engines.get(asked["key"])
        if engine is None:  # the process has just been started again
            raise Unavailable("TensorFlow starts again after a crash; retry later")
        outputs = asked["outputs"]
        inputs = dict(zip(asked["inputs"], arrays, strict=True))
        if isinstance(engine, SavedModelEngine):
            found = engine.run(asked["signature"], inputs, outputs, asked.get("timeout_ms", 0))
        else:
            found = engine.run(asked["signature"], inputs, outputs)
        for alias in outputs:
            try:
                tensors.dtype_of(found[alias])
            except ValueError:
                raise InvalidArgument(f'output "{alias}" is no dense tensor of a dtype that can be sent') from None
        return {}, [found[alias] for alias in outputs]

    def _load(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        folder = Path(asked["folder"])
        if is_available():
            # Before the priority is lowered: TensorFlow's threads start later, from this one, and inherit it.
            importlib.import_module("tensorflow")
        lower_priority()
        told: dict[str, Any] = {}
        engine: SavedModelEngine | TfliteEngine
        # The limit is that of runs: what a version needs for itself is not known before it is loaded.
        _limit_memory(0)
        if asked["interpreters"]:
            engine = TfliteEngine(folder, asked["interpreters"])
            told["definitions"] = {
                name: definition.SerializeToString().hex() for name, definition in engine.definitions.items()
            }
        else:
            signatures = {
                name: parse_signature(name, pb.SignatureDef.FromString(bytes.fromhex(written)))
                for name, written in asked["definitions"].items()
            }
            engine = SavedModelEngine(folder, asked["tags"], signatures, *asked["threads"])
            engine.load()
        self._engines[asked["key"]] = engine
        _limit_memory(asked["run_bytes"])
        self._loaded_bytes = resident_bytes()
        return told

    def trim(self) -> None:
        """Gives memory back after a large run."""
        if resident_bytes() > self._loaded_bytes + _TRIM_BYTES and self._trims.acquire(blocking=False):
            try:
                trim_memory()
            finally:
                self._trims.release()


def _limit_memory(run_bytes: int) -> None:
    """Lets the process allocate so much more than it has now; 0: as much as it may."""
    soft, hard = resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_DATA)[1]
    if run_bytes:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            now = 1024 * int(next(line for line in lines if line.startswith("VmData:")).split()[1])
            soft = now + run_bytes
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _serve(line: socket.socket, engines: Engines) -> None:
    """Answers calls until the server closes the socket."""
    is_lowered = False
    with line, contextlib.suppress(EOFError, OSError):
        while True:
            asked, arrays = messages.receive(line)
            if asked["do"] == "run" and not is_lowered:
                lower_priority()
                is_lowered = True
            try:
                head, found = engines.answer(asked, arrays)
            except ServingError as error:
                head, found = {"code": error.code, "message": error.message}, []
            except MemoryError:
                head, found = {"code": "RESOURCE_EXHAUSTED", "message": "the run needs more memory than it may"}, []
            except Exception:
                log.exception("TensorFlow's process")
                head, found = {"code": Internal.code, "message": "internal error; the server's log has the details"}, []
            del arrays
            messages.send(line, head, found)
            del found
            engines.trim()


def main(descriptor: int) -> None:
    """Starts a thread for each socket that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process, too; the server decides when it ends
    set_up_log()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when TensorFlow is imported
    engines = Engines()
    with socket.socket(fileno=descriptor) as control:
        while True:
            data, descriptors, _flags, _address = socket.recv_fds(control, 1, 1)
            if not data:
                break
            for each in descriptors:
                line = socket.socket(fileno=each)
                threading.Thread(target=_serve, args=(line, engines), daemon=True).start()
    os._exit(0)  # a run may take minutes, and nobody waits for it


if __name__ == "__main__":
    main(int(sys.argv[1]))
