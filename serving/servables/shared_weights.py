"""Weights that the processes of one server share: `--workers` maps the same file in place of N copies.

A session rewrites a graph when it is opened and packs the weights for the processor's kernels, so mapping the original
file would share nothing. The first worker therefore has ONNX Runtime write the rewritten graph and the packed weights
to a folder of the supervisor's; every session is then opened on those files, maps the weights, and rewrites nothing.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import logging
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FOLDER = "LADLE_SHARED_WEIGHTS"
"""The environment variable that names the folder to a worker."""
FROM_BYTES = 2**20
"""Smaller graphs are not worth the files."""
_PREFIX = "ladle-weights-"
_GRAPH, _DRAFT, _WEIGHTS, _TURN, _LOCK = "graph.onnx", "new-graph.onnx", "weights.bin", "preparing", "lock"


class SharedGraph:
    """A graph that was prepared for this machine.

    path  its file; its weights lie beside it

    The files stay while any process has a SharedGraph of them.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        # In a thread: the last reference may go on the event loop, and large files take long to delete. Not by
        # `threading`, whose locks the thread that lets go may hold. A server ends without exit handlers.
        weakref.finalize(self, _thread.start_new_thread, _release, (path.parent, lock)).atexit = False


@contextlib.contextmanager
def folder() -> Iterator[dict[str, str]]:
    """A folder for the workers that start meanwhile, as a variable of their environment; {} if none can be made.

    Folders of servers that were killed are removed.
    """
    import tempfile  # here for a quick start: only a supervisor makes folders

    try:
        home = Path(tempfile.gettempdir())  # FileNotFoundError: nothing can be written, as in a read-only container
        for old in home.glob(f"{_PREFIX}*"):
            _remove_unused(old)
        made, lock = _locked_folder(home)
    except OSError as error:
        log.warning("workers do not share weights: no folder can hold them: %s; set $TMPDIR", error)
        yield {}
        return
    try:
        yield {FOLDER: str(made)}
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _locked_folder(home: Path) -> tuple[Path, int]:
    """A new folder that nobody else may read or replace, and its lock, which keeps other servers from removing it."""
    import tempfile

    while True:
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        with contextlib.suppress(FileNotFoundError):  # a server that starts now took it for one that was left behind
            lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_current(lock, made):
                return made, lock
            os.close(lock)


def share(graph: Path, key: str, size_bytes: int) -> SharedGraph | None:
    """The prepared form of a verified graph; prepared now, if no worker has done so.

    key  a name for the content of the graph and its weights

    None in a server without workers, for a small graph, and where it cannot be prepared.
    """
    home = os.environ.get(FOLDER, "")
    if not home or size_bytes < FROM_BYTES:
        return None
    try:
        return _prepared(graph, Path(home) / key)
    except Exception as error:  # the disk is full, or an operation cannot be written: the graph itself still runs
        log.warning("workers do not share the weights of %s: %s", graph, str(error).partition("\n")[0])
        return None


def _prepared(graph: Path, home: Path) -> SharedGraph:
    while True:
        with contextlib.suppress(FileExistsError):  # exist_ok would raise it for a folder that is removed meanwhile
            home.mkdir()
        try:
            lock = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # removed by the last process that had it
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)  # held as long as the files are in use
            if _is_current(lock, home / _LOCK):
                path = home / _GRAPH
                if not path.exists():
                    _prepare_once(graph, home)
                return SharedGraph(path, lock)
        except BaseException:
            _release(home, lock)  # with what is half written: the disk may be full
            raise
        os.close(lock)


def _is_current(lock: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock), path.stat())
    return False


def _prepare_once(graph: Path, home: Path) -> None:
    """Prepare the graph, unless another process has done so meanwhile."""
    with (home / _TURN).open("wb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (home / _GRAPH).exists():
            _prepare(graph, home)


def _prepare(graph: Path, home: Path) -> None:
    """Write the rewritten graph and the packed weights; the graph gets its name when both are complete."""
    import onnxruntime  # late: the supervisor does without it

    # Workers may have mapped weights whose graph somebody has deleted: they are replaced, and never written over.
    (home / _WEIGHTS).unlink(missing_ok=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.optimized_model_filepath = str(home / _DRAFT)
    for name, value in {
        "session.optimized_model_external_initializers_file_name": _WEIGHTS,
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        "session.save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(name, value)
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    (home / _DRAFT).rename(home / _GRAPH)


def as_prepared(options: Any) -> None:
    """Session options for a prepared graph: it is not rewritten again."""
    import onnxruntime

    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def _release(home: Path, lock: int) -> None:
    """Close a lock, and remove the files if it was the last. Sessions of other processes keep what they have mapped."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(lock, home / _LOCK):
            # The lock goes last: who has it open waits until all is gone, and who makes a new one finds nothing old.
            for name in (_GRAPH, _DRAFT, _WEIGHTS, _TURN, _LOCK):
                (home / name).unlink(missing_ok=True)
            home.rmdir()
    with contextlib.suppress(OSError):
        os.close(lock)


def _remove_unused(old: Path) -> None:
    """Remove the folder of a server that was killed: the kernel has released its lock."""
    try:
        lock = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    except OSError:  # its server runs
        pass
    finally:
        os.close(lock)
